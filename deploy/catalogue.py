"""`andon detectors` and `andon weights`: what can be learnt with, and what it needs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from config import plugins
from config.errors import ConfigurationError, MissingExtraError
from deploy.table import NOTHING, Screen

if TYPE_CHECKING:
    import argparse

    from inference.training.backbones.weights import Held


def detectors(arguments: argparse.Namespace) -> int:
    """List the detectors: what each is for, what it needs, and whether it can be used here."""
    found = known()
    if arguments.json:
        sys.stdout.write(json.dumps({"detectors": found}) + "\n")
        return 0
    names = ("name", "title", "paradigm", "fitting", "images", "says where", "state", "what for")
    rows = [
        [
            str(one["name"]), str(one["title"]), str(one["paradigm"]), str(one["fitting"]), str(one["images"]),
            "yes" if one["localises"] else "no", str(one["state"]), str(one["what_for"]),
        ]
        for one in found
    ]  # fmt: skip
    return _tell(names, rows)


def known() -> list[dict[str, object]]:
    """Return the detectors, each with what it needs, its options, and whether it can be used here."""
    return [_detector(name) for name in plugins.names("inference.detectors")]


def weights(arguments: argparse.Namespace) -> int:
    """List the weights that are known, and those that are here."""
    from inference.training.backbones import weights as known  # noqa: PLC0415 - torch takes seconds to load

    held = [known.held(name) for name in known.KNOWN]
    if arguments.json:
        sys.stdout.write(json.dumps({"weights": [_weights(one) for one in held]}) + "\n")
        return 0
    names = ("name", "state", "licence", "from")
    rows = [[one.known.name, one.proof or "absent", one.known.licence, one.known.source] for one in held]
    return _tell(names, rows)


def add_weights(arguments: argparse.Namespace) -> int:
    """Check a file of weights and keep it."""
    from inference.training.backbones import weights as known  # noqa: PLC0415 - torch takes seconds to load

    added = known.add(arguments.file, arguments.name)
    if arguments.json:
        sys.stdout.write(json.dumps(_weights(added)) + "\n")
    else:
        sys.stdout.write(f"{added.known.name}: kept as {added.path}, proven by: {added.proof}\n")
    return 0


def _detector(name: str) -> dict[str, object]:
    from inference.training import detector  # noqa: PLC0415 - torch takes seconds to load

    try:
        said = detector.summary(name)
        built, options = detector.load(name, {})
    except MissingExtraError as error:
        return {"name": name, "state": str(error)}
    backbone = getattr(options, "backbone", None)
    state = "ready"
    try:
        needed = list(built.licences)
        if backbone is not None:
            state = _state(str(backbone))
    except ConfigurationError as error:
        needed, state = [], str(error)
    return {
        "name": name,
        **said.model_dump(),
        "minimum_images": built.minimum_images,
        "needs": needed,
        "weights": backbone,
        "state": state,
        "options": type(options).model_json_schema()["properties"],
    }


def _state(backbone: str) -> str:
    from inference.training.backbones import weights as known  # noqa: PLC0415 - torch takes seconds to load

    held = known.held(backbone)
    return (
        "ready" if held.path else f"weights of {backbone} are absent: get {held.known.source}, andon weights add FILE"
    )


def _weights(held: Held) -> dict[str, object]:
    path = str(held.path) if held.path else None
    return {**held.known._asdict(), "path": path, "proof": held.proof, "present": held.path is not None}


def _tell(names: tuple[str, ...], rows: list[list[str]]) -> int:
    for line in Screen(sys.stdout).table(names, [[cell or NOTHING for cell in row] for row in rows]):
        sys.stdout.write(line + "\n")
    return 0
