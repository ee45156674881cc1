"""What is tried where a detector is to be chosen: each with its defaults, and in other sizes where these pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, JsonValue

from config import plugins
from config.errors import ConfigurationError

DETECTORS = "inference.detectors"

# by detector and name: what a factory trades, which is time against accuracy
VARIANTS: Mapping[str, Mapping[str, dict[str, JsonValue]]] = {
    "patchcore": {
        "fast": {"size_px": 160, "taps": [4, 8], "stride_px": 16},
        "light": {"size_px": 192, "bank": 1000},
        "large": {"size_px": 320, "stride_px": 16},
    },
    "ensemble": {
        "surfaces": {
            "size_px": 320,
            "taps": [4, 10, 14],
            "members": [
                {"detector": "patchcore"},
                {"detector": "patchcore", "options": {"even_light": True}},
                {"detector": "dfm", "options": {"even_light": True}},
                {"detector": "drawn"},
            ],
        },
    },
}


class Candidate(BaseModel):
    """A detector with some options; `variant` is empty for its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    detector: str
    variant: str = ""
    options: dict[str, JsonValue] = {}

    @property
    def name(self) -> str:
        """Return what it is called in tables and files."""
        return f"{self.detector}-{self.variant}" if self.variant else self.detector


def candidates(detectors: Sequence[str] = (), *, variants: bool = True) -> list[Candidate]:
    """Return all candidates of some detectors, or of every one; raise ConfigurationError for an unknown name.

    A name may be a detector's, with all its variants, or a candidate's alone, as `patchcore-fast`.
    """
    known = [candidate for name in plugins.names(DETECTORS) for candidate in _of(name)]
    if not detectors:
        return [candidate for candidate in known if variants or not candidate.variant]
    names = {candidate.name for candidate in known}
    for name in detectors:
        if name not in names:
            raise ConfigurationError(f"no candidate is named {name!r}: there are {', '.join(sorted(names))}")
    return [
        candidate
        for candidate in known
        if candidate.name in detectors or (variants and candidate.detector in detectors)
    ]


def _of(detector: str) -> list[Candidate]:
    named = VARIANTS.get(detector, {})
    return [
        Candidate(detector=detector),
        *(Candidate(detector=detector, variant=variant, options=options) for variant, options in named.items()),
    ]
