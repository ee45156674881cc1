"""ONNX Runtime: on the CPU, on a GPU by CUDA, or on a GPU by TensorRT."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config.errors import BundleError, ConfigurationError, DeviceError, MissingExtraError
from config.log import logger
from inference.engines import Maps, Place, Precision, Runtime, Scores, check_precision, first_line
from inference.images import Frame

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("f32",), "cuda": ("f32",), "tensorrt": ("f32", "f16", "bf16")}
_NAMES = ["score", "anomaly_map"]
_KEPT_SHAPES = 16
_KEPT_BYTES = 64 << 20
_NO_CAPTURE = "-1"
_COMPUTE = frozenset({"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "AveragePool", "MaxPool", "ArgMin", "TopK"})


def load(model: bytes, place: Place) -> Runtime:
    """Load the graph.

    Raise DeviceError where it, or a costly part of it, would run elsewhere, BundleError where it cannot be loaded,
    ConfigurationError for a precision that the place has not or for two ONNX Runtimes, MissingExtraError for none.
    """
    runtime = onnx_runtime()
    check_precision(place, _PRECISIONS[place.kind])
    if PROVIDERS[place.kind] not in runtime.get_available_providers():
        raise DeviceError(
            f"device {place.device!r}: this ONNX Runtime has no {PROVIDERS[place.kind]}; install the 'gpu' extra"
        )
    if place.kind == "cpu":
        return _OnCpu(_session(runtime, model, place, providers(place)), _vendor_errors(runtime))
    if place.kind == "tensorrt" and place.cache is not None:
        _make(place.cache)
    if place.precision == "f32":
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no switch of its own for it
    try:
        session, captures = _session(runtime, model, place, providers(place, captures=True)), True
    except BundleError as error:
        logger().warning("no CUDA graphs for this bundle", device=place.device, why=str(error))
        session, captures = _session(runtime, model, place, providers(place)), False
    return _OnGpu(runtime, session, place, captures=captures)


def allocate(size: int, place: Place) -> Frame:
    """Return uint8 (size,), pinned where the place is a GPU: it reads other memory by way of a copy."""
    if place.kind == "cpu":
        return np.empty(size, np.uint8)
    runtime = onnx_runtime()
    for device in runtime.get_ep_devices():
        if device.ep_name == PROVIDERS["cuda"]:
            memory = device.memory_info(runtime.OrtDeviceMemoryType.HOST_ACCESSIBLE)
            value = runtime.OrtValue.ortvalue_from_shape_and_type([size], np.uint8, memory_info=memory)
            pinned: Frame = value.numpy()
            return pinned
    logger().warning("frames are not gathered in pinned memory: each is copied once more", device=place.device)
    return np.empty(size, np.uint8)


def providers(place: Place, *, captures: bool = False) -> list[tuple[str, dict[str, str]]]:
    """Return ONNX Runtime's providers and their settings; `captures` asks for a CUDA graph of each batch shape."""
    if place.kind == "cpu":
        return [(PROVIDERS["cpu"], {})]
    cuda = {
        "device_id": place.number,
        "use_tf32": "0",  # it rounds scores to three digits: golden frames would not agree with the CPU's
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # at load and warm-up, once for each bucket
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if place.kind == "cuda":
        return [(PROVIDERS["cuda"], cuda | ({"enable_cuda_graph": "1"} if captures else {}))]
    tensorrt = {
        "device_id": place.number,
        "trt_fp16_enable": str(int(place.precision == "f16")),
        "trt_bf16_enable": str(int(place.precision == "bf16")),
        "trt_cuda_graph_enable": str(int(captures)),
    }
    if place.largest_batch is not None:  # one plan for every bucket, fastest at the largest
        _, *frame = place.largest_batch
        tensorrt |= {
            "trt_profile_min_shapes": _shape(1, *frame),
            "trt_profile_opt_shapes": _shape(*place.largest_batch),
            "trt_profile_max_shapes": _shape(*place.largest_batch),
        }
    if place.cache is not None:
        folder = str(place.cache)
        tensorrt |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
    return [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]


class _Bound(NamedTuple):
    binding: Any
    scores: Scores
    maps: Maps
    on_device: tuple[Any, ...] = ()  # the GPU's frames, scores and maps
    run_options: Any = None


class _Bindings:
    """Buffers and their bindings for the batch shapes that were run last: few, and few bytes."""

    def __init__(self, release: Callable[[_Bound], None] | None = None) -> None:
        self._bound: OrderedDict[tuple[int, ...], _Bound] = OrderedDict()
        self._release = release

    def get(self, shape: tuple[int, ...]) -> _Bound | None:
        bound = self._bound.get(shape)
        if bound is not None:
            self._bound.move_to_end(shape)
        return bound

    def keep(self, shape: tuple[int, ...], bound: _Bound) -> _Bound:
        self._bound[shape] = bound
        while len(self._bound) > 1 and (len(self._bound) > _KEPT_SHAPES or self._bytes > _KEPT_BYTES):
            _, oldest = self._bound.popitem(last=False)
            if self._release is not None:
                self._release(oldest)
        return bound

    @property
    def _bytes(self) -> int:
        return sum(bound.maps.nbytes for bound in self._bound.values())


class _OnCpu:
    def __init__(self, session: Any, errors: tuple[type[Exception], ...]) -> None:  # noqa: ANN401 - ONNX Runtime ships no types
        self._session = session
        self._errors = errors
        self._bindings = _Bindings()

    def run(self, frames: Frame) -> tuple[Scores, Maps]:
        """Run uint8 (N, H, W, C) in place."""
        bound = self._bindings.get(frames.shape)
        try:
            if bound is None:
                scores, maps = self._session.run(_NAMES, {"frames": frames})  # tells how large the map is
                bound = self._bindings.keep(frames.shape, _Bound(self._bind(scores, maps), scores, maps))
            else:
                # by address: bind_cpu_input would hold on to the array, and by it to a ring that may be gone
                bound.binding.bind_input("frames", "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
                self._session.run_with_iobinding(bound.binding)
        except self._errors as error:
            raise DeviceError(f"inference failed on frames {frames.shape}: {first_line(error)}") from error
        return bound.scores, bound.maps

    def _bind(self, scores: Scores, maps: Maps) -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
        binding = self._session.io_binding()
        for name, buffer in zip(_NAMES, (scores, maps), strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        return binding


class _OnGpu:
    """Not yet measured: no GPU was at hand. Each batch shape has its place on the device, as a CUDA graph needs it."""

    device = "cuda"

    def __init__(self, runtime: Any, session: Any, place: Place, *, captures: bool) -> None:  # noqa: ANN401 - ONNX Runtime ships no types
        self._runtime = runtime
        self._session = session
        self._number = int(place.number)
        self._captures = captures
        self._errors = _vendor_errors(runtime)
        self._bindings = _Bindings(self._forget)
        self._captured = 0

    def run(self, frames: Frame) -> tuple[Scores, Maps]:
        """Copy uint8 (N, H, W, C) to the device, run, and copy scores and maps back."""
        try:
            bound = self._bindings.get(frames.shape) or self._bindings.keep(frames.shape, self._bind(frames))
            pixels, scores, maps = bound.on_device
            pixels.update_inplace(frames)
            self._session.run_with_iobinding(bound.binding, bound.run_options)
            np.copyto(bound.scores, scores.numpy())
            np.copyto(bound.maps, maps.numpy())
        except self._errors as error:
            raise DeviceError(f"inference failed on frames {frames.shape}: {first_line(error)}") from error
        return bound.scores, bound.maps

    def _bind(self, frames: Frame) -> _Bound:
        value = self._runtime.OrtValue.ortvalue_from_shape_and_type
        outputs = self._session.run(_NAMES, {"frames": frames}, self._options(_NO_CAPTURE))
        binding = self._session.io_binding()
        pixels = value(list(frames.shape), np.uint8, self.device, self._number)
        binding.bind_ortvalue_input("frames", pixels)
        results = [value(list(output.shape), np.float32, self.device, self._number) for output in outputs]
        for name, result in zip(_NAMES, results, strict=True):
            binding.bind_ortvalue_output(name, result)
        self._captured += 1
        options = self._options(str(self._captured) if self._captures else _NO_CAPTURE)
        return _Bound(binding, outputs[0], outputs[1], (pixels, *results), options)

    def _options(self, graph: str) -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
        options = self._runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        return options

    def _forget(self, bound: _Bound) -> None:
        graph = bound.run_options.get_run_config_entry("gpu_graph_id")
        if graph != _NO_CAPTURE:
            self._session.release_captured_graph(int(graph))


@cache
def onnx_runtime() -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    """Import ONNX Runtime with its telemetry off, and give all its sessions one arena to work in."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it reports home otherwise, on Linux too
    both = ("onnxruntime", "onnxruntime-gpu")
    if all(_installed(name) for name in both):
        raise ConfigurationError(f"{' and '.join(both)} overwrite each other: uninstall both, then install one extra")
    try:
        import onnxruntime  # noqa: PLC0415 - takes a while, and its telemetry must be off first
    except ImportError as error:
        raise MissingExtraError("inference", "cpu", error) from error
    # measured with ten bundles hot: 14 MB each instead of 60, at the same speed
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(cpu, None)
    return onnxruntime


def _session(runtime: Any, model: bytes, place: Place, wanted: list[tuple[str, dict[str, str]]]) -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    options = runtime.SessionOptions()
    options.intra_op_num_threads = place.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: warnings of the CUDA provider tell of copies, not of faults
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # measured faster on shared cores
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = runtime.InferenceSession(model, options, providers=wanted)
    except _vendor_errors(runtime) as error:
        raise BundleError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error
    got = session.get_providers()
    if got[0] != wanted[0][0]:  # ONNX Runtime falls back to the CPU without a word
        raise DeviceError(
            f"device {place.device!r}: {wanted[0][0]} could not start; the graph would run on {', '.join(got)}"
        )
    if place.kind != "cpu" and (left := left_on_cpu(session)):  # single nodes fall back without a word, too
        raise DeviceError(f"device {place.device!r}: {', '.join(left)} of the graph would run on the CPU")
    return session


def left_on_cpu(session: Any) -> list[str]:  # noqa: ANN401 - ONNX Runtime ships no types
    """Return the costly operators of a session's graph that are computed by the CPU; shapes always are."""
    assigned = session.get_provider_graph_assignment_info()
    on_cpu = (part for part in assigned if part.ep_name == PROVIDERS["cpu"])
    return sorted({node.op_type for part in on_cpu for node in part.get_nodes()} & _COMPUTE)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder}: no plans can be kept here: {error.strerror}") from error


def _shape(*sides: int) -> str:
    return f"frames:{'x'.join(str(side) for side in sides)}"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _vendor_errors(runtime: Any) -> tuple[type[Exception], ...]:  # noqa: ANN401 - ONNX Runtime ships no types
    state = runtime.capi.onnxruntime_pybind11_state
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return (*(getattr(state, name) for name in names), RuntimeError)
