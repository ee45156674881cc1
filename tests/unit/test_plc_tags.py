"""The printed maps say what the one table says; each is read back by a reader that knows nothing of the printer."""

from __future__ import annotations

import csv
import io
import json
import re
from xml.etree import ElementTree as ET

import pytest

from decision import registers
from decision.registers import BITS, FIELDS, TABLE, Kind
from deploy.cli import main
from deploy.plc import tags

BYTES = {"UInt": 2, "Word": 2, "UDInt": 4}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["plc", "map", *words]) == 0
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_every_format_that_is_offered_is_there(capsys):
    for name in tags.FORMATS:
        assert "station_heartbeat" in printed(capsys, "--format", name)


def test_the_text_names_every_register_and_every_bit(capsys):
    lines = printed(capsys).splitlines()
    for one in TABLE:
        assert any(re.match(rf"{one.name}  +{one.address}  .*{re.escape(one.meaning)}$", line) for line in lines)
    for bit in BITS:
        assert any(re.match(rf"{bit.register.name}  +{bit.number}  +{bit.name} ", line) for line in lines)


def test_the_json_is_the_whole_table(capsys):
    told = json.loads(printed(capsys, "--json"))
    assert {one["name"]: one["address"] for one in told["registers"]} == {one.name: one.address for one in TABLE}
    for one in told["registers"]:
        assert sum(2 if field["kind"] == "u32" else 1 for field in one["fields"]) in {0, one["words"]}
    assert [bit["name"] for bit in told["bits"]] == [bit.name for bit in BITS]


def test_the_csv_has_a_row_for_each_register_and_each_bit(capsys):
    head, *found = rows(printed(capsys, "--format", "csv"))
    assert len(found) == len(TABLE) + len(BITS)
    for row in (dict(zip(head, row, strict=True)) for row in found):
        assert int(row["modbus"]) == 400_001 + int(row["address"])


def test_tags_cover_every_word_once_and_the_kepware_file_has_them_with_unique_names(capsys):
    covered = sorted(
        address
        for tag in tags.tags()
        if tag.bit is None
        for address in range(tag.address, tag.address + (2 if tag.kind is Kind.U32 else 1))
    )
    assert covered == sorted(address for one in TABLE for address in range(one.address, one.end))
    _, *found = rows(printed(capsys, "--format", "kepware"))
    names = [row[0] for row in found]
    assert len(set(names)) == len(names) == len(list(tags.tags()))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    assert all(re.fullmatch(r"4\d{5}(\.\d{1,2})?", row[1]) for row in found)


def test_the_data_block_puts_register_n_at_byte_2n(capsys):
    """Walk the source as a compiler of non-optimised blocks does: members of 2 or 4 bytes, in order."""
    text = printed(capsys, "--format", "scl")
    assert "S7_Optimized_Access := 'FALSE'" in text
    found: dict[str, int] = {}
    at, group, times, began = 0, "", 1, 0
    for line in text[text.index("STRUCT") : text.index("   END_STRUCT;\n\nBEGIN")].splitlines()[1:]:
        code = line.split("//")[0].strip()
        if match := re.fullmatch(r"(\w+) : (UInt|Word|UDInt);", code):
            if not group:
                found[match[1]] = at
            at += BYTES[match[2]]
        elif match := re.fullmatch(r"(\w+) : Array\[0\.\.(\d+)\] of Word;", code):
            at += 2 * (int(match[2]) + 1)
        elif match := re.fullmatch(r"(\w+) : (?:Array\[0\.\.(\d+)\] of )?Struct", code):
            group, times, began = match[1], int(match[2] or 0) + 1, at
            found[group] = at
        elif code == "END_STRUCT;":
            at, group = began + times * (at - began), ""
        else:
            assert not code, code
    assert found == {one.name: 2 * one.address for one in TABLE}
    assert at == 2 * max(one.end for one in TABLE)


@pytest.mark.parametrize("one", ["logix", "l5x"])
def test_the_logix_tag_has_a_comment_at_each_value(capsys, one):
    text = printed(capsys, "--format", one)
    count = max(register.end for register in TABLE)
    if one == "l5x":
        tag = ET.fromstring(text).find(".//Tag")  # noqa: S314 - our own output
        assert tag is not None
        assert tag.attrib["Dimensions"] == str(count)
        comments = {comment.attrib["Operand"]: comment.text or "" for comment in tag.iter("Comment")}
    else:
        found = rows(text)
        assert [row[4] for row in found if row[0] == "TAG"] == [f"INT[{count}]"]
        comments = {row[5].removeprefix("Andon"): row[3] for row in found if row[0] == "COMMENT"}
    for register in TABLE:
        if register.kind not in FIELDS:
            assert comments[f"[{register.address}]"].startswith(register.name)
    ready = next(bit for bit in BITS if bit.name == "ready")
    assert comments[f"[{registers.STATION_SIGNALS.address}].{ready.number}"].endswith(ready.meaning)
    assert len(comments) == len(list(tags.tags()))
