"""What people picked to train from, as a folder in the MVTec AD layout that `andon train` takes.

    good       for training; a tenth, which one follows from the part's id, for testing
    a class    for testing: detectors learn from good images alone

Every pixel is as the detector saw it, or the image was refused when it was picked; one that is lost since is counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from config.dataset import GOOD
from config.errors import ImageLostError, InputError
from config.home import Home, default_path
from deploy.database import database
from deploy.exporting.source import Room, file_name, store_of
from deploy.exporting.whole import whole
from storage.picks import LARGEST_PAGE, Pick, Picks
from storage.query.service import QueryService

_TEST_EVERY = 10  # good parts


def export_picked(arguments: argparse.Namespace) -> int:
    """Write the picks of a product; say what was written."""
    home = Home(arguments.home or default_path())
    out: Path = arguments.out.absolute()
    with database(home, "export") as url:
        pictures = store_of(home)
        service, picks = QueryService(url, pictures), Picks(url, home.path)
        try:
            with whole(out) as folder:
                counted = write(service, all_of(picks, arguments.picked, arguments.filter_camera), folder, Room())
        finally:
            picks.close()
            service.close()
            if pictures is not None:
                pictures.close()
    if arguments.json:
        sys.stdout.write(json.dumps({"out": str(out), "as": "mvtec", **counted}) + "\n")
        return 0
    sys.stdout.write(f"{out}: {counted['good']:,} good and {counted['defective']:,} defective images\n")
    if counted["images_lost"]:
        sys.stdout.write(f"note: {counted['images_lost']:,} images are stored no more\n")
    return 0


def all_of(picks: Picks, product: str, camera: str | None) -> Iterator[Pick]:
    """Yield the picks of a product, of one camera or of all."""
    after = None
    while True:
        page = picks.page(product, camera, after, LARGEST_PAGE)
        yield from page.picks
        after = page.after
        if after is None:
            return


def write(service: QueryService, picks: Iterator[Pick], folder: Path, room: Room) -> dict[str, int]:
    """Write the pictures that people picked; raise InputError for those of two cameras, or without a good one."""
    counted = {"good": 0, "defective": 0, "images_lost": 0}
    camera: str | None = None
    for pick in picks:
        camera = camera or pick.camera
        if pick.camera != camera:
            raise InputError(
                f"picks of {camera} and of {pick.camera}: one camera is learnt at a time: choose it with --camera"
            )
        try:
            content = service.image(pick.part_id, pick.camera, "image")
        except ImageLostError:
            content = None
        if content is None:
            counted["images_lost"] += 1
            continue
        room.take(len(content))
        tested = not pick.good or zlib.crc32(pick.part_id.encode()) % _TEST_EVERY == 0
        kind = GOOD if pick.good else pick.defect_class or "defect"
        place = folder / ("test" if tested else "train") / file_name(kind)
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{file_name(pick.part_id)}-{file_name(pick.camera)}.png").open("xb") as file:
            file.write(content)
        counted["good" if pick.good else "defective"] += 1
    if not (folder / "train" / GOOD).is_dir():
        raise InputError(
            "no good image is picked, so that there is nothing to learn from: pick some on the review page"
        )
    return counted
