"""`andon review`, `andon hold` and `andon release`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import InputError
from config.home import Home, default_path
from deploy.database import database
from deploy.person import own_name
from deploy.table import NOTHING, Screen, clock
from storage.reviews import Hold, Review, Reviews


def review(arguments: argparse.Namespace) -> int:
    """Add a finding, or show what was found."""
    said = (arguments.camera, arguments.region, arguments.defect_class, arguments.by)
    if arguments.finding is None and (arguments.comment or any(one is not None for one in said)):
        raise InputError("--finding: say GOOD, DEFECT or UNSURE with --camera, --region, --class, --comment and --by")
    with _reviews(arguments, "review") as reviews:
        if arguments.finding is None:
            found, held = reviews.of(arguments.part_id)
        else:
            added = reviews.add(
                arguments.part_id,
                arguments.finding.upper(),
                arguments.by or own_name(),
                camera=arguments.camera,
                region=arguments.region,
                defect_class=arguments.defect_class,
                comment=arguments.comment,
            )
            found, held = [added], None
    if arguments.json:
        answer = {
            "reviews": [one.model_dump(mode="json") for one in found],
            "hold": held.model_dump(mode="json") if held else None,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(found, held))
    return 0


def hold(arguments: argparse.Namespace) -> int:
    """Put a part on hold."""
    with _reviews(arguments, "hold") as reviews:
        made = reviews.hold(arguments.part_id, arguments.reason, arguments.by or own_name())
    return _tell(arguments, made, f"{made.part_id} is on hold: {made.reason}")


def release(arguments: argparse.Namespace) -> int:
    """Release a part."""
    with _reviews(arguments, "release") as reviews:
        was = reviews.release(arguments.part_id, arguments.by or own_name(), arguments.reason)
    return _tell(arguments, was, f"{was.part_id} is released; {was.holder} had kept it: {was.reason}")


def _tell(arguments: argparse.Namespace, answer: Hold, line: str) -> int:
    sys.stdout.write((answer.model_dump_json() if arguments.json else line) + "\n")
    return 0


def _lines(found: list[Review], held: Hold | None) -> Iterator[str]:
    names = ("number", "time", "reviewer", "finding", "camera", "region", "class", "comment")
    rows = [
        (
            str(one.number),
            clock(one.reviewed_at),
            one.reviewer,
            one.finding.value,
            one.camera or NOTHING,
            NOTHING if one.region is None else str(one.region),
            one.defect_class or NOTHING,
            one.comment.replace("\n", " / ") or NOTHING,
        )
        for one in found
    ]
    if rows:
        yield from Screen(sys.stdout).table(names, rows)
    elif held is None:
        yield "nobody has said anything of this part"
    if held is not None:
        yield f"on hold since {clock(held.held_at)} by {held.holder}: {held.reason}"


@contextmanager
def _reviews(arguments: argparse.Namespace, doing: str) -> Iterator[Reviews]:
    home = Home(arguments.home or default_path())
    with database(home, doing) as url:
        reviews = Reviews(url, home.path)
        try:
            yield reviews
        finally:
            reviews.close()
