"""The station that `andon up` runs: the demo, a file, or one made for a folder of images."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from config import files, plugins, station
from config.errors import BundleError, ConfigurationError
from config.gates import IoSection
from config.recipe import Recipe, ViewRecipe
from config.station import CameraSection, PlcSection, SimulationSection, Station, WorkersSection
from decision.rules import Rules
from deploy.plc.line import check_travel
from inference.bundle import Bundle
from inference.keys import TrustStore
from ingest.camera import TriggerLine
from ingest.cameras import folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.home import Home

_DEMO_FOLDER = Path(__file__).parent / "demo"
DEMO = _DEMO_FOLDER / "station.toml"
DEMO_KEYS = sorted(_DEMO_FOLDER.glob("*.pub"))  # public keys that the demo's bundles are signed with
_CAMERA = "camera"
_BUSIEST = 0.35  # share of the workers' time that a made station asks for
_FASTEST_PER_S = 10.0
_WORKERS = 2
_RING_BYTES = 256_000_000  # of shared memory at most, where the frames are large
_LEAST_SLOTS = 8
_ANY_PORT = 1  # where 0 stands, until one is placed


def read(path: Path | None) -> Station:
    """Read a station file, by default the demo's; raise ConfigurationError for any fault in what it names.

    Recipes, their pictures, bundles, plug-ins and their options are all looked at, so that a fault is told at once and
    not by a process that does not become ready.
    """
    found = station.read(path or DEMO)
    trust = TrustStore.load(extra=DEMO_KEYS)
    for recipe in found.read_recipes().values():
        Rules.load(recipe)
        bundles_of(recipe, trust)
    where = path or DEMO
    for camera in found.cameras:
        _look_at(f"{where}: camera {camera.name}", "ingest.cameras", camera.type, camera.options)
    for what, table in (("plc", found.plc), ("io", found.io)):
        if table is not None:
            options = {**table.options, "port": _ANY_PORT} if _is_placed(found, table) else table.options
            _look_at(f"{where}: {what}", f"decision.{what}", table.type, options)
    if found.plc is not None and found.simulation is not None:
        try:
            check_travel(found.simulation)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error
    if found.report is not None:
        _look_at(f"{where}: report", "storage.reports", found.report.type, found.report.options)
    images = found.storage.images
    if images.type != "database":
        _look_at(f"{where}: storage.images", "storage.stores", images.type, images.options)
    _files_are_there(found, where)
    return found


def _look_at(where: str, package: str, kind: str, options: Mapping[str, object]) -> None:
    try:
        plug_in = plugins.load(package, kind)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: type: {error}") from error
    plugins.options(plug_in, options, f"{where}: options")


def _is_placed(found: Station, table: PlcSection | IoSection) -> bool:
    """Tell whether `place` will give a device a free port: the simulator's."""
    return found.simulation is not None and table.options.get("port") == 0


def _files_are_there(found: Station, where: Path) -> None:
    if found.bus_keys is not None:
        files.must_exist(found.bus_keys, f"{where}: bus_keys")
    if found.opcua is not None:
        named = {"certificate": found.opcua.certificate, "private_key": found.opcua.private_key}
        named |= {f"controllers.{who}": file for who, file in found.opcua.controllers.items()}
        for field, file in named.items():
            if file is not None:
                files.must_exist(file, f"{where}: opcua.{field}")


def is_demo(path: Path | None) -> bool:
    """Tell whether a station file is the demo's, which is meant where none is named."""
    return path is None or path.resolve() == DEMO.resolve()


def bundles_of(recipe: Recipe, trust: TrustStore) -> dict[str, Bundle]:
    """Open the bundle of each view; raise ConfigurationError if one is refused or not the one that is wanted."""
    found = {}
    for camera, view in recipe.views.items():
        try:
            found[camera] = Bundle.open(view.bundle, trust)
        except BundleError as error:
            raise ConfigurationError(str(error)) from error
        if view.bundle_digest not in {None, found[camera].digest}:
            raise ConfigurationError(f"{view.bundle}: is {found[camera].digest}, the recipe wants {view.bundle_digest}")
    return found


def for_images(home: Home, images: Path, path: Path, bundle: Bundle, inference_s: float) -> Station:
    """Make a station that plays the folder `images` as parts and judges them by `bundle` of file `path`."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", images.resolve().name).strip("-")[:32] or "images"
    calibration = bundle.manifest.calibration
    recipe = Recipe(
        product=name,
        job=1,
        deadline_ms=1500,
        views={
            _CAMERA: ViewRecipe(
                bundle=path.resolve(),
                bundle_digest=bundle.digest,
                review_above=calibration.review_above,
                reject_above=calibration.reject_above,
            )
        },
    )
    file = home.path / "recipes" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, recipe.model_dump_json(indent=2).encode())
    options: dict[str, object] = {"path": str(images.resolve()), "channels": bundle.manifest.channels}
    made = Station(
        station=name,
        recipes={name: file},
        recipe=name,
        cameras=(CameraSection(name=_CAMERA, type="folder", options=options),),
        workers=WorkersSection(count=_WORKERS),
        plc=PlcSection(type="modbus", options={"port": 0}),
        simulation=SimulationSection(
            rate_per_s=round(min(_FASTEST_PER_S, _BUSIEST * _WORKERS / inference_s), 2), products=(name,)
        ),
    )
    home.write_station(made)
    camera = folder.Camera(folder.Options.model_validate(options), _CAMERA, TriggerLine(home))
    frame_bytes = camera.open()  # a folder without images is told now
    camera.close()
    slots = max(_LEAST_SLOTS, min(made.cameras[0].slots, _RING_BYTES // max(1, frame_bytes)))
    return made.model_copy(update={"cameras": (made.cameras[0].model_copy(update={"slots": slots}),)})


def place(found: Station, port: int | None) -> Station:
    """Settle the addresses: the console's port as asked for, a free port wherever 0 stands.

    Raise ConfigurationError if the console's port is taken.
    """
    console = found.console.model_copy(update={"port": _free_port(found.console.host, found.console.port, port)})
    placed: dict[str, object] = {"console": console}
    for name, table in (("plc", found.plc), ("io", found.io)):
        if table and _is_placed(found, table):
            placed[name] = table.model_copy(update={"options": {**table.options, "port": _bind("127.0.0.1", 0)}})
    return found.model_copy(update=placed)


def digest_of(paths: list[Path]) -> str:
    """Return a digest of files by name and content: the same images need no second training."""
    summed = hashlib.sha256()
    for path in sorted(paths):
        summed.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return summed.hexdigest()[:16]


def _free_port(host: str, standing: int, wanted: int | None) -> int:
    port = standing if wanted is None else wanted
    try:
        return _bind(host, port)
    except OSError as error:
        what = f"console: {host}:{port} cannot be served: {error.strerror}"
        raise ConfigurationError(f"{what}; choose another port with --port (0: any that is free)") from error


def _bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
