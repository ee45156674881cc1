"""What ONNX Runtime is asked for: on this machine's CPU, and, without one at hand, on a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from config.errors import DeviceError
from deploy import stations
from inference.bundle import Bundle
from inference.engine import Engine, Session
from inference.engines import Place, onnxruntime
from inference.keys import TrustStore
from inference.memory import FrameMemory

Write = Callable[..., Path]
DEMO = Path(stations.__file__).parent / "demo"


def test_the_cpu_is_asked_for_alone() -> None:
    assert onnxruntime.providers(Place("cpu")) == [("CPUExecutionProvider", {})]


def test_cuda_computes_as_exactly_as_the_cpu() -> None:
    [(name, options)] = onnxruntime.providers(Place("cuda:1"))
    assert name == "CUDAExecutionProvider"
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")
    assert options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert "enable_cuda_graph" not in options
    [(_, captured)] = onnxruntime.providers(Place("cuda:1"), captures=True)
    assert captured == options | {"enable_cuda_graph": "1"}


def test_tensorrt_plans_once_for_all_buckets_and_keeps_its_plan(tmp_path: Path) -> None:
    place = Place("tensorrt:0", precision="f16", largest_batch=(8, 512, 640, 3), cache=tmp_path / "abc")
    (name, options), (rest, _) = onnxruntime.providers(place, captures=True)
    assert (name, rest) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options == {
        "device_id": "0",
        "trt_fp16_enable": "1",
        "trt_bf16_enable": "0",
        "trt_cuda_graph_enable": "1",
        "trt_profile_min_shapes": "frames:1x512x640x3",
        "trt_profile_opt_shapes": "frames:8x512x640x3",
        "trt_profile_max_shapes": "frames:8x512x640x3",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path / "abc"),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path / "abc"),
    }


def test_tensorrt_computes_in_f32_unless_told_otherwise() -> None:
    (_, options), _ = onnxruntime.providers(Place("tensorrt:0"))
    assert (options["trt_fp16_enable"], options["trt_bf16_enable"]) == ("0", "0")
    assert not [name for name in options if "profile" in name or "cache" in name]


def test_each_bundle_has_a_folder_of_its_own_for_plans(
    write_brightness: Write, trust: TrustStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Place] = []

    def load(_model: bytes, place: Place) -> None:
        asked.append(place)

    monkeypatch.setattr(onnxruntime, "load", load)
    bundle = Bundle.open(write_brightness(), trust)
    Engine(bundle, 2, "tensorrt:1", "f16", largest_batch=4, cache=tmp_path)
    folder = tmp_path / bundle.digest.removeprefix("sha256:")
    assert asked == [Place("tensorrt:1", 2, "f16", (4, 6, 8, 1), folder)]


def test_a_costly_operator_that_is_left_to_the_cpu_is_found(brightness_model: bytes) -> None:
    runtime = onnxruntime.onnx_runtime()
    wanted = onnxruntime.providers(Place("cpu"))
    bracket = Bundle.open(DEMO / "bracket.andon", TrustStore.load(extra=stations.DEMO_KEYS))
    assert "Conv" in onnxruntime.left_on_cpu(onnxruntime._session(runtime, bracket.model, Place("cpu"), wanted))
    assert onnxruntime.left_on_cpu(onnxruntime._session(runtime, brightness_model, Place("cpu"), wanted)) == []


class _Host(onnxruntime._OnGpu):
    """The way of a GPU, gone by the CPU: all but the device's own memory."""

    device = "cpu"


@pytest.mark.parametrize("captures", [True, False])
def test_the_way_of_a_gpu_gives_the_scores_of_the_cpu(brightness_model: bytes, *, captures: bool) -> None:
    runtime = onnxruntime.onnx_runtime()
    session = onnxruntime._session(runtime, brightness_model, Place("cpu"), onnxruntime.providers(Place("cpu")))
    host = _Host(runtime, session, Place("cuda:0"), captures=captures)
    plain = Session(brightness_model, 1)
    rng = np.random.default_rng(0)
    for count in (1, 2, 1, *range(1, onnxruntime._KEPT_SHAPES + 3), 1):
        frames = rng.integers(0, 256, (count, 4, 6, 1), np.uint8)
        scores, maps = host.run(frames)
        assert np.array_equal(scores, plain.run(frames)[0])
        assert np.array_equal(maps, plain.run(frames)[1])


def test_each_batch_shape_has_a_cuda_graph_of_its_own(brightness_model: bytes) -> None:
    runtime = onnxruntime.onnx_runtime()
    session = onnxruntime._session(runtime, brightness_model, Place("cpu"), onnxruntime.providers(Place("cpu")))
    host = _Host(runtime, session, Place("cuda:0"), captures=True)
    graphs = []
    for count in (1, 2, 1):
        frames = np.zeros((count, 4, 6, 1), np.uint8)
        host.run(frames)
        bound = host._bindings.get(frames.shape)
        assert bound is not None
        graphs.append(bound.run_options.get_run_config_entry("gpu_graph_id"))
    assert graphs == ["1", "2", "1"]


def test_few_buffers_are_kept(brightness_model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(brightness_model, 1)
    bindings = session._runtime._bindings  # type: ignore[attr-defined]  # the runtime of the CPU has them
    for count in range(1, 40):
        session.run(np.zeros((count, 4, 6, 1), np.uint8))
    assert len(bindings._bound) == onnxruntime._KEPT_SHAPES
    monkeypatch.setattr(onnxruntime, "_KEPT_BYTES", 100_000)
    for count in (1, 2, 3):
        session.run(np.zeros((count, 80, 90, 1), np.uint8))
    assert list(bindings._bound) == [(3, 80, 90, 1)]  # the buffer in use is kept, however large it is
    session.run(np.zeros((1, 30, 90, 1), np.uint8))
    session.run(np.zeros((1, 40, 90, 1), np.uint8))
    assert list(bindings._bound) == [(1, 30, 90, 1), (1, 40, 90, 1)]


def test_a_graph_that_fails_is_told_as_a_failing_device(brightness_model: bytes) -> None:
    session = Session(brightness_model, 1)
    session.run(np.zeros((1, 4, 6, 1), np.uint8))
    bindings = session._runtime._bindings  # type: ignore[attr-defined]  # the runtime of the CPU has them
    bindings._bound[1, 5, 6, 1] = bindings._bound[1, 4, 6, 1]  # buffers of another size: the graph cannot fill them
    with pytest.raises(DeviceError, match=r"inference failed on frames \(1, 5, 6, 1\): "):
        session.run(np.zeros((1, 5, 6, 1), np.uint8))


def test_memory_grows_to_the_largest_batch_and_no_further() -> None:
    memory = FrameMemory()
    small = memory.frames(1, (4, 6, 3))
    assert (small.shape, small.dtype) == ((1, 4, 6, 3), np.uint8)
    large = memory.frames(8, (40, 60, 3))
    again = memory.frames(2, (30, 50, 1))
    assert large.flags.c_contiguous
    assert again.flags.c_contiguous
    assert again.ctypes.data == large.ctypes.data


MEMORY = """
import sys
import numpy as np
from inference.engine import Session
def resident_mb():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000
frames = np.zeros((4, 320, 320, 3), np.uint8)
model = open(sys.argv[1], "rb").read()
sessions = [Session(model, 3) for _ in range(5)]
sessions[0].run(frames)
before = resident_mb()
for session in sessions[1:]:
    session.run(frames)
print((resident_mb() - before) / 4)
"""


def test_bundles_that_are_hot_at_once_share_the_memory_they_work_in(tmp_path: Path) -> None:
    """Each bundle had 40 MB of its own after a batch of four; what is left are its buffers and its last weights."""
    bracket = Bundle.open(DEMO / "bracket.andon", TrustStore.load(extra=stations.DEMO_KEYS))
    (tmp_path / "model.onnx").write_bytes(bracket.model)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert float(done.stdout) < 12, done.stderr
