from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from config.errors import BundleError, ConfigurationError, DeviceError, InputError
from inference.bundle import Bundle, Golden
from inference.engine import Engine, Session
from inference.keys import TrustStore

Write = Callable[..., Path]


def test_frames_become_scores_and_maps(brightness_model: bytes) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 7, 1), np.uint8)
    scores, maps = Session(brightness_model, 1).infer(frames)
    assert scores.dtype == maps.dtype == np.float32
    assert np.allclose(maps, frames[..., 0] / 255)
    assert np.array_equal(scores, maps.max(axis=(1, 2)))


def test_a_view_of_other_memory_is_as_good(brightness_model: bytes) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 14, 1), np.uint8)[:, ::2, ::-2]
    assert np.allclose(Session(brightness_model, 1).infer(frames)[1], frames[..., 0] / 255)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 1), np.float32),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((0, 4, 4, 1), np.uint8),
        np.zeros((1, 0, 4, 1), np.uint8),
    ],
    ids=["colour", "float", "no batch", "empty batch", "no rows"],
)
def test_other_frames_are_refused(brightness_model: bytes, frames: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"uint8 \(N, H, W, 1\) was trained"):
        Session(brightness_model, 1).infer(frames)


def test_what_is_no_graph_is_refused(brightness_model: bytes) -> None:
    for model in (b"no graph", brightness_model[:100], b""):
        with pytest.raises(BundleError, match="ONNX Runtime cannot load the graph"):
            Session(model, 1)


def test_an_unknown_device_is_refused(brightness_model: bytes) -> None:
    for device in ("gpu", "cuda", "cuda:x", "tpu:0"):
        with pytest.raises(ConfigurationError, match=f"device '{device}' is unknown"):
            Session(brightness_model, 1, device=device)


def test_no_silent_fall_back_to_the_cpu(brightness_model: bytes) -> None:
    import onnxruntime  # noqa: PLC0415 - the engine imports it first, with its telemetry off

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime was built for CUDA")
    with pytest.raises(DeviceError, match="has no CUDAExecutionProvider"):
        Session(brightness_model, 1, device="cuda:0")


def test_golden_frames_agree(write_brightness: Write, trust: TrustStore) -> None:
    engine = Engine(Bundle.open(write_brightness(), trust))
    engine.check_golden()
    engine.warm((1, 2))
    engine.warm((3,), (5, 5))
    assert engine.digest.startswith("sha256:")


@pytest.mark.parametrize("score", [0.81, 0.79])
def test_golden_frames_that_disagree_are_told(write_brightness: Write, trust: TrustStore, score: float) -> None:
    golden = (Golden(score=0.2, tolerance=1e-3), Golden(score=score, tolerance=1e-3))
    engine = Engine(Bundle.open(write_brightness(golden=golden), trust))
    with pytest.raises(BundleError, match=r"brightness \(sha256:.*golden frame 1 scores 0.8 on this machine"):
        engine.check_golden()


def test_a_damaged_graph_is_told_by_the_bundles_name(write_brightness: Write, trust: TrustStore) -> None:
    opened = Bundle.open(write_brightness(), trust)
    broken = dataclasses.replace(opened, model=b"no graph")
    with pytest.raises(BundleError, match=r"brightness \(sha256:"):
        Engine(broken)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LOAD = "from inference.engine import Session; Session(b'', 1)"


def test_two_onnx_runtimes_in_one_environment_are_told(tmp_path: Path) -> None:
    other = tmp_path / "onnxruntime_gpu-1.31.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.0\n")
    done = python(LOAD, PYTHONPATH=f"{Path.cwd()}:{tmp_path}")
    assert "ConfigurationError: onnxruntime and onnxruntime-gpu overwrite each other" in done.stderr


def test_a_missing_onnx_runtime_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not installed')")
    done = python(LOAD, PYTHONPATH=f"{tmp_path}:{Path.cwd()}")
    assert "MissingExtraError: inference needs the 'cpu' extra" in done.stderr


def test_the_engine_reports_nothing_home_and_needs_no_torch() -> None:
    code = (
        "import os, sys\nfrom config.errors import BundleError\nfrom inference.engine import Session\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "try: Session(b'', 1)\nexcept BundleError: pass\n"
        "assert 'onnxruntime' in sys.modules and os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "print(sorted({'torch', 'onnx'} & set(sys.modules)))"
    )
    done = python(code, PYTHONPATH=str(Path.cwd()), CI="")
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
