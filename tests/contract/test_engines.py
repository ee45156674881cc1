"""What every file in inference/engines must keep to."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from config import plugins
from config.errors import BundleError, ConfigurationError, InputError
from deploy import stations
from inference.bundle import Bundle, Golden
from inference.engine import Engine, Session
from inference.images import Frame
from inference.keys import TrustStore
from inference.memory import FrameMemory

DEVICES = {"onnxruntime": "cpu", "openvino": "openvino:cpu"}  # where each engine runs without a GPU
DEMO = Path(stations.__file__).parent / "demo"
Write = Callable[..., Path]


@cache
def demo(name: str) -> Bundle:
    return Bundle.open(DEMO / f"{name}.andon", TrustStore.load(extra=stations.DEMO_KEYS))


@cache
def bracket(device: str) -> Engine:
    return Engine(demo("bracket"), device=device)


def frames(count: int, height_px: int = 200, width_px: int = 240) -> Frame:
    part = demo("bracket").golden_frames[0][:height_px, :width_px]
    return np.stack([np.roll(part, 9 * place, axis=1) for place in range(count)])


@pytest.fixture(params=DEVICES.values())
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_engine_is_tried_here() -> None:
    assert plugins.names("inference.engines") == sorted(DEVICES)


@pytest.mark.parametrize("name", ["bracket", "cap"])
def test_golden_frames_agree(device: str, name: str) -> None:
    Engine(demo(name), device=device).check_golden()


def test_engines_agree_on_frames_of_another_size(device: str) -> None:
    expected_scores, expected_maps = bracket("cpu").infer(frames(2))
    scores, maps = bracket(device).infer(frames(2))
    assert scores.dtype == maps.dtype == np.float32
    assert np.allclose(scores, expected_scores, rtol=1e-4)
    assert np.allclose(maps, expected_maps, rtol=1e-3, atol=1e-4 * expected_scores.max())


def test_a_frame_scores_the_same_in_every_batch(device: str) -> None:
    together, _ = bracket(device).infer(frames(5))
    alone = [float(bracket(device).run(frame[None])[0][0]) for frame in frames(5)]
    assert np.allclose(together, alone, rtol=1e-5)


def test_results_of_infer_stay_good_and_those_of_run_do_not_move(device: str) -> None:
    engine = bracket(device)
    first = engine.infer(frames(1))
    kept = first[0].copy(), first[1].copy()
    places = set()
    for shift in range(4):
        scores, maps = engine.run(np.roll(frames(1), 13 * shift, axis=2))
        places.add((scores.ctypes.data, maps.ctypes.data))
    assert np.array_equal(first[0], kept[0])
    assert np.array_equal(first[1], kept[1])
    assert len(places) == 1


def test_frames_are_run_where_they_are(device: str, tmp_path: Path) -> None:
    """A ring's slot is memory of a file that the worker can only read."""
    (tmp_path / "slot").write_bytes(frames(3).tobytes())
    with (tmp_path / "slot").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    slots = np.frombuffer(memory, np.uint8).reshape(frames(3).shape)
    scores, _ = bracket(device).infer(slots[1:])
    assert np.array_equal(scores, bracket(device).infer(frames(3)[1:])[0])
    del slots
    memory.close()  # refused while somebody holds on to a view


def test_one_memory_serves_every_batch_size(device: str) -> None:
    memory = FrameMemory(device)
    for count in (1, 3, 2):
        gathered = memory.frames(count, (200, 240, 3))
        gathered[:] = frames(count)
        assert np.array_equal(bracket(device).infer(gathered)[0], bracket(device).infer(frames(count))[0])


def test_other_frames_are_refused(device: str) -> None:
    for wrong in (np.zeros((1, 64, 64, 1), np.uint8), np.zeros((1, 64, 64, 3), np.float32), frames(1)[:0]):
        with pytest.raises(InputError, match=r"uint8 \(N, H, W, 3\) was trained"):
            bracket(device).run(wrong)


def test_what_is_no_graph_is_refused(device: str) -> None:
    for model in (b"no graph", demo("cap").model[:1000], b""):
        with pytest.raises(BundleError, match=r"cannot load the graph: \S"):
            Session(model, 1, device=device)


def test_a_precision_that_it_has_not_is_refused(device: str, brightness_model: bytes) -> None:
    with pytest.raises(ConfigurationError, match=rf"device '{device}' computes in f32.*, not f16"):
        Session(brightness_model, 1, device=device, precision="f16")


@pytest.mark.parametrize(("sealed", "kept"), [(0.2015, True), (0.2035, False)])
def test_a_lower_precision_is_held_against_the_room_below_the_threshold(
    write_brightness: Write, trust: TrustStore, sealed: float, *, kept: bool
) -> None:
    """The bundle's room is 0.5 - 0.3: one hundredth of it is 0.002."""
    golden = (Golden(score=sealed, tolerance=1e-3), Golden(score=0.8, tolerance=1e-3))
    bundle = Bundle.open(write_brightness(golden=golden), trust)
    with pytest.raises(BundleError, match=r"golden frame 0 scores 0\.2.* on this machine and"):
        Engine(bundle, device="openvino:cpu").check_golden()
    engine = Engine(bundle, device="openvino:cpu", precision="bf16")
    if kept:
        engine.check_golden()
    else:
        with pytest.raises(BundleError, match=r"on this machine in bf16 and 0\.2035 ± 0\.002 when it was sealed"):
            engine.check_golden()


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


ONE_THREAD = """
import sys, time
import numpy as np
from inference.engine import Session
session = Session(open(sys.argv[2], "rb").read(), 3, threads=1, device=sys.argv[1])
frames = np.zeros((2, 224, 224, 3), np.uint8)
session.run(frames)
wall_s, cpu_s = time.perf_counter(), time.process_time()
for _ in range(8):
    session.run(frames)
print((time.process_time() - cpu_s) / (time.perf_counter() - wall_s), sys.modules.get("openvino_telemetry"))
"""


def test_one_thread_is_one_thread_and_nothing_is_reported_home(device: str, tmp_path: Path) -> None:
    """OpenVINO's telemetry writes an identity into the home folder, as soon as it is imported outside of a CI."""
    (tmp_path / "model.onnx").write_bytes(demo("bracket").model)
    (tmp_path / "home").mkdir()
    environment = {"PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path / "home"), "CI": ""}
    done = python(ONE_THREAD, device, str(tmp_path / "model.onnx"), **environment)
    share, telemetry = done.stdout.split()
    assert 0 < float(share) < 1.15
    assert telemetry == "None"
    assert list((tmp_path / "home").iterdir()) == []


def test_an_engine_that_is_not_installed_names_its_extra(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('not installed')")
    code = "from inference.engine import Session; Session(b'', 1, device='openvino:cpu')"
    done = python(code, PYTHONPATH=f"{tmp_path}:{Path.cwd()}")
    assert "MissingExtraError: inference.engines.openvino needs the 'openvino' extra" in done.stderr
