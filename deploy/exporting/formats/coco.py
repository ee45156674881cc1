"""COCO's object detection format: annotations.json and images/. Boxes are the defects that stand.

https://cocodataset.org/#format-data. Only views whose image is stored are in it, also those without a defect. A box
is in pixels of the stored image, which may be smaller than the frame was. Its category is the class that a reviewer or
the detector gave, else `defect`. What reviewers found GOOD has no boxes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from deploy.exporting.source import Item, Source, file_name, picture_stem
from storage.query.answers import ImageRef, ViewDetail
from storage.reviews import Finding

SUFFIX = None
UNNAMED = "defect"


def write(source: Source, folder: Path, *, parts_only: bool) -> None:  # noqa: ARG001 - there is no such file
    """Write images and annotations."""
    boxes_path = folder / "boxes.part"
    categories: dict[str, int] = {}
    image_id = box_id = 0
    with (folder / "annotations.json").open("x", encoding="utf-8") as file, boxes_path.open("x+") as boxes:
        info = {"description": "exported by andon", "date_created": datetime.now(UTC).isoformat(timespec="seconds")}
        file.write(f'{{"info": {json.dumps(info)}, "licenses": [], "images": [')
        for item in source.items():
            for view in item.part.details:
                ref = item.image(view.camera)
                name = None if ref is None else _save(source, item, ref, folder / "images")
                if ref is None or name is None:
                    source.counted["views_without_image"] += 1
                    continue
                image_id += 1
                _add(file, _image(image_id, item, ref, name), first=image_id == 1)
                for category, box in _boxes(item, view, ref):
                    box_id += 1
                    number = categories.setdefault(category, len(categories) + 1)
                    _add(boxes, {"id": box_id, "image_id": image_id, "category_id": number, **box}, first=box_id == 1)
        file.write('\n], "annotations": [')
        boxes.seek(0)
        shutil.copyfileobj(boxes, file)
        listed = [{"id": number, "name": name, "supercategory": UNNAMED} for name, number in categories.items()]
        file.write(f'\n], "categories": {json.dumps(listed)}}}\n')
    boxes_path.unlink()
    source.counted["defects"] = box_id


def _save(source: Source, item: Item, ref: ImageRef, folder: Path) -> str | None:
    return source.save(item.part, ref, folder, f"{file_name(item.part.part_id)}-{picture_stem(ref)}")


def _image(number: int, item: Item, ref: ImageRef, name: str) -> Mapping[str, object]:
    return {
        "id": number,
        "file_name": f"images/{name}",
        "width": ref.width_px,
        "height": ref.height_px,
        "date_captured": item.part.trigger_time.astimezone(UTC).isoformat(),
        "part_id": item.part.part_id,
        "camera": ref.camera,
    }


def _boxes(item: Item, view: ViewDetail, ref: ImageRef) -> Iterator[tuple[str, Mapping[str, object]]]:
    said = item.labels
    if view.frame_shape is None or Finding.GOOD in {said.finding, said.finding_at(view.camera)}:
        return
    height_px, width_px = view.frame_shape[:2]
    across, down = ref.width_px / width_px, ref.height_px / height_px
    for number, region in enumerate(view.regions):
        if said.finding_at(view.camera, number) == Finding.GOOD:
            continue
        left, right = (min(max(x, 0), width_px) * across for x in (region.x_px, region.x_px + region.width_px))
        top, bottom = (min(max(y, 0), height_px) * down for y in (region.y_px, region.y_px + region.height_px))
        if right <= left or bottom <= top:
            continue
        yield (
            said.defect_class(view.camera, number) or UNNAMED,
            {
                "bbox": [left, top, right - left, bottom - top],
                "area": region.area_px * across * down,
                "segmentation": [],
                "iscrowd": 0,
                "score": region.score,
            },
        )


def _add(file: IO[str], value: Mapping[str, object], *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(value))
