"""A station of small pictures and small bundles, which costs hardly more than what the station itself takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from config import files
from config.errors import MissingExtraError
from config.recipe import Recipe, ViewRecipe
from config.station import CameraSection, PlcSection, SimulationSection, Station
from inference import bundle
from inference.bundle import Calibration, Golden, Manifest
from inference.keys import SigningKey

SIDE_PX = 64
_CELLS = 16
_PICTURES = 16
_OPSET, _IR = 18, 8
_BRIGHT = 255


def station(folder: Path, cameras: int, products: int, parts_per_s: float, every_parts: int = 0) -> Station:
    """Write pictures, bundles and recipes of a station into `folder`; it changes over after `every_parts`."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(_PICTURES):
        picture = noise.integers(0, 100, (SIDE_PX, SIDE_PX), np.uint8)
        cv2.imwrite(str(pictures / f"{number:02}.png"), picture)
    key, model = SigningKey.load(folder / "keys"), _model()
    names = [f"camera{number}" for number in range(cameras)]
    recipes = {}
    for number in range(products):
        file = folder / f"product{number}.andon"
        _seal(file, key, model)
        views = {name: ViewRecipe(bundle=file, review_above=0.5, reject_above=0.7) for name in names}
        recipe = Recipe(product=f"product{number}", job=number + 1, deadline_ms=1000, views=views)
        recipes[recipe.product] = folder / f"product{number}.json"
        files.write(recipes[recipe.product], recipe.model_dump_json().encode())
    options: dict[str, object] = {"path": str(pictures), "channels": 1}
    return Station(
        station="bench",
        recipes=recipes,
        recipe="product0",
        cameras=tuple(CameraSection(name=name, type="folder", slots=16, options=options) for name in names),
        plc=PlcSection(type="modbus", options={"port": 0}),
        simulation=SimulationSection(
            rate_per_s=parts_per_s,
            products=tuple(recipes),
            changeover_every_parts=every_parts,
            changeover_pause_s=0.1,
            gate_travel_s=0.5,
        ),
    )


def keys(folder: Path) -> list[Path]:
    """Return the public keys that the bundles in `folder` are signed with."""
    return sorted((folder / "keys").glob("*.pub"))


def _seal(path: Path, key: SigningKey, model: bytes) -> None:
    frames = tuple(np.full((SIDE_PX, SIDE_PX, 1), grey, np.uint8) for grey in (51, 204))
    manifest = Manifest(
        name=path.stem,
        detector="brightness",
        options={},
        channels=1,
        frame_height_px=SIDE_PX,
        frame_width_px=SIDE_PX,
        map_height=_CELLS,
        map_width=_CELLS,
        images=1,
        data_digest="sha256:0",
        seed=0,
        calibration=Calibration(
            alpha=0.01,
            review_above=0.5,
            reject_above=0.7,
            held_out_images=1,
            held_out_above=0,
            alpha_upper=1.0,
            more_images=299,
            held_out_median=0.2,
            held_out_max=0.4,
        ),
        golden=tuple(Golden(score=float(frame[0, 0, 0]) / _BRIGHT, tolerance=1e-3) for frame in frames),
        metrics={},
        licences=("none",),
        versions={},
        created=datetime.now(UTC),
    )
    bundle.write(path, manifest, model, frames, key)


def _model() -> bytes:
    """Return a graph whose anomaly map is the mean brightness of each cell."""
    try:
        from onnx import TensorProto, helper  # noqa: PLC0415 - of the extra `train`
    except ImportError as error:
        raise MissingExtraError("the small bundles of this bench", "train", error) from error
    side = SIDE_PX // _CELLS
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    nodes: list[Any] = [
        helper.make_node("Cast", ["frames"], ["values"], to=floats),
        helper.make_node("Div", ["values", "white"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[side, side], strides=[side, side]),
        helper.make_node("Squeeze", ["cells", "channel"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", 1])],
        [
            helper.make_tensor_value_info("score", floats, ["n"]),
            helper.make_tensor_value_info("anomaly_map", floats, ["n", "i", "j"]),
        ],
        [
            helper.make_tensor("white", floats, [], [float(_BRIGHT)]),
            helper.make_tensor("channel", integers, [1], [1]),
            helper.make_tensor("axes", integers, [2], [1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())
