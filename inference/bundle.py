"""The bundle: a trained detector in one sealed file.

    manifest.json    what it is: detector, options, data, calibration, metrics, licences, versions
    model.onnx       uint8 frames (N, H, W, C) to raw score (N,) and anomaly map (N, h, w)
    golden/0.png …   frames as the camera gave them; their expected scores stand in the manifest
    seal.json        SHA-256 of every other member, and an Ed25519 signature over them

A bundle is data: nothing in it is ever executed but the ONNX graph, and no threshold is in the graph.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from config import files
from config.errors import BundleError, InputError
from config.messages import PixelFormat
from inference import archive
from inference.images import Channels, Frame, decode_png, encode_png
from inference.keys import SigningKey, TrustStore, verifies

FORMAT = 1
LIMIT_BYTES = 1 << 30
_MANIFEST, _MODEL, _SEAL = "manifest.json", "model.onnx", "seal.json"
_SEAL_CONTEXT = b"andon bundle seal\n"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(_Model):
    """Thresholds in the score's own unit, and what may be promised of them.

    A part passes up to `review_above`, is reviewed up to `reject_above` and rejected beyond. `alpha` is the rate of
    good parts above `review_above` that was asked for; the true one is at most `alpha_upper`, with 95 % confidence.
    `more_images` is how many more good images it takes to promise `alpha` itself so, 0 where it is promised. Where
    `held_out_images` is 0, the thresholds come from copies of a single image and promise nothing.
    """

    alpha: float = Field(gt=0, lt=1)
    review_above: float
    reject_above: float
    held_out_images: int = Field(ge=0)
    held_out_above: int = Field(ge=0)
    alpha_upper: float = Field(ge=0, le=1)
    more_images: int = Field(ge=0)
    held_out_median: float
    held_out_max: float


class Golden(_Model):
    """A golden frame's score, and the tolerance within which any engine must give it again."""

    score: float
    tolerance: float = Field(gt=0)


class Manifest(_Model):
    """What a bundle says of itself.

    `pixel_format` is what the camera must give; where an older bundle says nothing, it is mono8 or bgr8. Of the good
    images, `held_out_scores` are those that the calibration was made of, `outlying` names those whose score lay far
    out, `alike` counts those that show what another shows, and `left_out` names those that a person left out. `parent`
    is the digest of the bundle that this one carries on, whose images count in `images`.
    """

    format: int = FORMAT
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    detector: str
    options: dict[str, JsonValue]
    channels: Channels
    pixel_format: PixelFormat = PixelFormat.BGR8  # by its channels where nothing is said
    frame_height_px: int = Field(ge=1)
    frame_width_px: int = Field(ge=1)
    map_height: int = Field(ge=1)
    map_width: int = Field(ge=1)
    images: int = Field(ge=1)
    data_digest: str
    seed: int
    calibration: Calibration
    golden: tuple[Golden, ...] = Field(min_length=1, max_length=16)
    metrics: dict[str, float]
    licences: tuple[str, ...]
    versions: dict[str, str]
    created: datetime
    held_out_scores: tuple[float, ...] = ()
    outlying: tuple[str, ...] = ()
    alike: int = Field(default=0, ge=0)
    left_out: tuple[str, ...] = ()
    parent: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_pixels(cls, values: Any) -> Any:  # noqa: ANN401 - whatever there is to be validated
        if isinstance(values, dict) and "pixel_format" not in values and values.get("channels") in {1, 3}:
            return values | {"pixel_format": PixelFormat.of(values["channels"])}
        return values

    @model_validator(mode="after")
    def _as_many_bytes(self) -> Self:
        if self.pixel_format.channels != self.channels:
            raise ValueError(f"{self.pixel_format} has {self.pixel_format.channels} bytes a pixel, not {self.channels}")
        return self


class _Seal(_Model):
    members: dict[str, str]
    public_key: str
    signature: str


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its parts are what was sealed, by someone trusted."""

    manifest: Manifest
    model: bytes
    golden_frames: tuple[Frame, ...]
    digest: str
    public_key: str
    size_bytes: int

    @cached_property
    def title(self) -> str:
        """Return name and short digest, for logs and messages."""
        return f"{self.manifest.name} ({self.digest[:19]})"

    @classmethod
    def open(cls, path: Path, trust: TrustStore) -> Self:
        """Read and verify a bundle; raise BundleError that says what is wrong with it."""
        try:
            with path.open("rb") as file:
                data = file.read(LIMIT_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            return cls._parse(data, trust)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    @classmethod
    def _parse(cls, data: bytes, trust: TrustStore) -> Self:
        if len(data) > LIMIT_BYTES:
            raise BundleError(f"larger than {LIMIT_BYTES} bytes")
        members = archive.unpack(data)
        digest, public_key = _check_seal(members, trust)
        manifest = _parse_manifest(members)
        expected = [*_member_names(len(manifest.golden)), _SEAL]
        if list(members) != expected:
            raise BundleError(f"holds {', '.join(members)} where {', '.join(expected)} should be")
        frames = []
        for index in range(len(manifest.golden)):
            try:
                frames.append(decode_png(members[_golden_name(index)], manifest.channels))
            except InputError as error:
                raise BundleError(f"{_golden_name(index)}: {error}") from error
        return cls(manifest, members[_MODEL], tuple(frames), digest, public_key, len(data))


def write(path: Path, manifest: Manifest, model: bytes, golden_frames: tuple[Frame, ...], key: SigningKey) -> str:
    """Seal a bundle and write it, whole or not at all; return its digest `sha256:…`."""
    contents = (manifest.model_dump_json(indent=2).encode(), model, *(encode_png(frame) for frame in golden_frames))
    members = dict(zip(_member_names(len(golden_frames)), contents, strict=True))
    listing = _listing(members)
    seal = _Seal(
        members=listing, public_key=key.public.hex(), signature=key.sign(_SEAL_CONTEXT + _canonical(listing)).hex()
    )
    members[_SEAL] = _canonical(seal.model_dump())
    try:
        files.write(path, archive.pack(members))
    except OSError as error:
        raise BundleError(f"{path}: cannot be written: {error.strerror}") from error
    return _digest(listing)


def _check_seal(members: Mapping[str, bytes], trust: TrustStore) -> tuple[str, str]:
    """Return digest and public key of a seal that holds."""
    if _SEAL not in members:
        raise BundleError(f"has no {_SEAL}: not a bundle, or never finished")
    try:
        seal = _Seal.model_validate_json(members[_SEAL])
        public_key, signature = bytes.fromhex(seal.public_key), bytes.fromhex(seal.signature)
    except ValidationError as error:
        raise BundleError(f"{_SEAL}: {files.explain(error)}") from error
    except ValueError as error:
        raise BundleError(f"{_SEAL}: key or signature is not hexadecimal") from error
    listing = _listing({name: data for name, data in members.items() if name != _SEAL})
    for name in sorted(listing.keys() | seal.members.keys()):
        if listing.get(name) != seal.members.get(name):
            raise BundleError(f"{name}: is not what was sealed (SHA-256 differs, or it was added or removed)")
    if not verifies(public_key, signature, _SEAL_CONTEXT + _canonical(listing)):
        raise BundleError("the signature does not match: changed after it was sealed")
    if not trust.trusts(public_key):
        raise BundleError(
            f"sealed by a key that is not trusted ({seal.public_key[:16]}…): "
            "put that key's .pub file into the key folder if you trust it"
        )
    return _digest(listing), seal.public_key


def _parse_manifest(members: Mapping[str, bytes]) -> Manifest:
    try:
        values = json.loads(members[_MANIFEST])
        version = values["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{_MANIFEST}: missing, or no manifest in JSON") from error
    if version != FORMAT:
        raise BundleError(f"{_MANIFEST}: format {version!r} is unknown; this version of Andon reads format {FORMAT}")
    try:
        return Manifest.model_validate_json(members[_MANIFEST])
    except ValidationError as error:
        raise BundleError(f"{_MANIFEST}: {files.explain(error)}") from error


def _member_names(golden: int) -> list[str]:
    return [_MANIFEST, _MODEL, *(_golden_name(index) for index in range(golden))]


def _golden_name(index: int) -> str:
    return f"golden/{index}.png"


def _listing(members: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}


def _digest(listing: Mapping[str, str]) -> str:
    return f"sha256:{hashlib.sha256(_canonical(listing)).hexdigest()}"


def _canonical(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
