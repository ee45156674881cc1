"""Parts put straight into a database's tables as the writer would have, long ago: for tests of what becomes of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, text

from storage import partitions
from storage.schema import defect, gate_report, image, review, verdict, view

CONTENT = b"\xff\xd8" + random.Random(1).randbytes(3000) + b"\xff\xd9"


@dataclass(frozen=True)
class StoredPart:
    """A part with one view, a map, a defect, a gate report and one image."""

    part_id: str
    time: datetime
    judgement: str = "PASS"
    challenge: bool = False
    recorded_at: datetime | None = None  # None: when it was triggered
    station: str = "st"
    has_verdict: bool = True
    place: str | None = None  # of the image, if it is not in the database

    @property
    def group(self) -> str:
        return "CHALLENGE" if self.challenge else self.judgement


def store_parts(connection: Connection, parts: Iterable[StoredPart], content: bytes = CONTENT) -> None:
    """Store parts, and tally them, in a transaction that is open."""
    parts = list(parts)
    wanted = {partitions.partition_of(table, part.time) for part in parts for table in partitions.WIDTHS}
    partitions.make(connection, wanted)
    judged = [part for part in parts if part.has_verdict]
    _insert(connection, verdict, [_verdict(part, number) for number, part in enumerate(judged)])
    _insert(connection, view, [_view(part) for part in judged])
    _insert(connection, defect, [_defect(part) for part in judged])
    _insert(connection, gate_report, [_gate_report(part) for part in parts])
    _insert(connection, image, [_image(part, content) for part in parts])
    connection.execute(
        text(
            "INSERT INTO tally SELECT date_trunc('hour', trigger_time), station, line, product, recipe, "
            "recipe_version, verdict, count(*), 0, 0, 0 FROM verdict GROUP BY 1, 2, 3, 4, 5, 6, 7 "
            "ON CONFLICT DO NOTHING"
        )
    )


def review_part(connection: Connection, part: StoredPart) -> None:
    connection.execute(
        insert(review).values(part_id=part.part_id, trigger_time=part.time, reviewer="me", finding="DEFECT")
    )


def hold_part(connection: Connection, part: StoredPart) -> None:
    connection.execute(
        text("INSERT INTO hold (part_id, trigger_time, holder, reason) VALUES (:part_id, :time, 'me', 'a claim')"),
        {"part_id": part.part_id, "time": part.time},
    )


def _insert(connection: Connection, table: object, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.execute(insert(table), rows)  # type: ignore[arg-type]  # a Table


def _verdict(part: StoredPart, number: int) -> dict[str, object]:
    return {
        "trigger_time": part.time,
        "part_id": part.part_id,
        "run": "r1",
        "sequence": number,
        "station": part.station,
        "line": "1",
        "product": "bracket",
        "recipe": "demo",
        "recipe_version": 1,
        "verdict": part.judgement,
        "reasons": [],
        "score": 1.0,
        "gate": "PASS",
        "trigger_ns": 0,
        "judged_ns": 1,
        "deadline_ns": 2,
        "challenge": part.challenge,
        "position": number,
        "recorded_at": part.recorded_at or part.time,
    }


def _view(part: StoredPart) -> dict[str, object]:
    key = {"part_id": part.part_id, "camera": "top", "trigger_time": part.time}
    return {**key, "verdict": part.judgement, "reasons": [], "map": b"map" * 300}


def _defect(part: StoredPart) -> dict[str, object]:
    key = {"part_id": part.part_id, "camera": "top", "region": 0, "trigger_time": part.time, "product": "bracket"}
    return {**key, "x_px": 1, "y_px": 2, "width_px": 3, "height_px": 4, "area_px": 5, "score": 1.0}


def _gate_report(part: StoredPart) -> dict[str, object]:
    fields = {"command": "PASS", "reported_ns": 1, "confirmed": True}
    return {
        "part_id": part.part_id,
        "trigger_time": part.time,
        "recorded_at": part.recorded_at or part.time,
        **fields,
    }


def _image(part: StoredPart, content: bytes) -> dict[str, object]:
    return {
        "part_id": part.part_id,
        "camera": "top",
        "purpose": "image",
        "region": -1,
        "trigger_time": part.time,
        "encoding": "jpeg",
        "width_px": 1,
        "height_px": 1,
        "size_bytes": len(content),
        "content": None if part.place else content,
        "place": part.place,
        "recorded_at": part.recorded_at or part.time,
    }
