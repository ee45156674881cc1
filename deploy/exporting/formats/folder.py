"""A folder for each part: part.json, with all that is stored of it, and its pictures."""

from __future__ import annotations

from pathlib import Path

from deploy.exporting.source import Source, file_name, picture_stem

SUFFIX = None


def write(source: Source, folder: Path, *, parts_only: bool) -> None:  # noqa: ARG001 - there is no such file
    """Write the parts."""
    for item in source.items():
        place = folder / file_name(item.part.part_id)
        place.mkdir()
        (place / "part.json").write_text(item.part.model_dump_json(indent=2), encoding="utf-8")
        for ref in item.part.images:
            source.save(item.part, ref, place, picture_stem(ref))
