from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.errors import ConfigurationError, InputError
from inference.training import detector
from inference.training.candidates import VARIANTS, Candidate, candidates
from inference.training.cost import Cost
from inference.training.progress import unheard
from inference.training.selection import Limits
from inference.training.trial import Asked, Outcome, data_digest, key, trial


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give too few images to learn from, and some to judge."""
    for kind, count in (("train/good", 2), ("test/good", 1), ("test/hole", 1)):
        folder = tmp_path / "parts" / kind
        folder.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32), 10 * len(kind) + number, np.uint8))
    return tmp_path / "parts"


def asked(data: Path, **changes: object) -> Asked:
    plain = {"data": data, "output": data.parent / "x.andon", "candidate": Candidate(detector="patchcore")}
    return Asked.model_validate({**plain, **changes})


def kept(folder: Path, of: Asked, digest: str, **changes: object) -> Outcome:
    """Keep an outcome as an earlier run would have."""
    plain = {
        "key": key(of, digest),
        "candidate": of.candidate,
        "seed": 0,
        "state": "over the limits",
        "why": "takes 20.0 ms, more than 10",
        "side_px": 224,
        "parameters": 1000,
        "cost": Cost(ms_per_image=20, ms_per_image_of_16=10, resident_bytes=1),
        "bundle_bytes": 2_000_000,
    }
    outcome = Outcome.model_validate({**plain, **changes})
    (folder / f"{of.candidate.name}.json").write_text(outcome.model_dump_json())
    return outcome


def test_every_named_set_of_options_is_one_that_its_detector_has() -> None:
    for name, variants in VARIANTS.items():
        for options in variants.values():
            detector.load(name, dict(options))


def test_candidates_are_named_by_detector_or_alone() -> None:
    names = [candidate.name for candidate in candidates(["patchcore"])]
    assert names == ["patchcore", *(f"patchcore-{variant}" for variant in VARIANTS["patchcore"])]
    assert [candidate.name for candidate in candidates(["patchcore-fast"])] == ["patchcore-fast"]
    assert not any(candidate.variant for candidate in candidates(variants=False))
    assert {candidate.name for candidate in candidates(["patchcore"])} < {candidate.name for candidate in candidates()}
    with pytest.raises(ConfigurationError, match=r"no candidate is named 'pachcore': there are .*patchcore-fast"):
        candidates(["pachcore"])


def test_a_trial_is_known_by_images_options_and_seed_and_not_by_limits(data: Path) -> None:
    digest = data_digest(data)
    plain = key(asked(data), digest)
    assert plain == key(asked(data, limits=Limits(max_ms=1), output=data / "elsewhere"), digest)
    others = [
        key(asked(data, seed=1), digest),
        key(asked(data, threads=2), digest),
        key(asked(data, candidate=Candidate(detector="patchcore", options={"bank": 50})), digest),
    ]
    (data / "test/hole/0.png").write_bytes((data / "train/good/0.png").read_bytes())
    others.append(key(asked(data), data_digest(data)))
    assert len({plain, *others}) == 5


def test_images_of_one_kind_alone_are_refused(data: Path) -> None:
    (data / "test/hole/0.png").unlink()
    with pytest.raises(InputError, match="all test images are good"):
        data_digest(data)


def test_too_few_images_are_told_and_are_no_end(data: Path, tmp_path: Path) -> None:
    found = trial(asked(data), data_digest(data), tmp_path, unheard)
    assert found.state == "failed"
    assert found.why is not None
    assert "2 good images, and at least" in found.why


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every trial's process die at once: whether it was begun is all that counts."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.usefixtures("dying")
def test_a_process_that_dies_is_told(data: Path, tmp_path: Path) -> None:
    found = trial(asked(data), data_digest(data), tmp_path, unheard)
    assert (found.state, "killed by signal 9" in str(found.why)) == ("failed", True)


@pytest.mark.usefixtures("dying")
def test_what_is_over_the_limits_is_not_tried_again_until_they_allow_it(data: Path, tmp_path: Path) -> None:
    digest, slow = data_digest(data), asked(data, limits=Limits(max_ms=10))
    was = kept(tmp_path, slow, digest)
    assert trial(slow, digest, tmp_path, unheard) == was
    assert trial(asked(data, limits=Limits(max_ms=30)), digest, tmp_path, unheard).state == "failed", "it was tried"


@pytest.mark.usefixtures("dying")
def test_damaged_or_older_outcomes_are_tried_again(data: Path, tmp_path: Path) -> None:
    digest, slow = data_digest(data), asked(data, limits=Limits(max_ms=10))
    kept(tmp_path, slow, digest, key="sha256:of something else")
    assert trial(slow, digest, tmp_path, unheard).state == "failed"
    (tmp_path / "patchcore.json").write_text('{"key": 1')
    assert trial(slow, digest, tmp_path, unheard).state == "failed"


@pytest.mark.usefixtures("dying")
def test_what_was_measured_is_put_to_the_limits_of_the_day(data: Path, tmp_path: Path) -> None:
    wanted = asked(data)
    wanted.output.write_bytes(b"the bundle is there")
    outcome = kept(tmp_path, wanted, data_digest(data), state="measured", why=None)
    limited = {
        Limits(max_mb=1): "takes 2.0 MB, more than 1",
        Limits(max_parameters=999): "has 1000 parameters, more than 999",
        Limits(min_side_px=225): "looks at 224 px, less than 225",
        Limits(max_ms=19.9): "takes 20.0 ms, more than 19.9",
        Limits(max_mb=2, max_parameters=1000, min_side_px=224, max_ms=20): None,
    }
    assert {limits: outcome.within(limits).why for limits in limited} == limited
    assert trial(wanted, data_digest(data), tmp_path, unheard) == outcome
    wanted.output.unlink()
    assert trial(wanted, data_digest(data), tmp_path, unheard).state == "failed", "without its bundle it is tried again"
