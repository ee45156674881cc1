"""Fixtures of more than one kind of test."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import structlog
from live_servers import Servers, state_folder
from onnx import TensorProto, helper

from config.start import importing
from inference import bundle
from inference.bundle import Calibration, Golden, Manifest
from inference.keys import SigningKey, TrustStore
from storage.migrate import migrate

# some machines of CI say so; hundreds of processes would each compile every room anew
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Never look for garbage among what the tests import: with torch, one look takes a third of a second."""
    with importing():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole stations first: side by side, a long file that begins last is what the run waits for."""
    items.sort(key=lambda item: item.path.parent.name not in {"system", "browser"})


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Undo what a test's command did to the log: it would go on writing to that test's captured stderr."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def _own_runtime() -> Iterator[None]:
    """Keep every test station's rings and sockets in one folder of this run, and leave nothing of it behind."""
    with tempfile.TemporaryDirectory(prefix="andon-tests-", dir="/dev/shm") as folder:
        os.environ["ANDON_RUNTIME"] = folder
        yield


@pytest.fixture(scope="session")
def running_servers() -> Iterator[Servers]:
    with state_folder() as folder:
        servers = Servers(folder)
        try:
            servers.ready()
            migrate(servers.postgres.url)
            yield servers
        finally:
            for server in (servers.postgres, servers.valkey):
                server.kill()


@pytest.fixture
def servers(running_servers: Servers) -> Servers:
    """Both servers, up."""
    running_servers.ready()
    return running_servers


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load(tmp_path / "keys")


@pytest.fixture
def trust(tmp_path: Path, key: SigningKey) -> TrustStore:
    assert key.public
    return TrustStore.load(tmp_path / "keys")


@pytest.fixture(scope="session")
def brightness_model() -> bytes:
    """Give the smallest graph that is a detector: the anomaly map is the grey frame itself, over 255."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["values", "white"], ["shares"]),
            helper.make_node("ReduceMax", ["shares", "channel"], ["anomaly_map"], keepdims=0),
            helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], keepdims=0),
        ],
        "brightness",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", 1])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", "h", "w"]),
        ],
        [
            helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("channel", TensorProto.INT64, [1], [3]),
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def brightness_manifest() -> Manifest:
    """Give the manifest of a bundle around `brightness_model`, with two golden frames 6 px high and 8 px wide."""
    return Manifest(
        name="brightness",
        detector="brightness",
        options={},
        channels=1,
        frame_height_px=6,
        frame_width_px=8,
        map_height=6,
        map_width=8,
        images=100,
        data_digest="sha256:0",
        seed=0,
        calibration=Calibration(
            alpha=0.01,
            review_above=0.5,
            reject_above=0.7,
            held_out_images=100,
            held_out_above=0,
            alpha_upper=0.03,
            more_images=199,
            held_out_median=0.3,
            held_out_max=0.5,
        ),
        golden=(Golden(score=51 / 255, tolerance=1e-3), Golden(score=204 / 255, tolerance=1e-3)),
        metrics={"fit_s": 1.0},
        licences=("none",),
        versions={"numpy": "2"},
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


@pytest.fixture
def write_brightness(
    tmp_path: Path, key: SigningKey, brightness_model: bytes, brightness_manifest: Manifest
) -> Callable[..., Path]:
    """Write a bundle around `brightness_model`; keywords change the manifest."""

    def write(**changes: object) -> Path:
        manifest = brightness_manifest.model_copy(update=changes)
        golden = (np.full((6, 8, 1), 51, np.uint8), np.full((6, 8, 1), 204, np.uint8))
        path = tmp_path / "brightness.andon"
        bundle.write(path, manifest, brightness_model, golden, key)
        return path

    return write
