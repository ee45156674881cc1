"""The MVTec AD layout, to learn from with `andon train` and to measure with `andon evaluate` (`config/dataset.py`).

    good      what reviewers found GOOD, and what passed and nobody looked at; a tenth of it is for testing
    a defect  what reviewers found DEFECT, what was rejected and nobody looked at, and challenge parts, by class

What is UNSURE or disputed, in the gray zone or a FAULT and not reviewed, is left out and counted: nobody knows what it
is. Of a defective part, only the view that shows the defect is one. One product and one camera are learnt at a time.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from config.dataset import GOOD
from config.errors import InputError
from config.messages import Judgement
from deploy.exporting.source import Item, Source, file_name, picture_stem
from storage.query.answers import ViewDetail
from storage.query.labels import Labels
from storage.reviews import Finding

SUFFIX = None
_UNNAMED = "defect"
_CHALLENGE = "challenge"
_TEST_EVERY = 10  # good parts; which one follows from its id


def write(source: Source, folder: Path, *, parts_only: bool) -> None:  # noqa: ARG001 - there is no such file
    """Write the images; raise InputError where there is more than one product or camera, or nothing to learn from."""
    only: tuple[str, str] | None = None
    for item in source.items():
        for view in item.part.details:
            if source.chosen.camera not in {None, view.camera}:
                continue
            kind = _kind(item, view)
            ref = item.image(view.camera)
            if kind is None or ref is None:
                source.counted["views_unknown" if kind is None else "views_without_image"] += 1
                continue
            only = only or (item.part.product, view.camera)
            if only != (item.part.product, view.camera):
                raise InputError(
                    f"parts of {only[0]} on {only[1]} and of {item.part.product} on {view.camera}: one product and one "
                    "camera are learnt at a time: choose them with --product and --camera"
                )
            tested = kind != GOOD or zlib.crc32(item.part.part_id.encode()) % _TEST_EVERY == 0
            name = f"{file_name(item.part.part_id)}-{picture_stem(ref)}"
            saved = source.save(item.part, ref, folder / ("test" if tested else "train") / file_name(kind), name)
            if saved and view.frame_shape and (ref.height_px, ref.width_px) != view.frame_shape[:2]:
                source.counted["images_reduced"] += 1
    if not (folder / "train" / GOOD).is_dir():
        raise InputError(
            "no image of a good part is stored, so that there is nothing to learn from: have the recipe keep some "
            "(keep.PASS)"
        )


def _kind(item: Item, view: ViewDetail) -> str | None:
    """Return `good`, the defect's class, or None where nobody knows."""
    said, part = item.labels, item.part
    finding = said.finding_at(view.camera) or said.finding
    if part.challenge and finding is None:
        return _named(part.truth_defect or _CHALLENGE)
    if finding is None:
        return {Judgement.PASS: GOOD, Judgement.REJECT: _class(said, view)}.get(view.verdict)
    if finding == Finding.GOOD:
        return GOOD
    shown = said.finding_at(view.camera) is not None or view.verdict is not Judgement.PASS or len(part.details) == 1
    return _class(said, view) if finding == Finding.DEFECT and shown else None


def _class(said: Labels, view: ViewDetail) -> str:
    """Return what the worst defect of a view is called."""
    by_score = sorted(range(len(view.regions)), key=lambda number: -view.regions[number].score)
    names = [said.defect_class(view.camera, number) for number in by_score]
    return _named(next((name for name in names if name), None) or said.defect_class(view.camera) or _UNNAMED)


def _named(name: str) -> str:
    """Return a defect's class; none is called good."""
    return f"{name} {_UNNAMED}" if name.casefold() == GOOD else name
