"""The register map for the PLC's programmer, generated from the one table: as text, as data, as importable tags."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from decision import registers
from decision.registers import BITS, FIELDS, TABLE, Kind, Register

_HOLDING_REGISTERS: Final = 400_001  # what Modbus tools call address 0
_KEPWARE: Final = str.maketrans({".": "_", "[": "_", "]": None})
_COMMENT: Final = 1024  # characters that an S7 comment may have
_TYPES: Final = {Kind.U16: "Word", Kind.U32: "DWord", Kind.FLAGS: "Word"}
_S7_TYPES: Final = {Kind.U16: "UInt", Kind.U32: "UDInt", Kind.FLAGS: "Word"}


@dataclass(frozen=True)
class Tag:
    """One value that a PLC's programmer names: a register, a field of a group, or a bit."""

    name: str
    address: int
    kind: Kind
    register: Register
    meaning: str
    bit: int | None = None


def tags() -> Iterator[Tag]:
    """Yield every tag: registers, fields of single groups, each slot of the rings field by field, and bits."""
    for register in TABLE:
        if register.kind not in FIELDS:
            yield Tag(register.name, register.address, register.kind, register, register.meaning)
            for bit in BITS:
                if bit.register is register:
                    name = f"{register.name}.{bit.name}"
                    yield Tag(name, register.address, Kind.FLAGS, register, bit.meaning, bit.number)
            continue
        for slot in range(register.slots):
            name = register.name if register.slots == 1 else f"{register.name}[{slot}]"
            for field, kind, offset in _fields(register):
                address = register.address + slot * register.words + offset
                yield Tag(f"{name}.{field}", address, kind, register, f"{field} of {name}")


def text() -> str:
    """Return the map as people read it."""
    rows = [("register", "address", "words", "written by", "meaning")]
    rows += [(one.name, f"{one.address}", _size(one), f"{one.writer}", one.meaning) for one in TABLE]
    found = [_aligned(rows), ""]
    bits = [("bit of", "no", "name", "meaning")]
    bits += [(bit.register.name, f"{bit.number}", bit.name, bit.meaning) for bit in BITS]
    found += [_aligned(bits), "", "addresses count from 0; values of two words: high word first"]
    return "\n".join(found) + "\n"


def as_json() -> dict[str, object]:
    """Return the map as one object: registers with their fields, and bits."""
    return {
        "registers": [
            {
                "name": one.name,
                "address": one.address,
                "kind": one.kind.value,
                "words": one.words,
                "slots": one.slots,
                "written_by": one.writer.value,
                "meaning": one.meaning,
                "fields": [
                    {"name": field, "kind": kind.value, "offset": offset} for field, kind, offset in _fields(one)
                ],
            }
            for one in TABLE
        ],
        "bits": [
            {"name": bit.name, "register": bit.register.name, "number": bit.number, "meaning": bit.meaning}
            for bit in BITS
        ],
    }


def table_csv() -> str:
    """Return the map as a table: one row for each register, then one for each bit."""
    rows = [("register", "address", "modbus", "kind", "words", "slots", "bit", "written_by", "meaning")]
    for one in TABLE:
        at = (f"{one.address}", f"{_HOLDING_REGISTERS + one.address}")
        rows.append((one.name, *at, one.kind, f"{one.words}", f"{one.slots}", "", one.writer, one.meaning))
        bits = (bit for bit in BITS if bit.register is one)
        rows += [(bit.name, *at, "bit", "", "", f"{bit.number}", one.writer, bit.meaning) for bit in bits]
    return _csv(rows)


def kepware_csv() -> str:
    """Return tags as KEPServerEX imports them for a Modbus device (its `CSV Import`; addresses count from 400001).

    Its names have no points and no brackets. The first word of a value of two words is its high one: in the
    device, `First Word Low` is to be off.
    """
    head = ("Tag Name", "Address", "Data Type", "Respect Data Type", "Client Access", "Scan Rate", "Description")
    rows = [head]
    for tag in tags():
        address = f"{_HOLDING_REGISTERS + tag.address}"
        kind = _TYPES[tag.kind]
        if tag.bit is not None:
            address, kind = f"{address}.{tag.bit}", "Boolean"
        access = "RO" if tag.register.writer is registers.Writer.STATION else "R/W"
        rows.append((tag.name.translate(_KEPWARE), address, kind, "1", access, "100", tag.meaning))
    return _csv(rows)


def scl() -> str:
    """Return a data block for TIA Portal or STEP 7 (`External source files`, then `Generate blocks from source`).

    Register n is at byte 2n: access is not optimised, and what is free between registers is filled.
    """
    lines = [
        'DATA_BLOCK "Andon"',
        "{ S7_Optimized_Access := 'FALSE' }",
        "VERSION : 0.1",
        "NON_RETAIN",
        "   STRUCT",
    ]
    at = 0
    for register in sorted(TABLE, key=lambda one: one.address):
        if register.address > at:
            lines.append(f"      free_{at} : Array[0..{register.address - at - 1}] of Word;")
        lines += _s7_member(register)
        at = register.end
    lines += ["   END_STRUCT;", "", "BEGIN", "", "END_DATA_BLOCK", ""]
    return "\n".join(lines)


def logix_csv() -> str:
    """Return the tag `Andon` with a comment at each element, as Studio 5000 imports it (`Import Tags`, CSV)."""
    count = max(one.end for one in TABLE)
    rows: list[tuple[str, ...]] = [
        ("remark", "Andon: register n of the map is Andon[n]"),
        ("0.3",),
        ("TYPE", "SCOPE", "NAME", "DESCRIPTION", "DATATYPE", "SPECIFIER", "ATTRIBUTES"),
        ("TAG", "", "Andon", "Register map of the Andon station", f"INT[{count}]", "", _LOGIX_ATTRIBUTES),
    ]
    rows += [("COMMENT", "", "Andon", text, "", operand, "") for operand, text in _logix_comments()]
    return _csv(rows)


def l5x() -> str:
    """Return the same tag as an L5X file (`Import Component` of Studio 5000)."""
    count = max(one.end for one in TABLE)
    comments = "\n".join(
        f"            <Comment Operand={quoteattr(operand.removeprefix('Andon').upper())}><![CDATA[{text}]]></Comment>"
        for operand, text in _logix_comments()
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<RSLogix5000Content SchemaRevision="1.0" SoftwareRevision="20.00" TargetName="Andon" TargetType="Tag" \
ContainsContext="true" ExportOptions="References NoRawData L5KData DecoratedData Context Dependencies">
    <Controller Use="Context" Name="Andon">
        <Tags Use="Context">
            <Tag Use="Target" Name="Andon" TagType="Base" DataType="INT" Dimensions="{count}" Radix="Decimal" \
Constant="false" ExternalAccess="Read/Write">
            <Description><![CDATA[{escape("Register map of the Andon station")}]]></Description>
            <Comments>
{comments}
            </Comments>
            </Tag>
        </Tags>
    </Controller>
</RSLogix5000Content>
"""


FORMATS: Final[Mapping[str, Callable[[], str]]] = {
    "text": text,
    "csv": table_csv,
    "kepware": kepware_csv,
    "scl": scl,
    "logix": logix_csv,
    "l5x": l5x,
}
_LOGIX_ATTRIBUTES: Final = "(RADIX := Decimal, Constant := false, ExternalAccess := Read/Write)"


def _fields(register: Register) -> list[tuple[str, Kind, int]]:
    """Return name, kind and offset of each field of a group; nothing for a plain register."""
    found, offset = [], 0
    for name, kind in FIELDS.get(register.kind, ()):
        found.append((name, kind, offset))
        offset += 2 if kind is Kind.U32 else 1
    return found


def _s7_member(register: Register) -> Iterator[str]:
    comment = f"   // {register.writer}: {register.meaning}"[:_COMMENT]
    if register.kind not in FIELDS:
        yield f"      {register.name} : {_S7_TYPES[register.kind]};{comment}"
        for bit in BITS:
            if bit.register is register:
                # a word's high byte comes first: bit 0 is bit 0 of the byte behind it
                byte = 2 * register.address + (0 if bit.number > 7 else 1)  # noqa: PLR2004 - bits of a byte
                yield f"      // {register.name}.%X{bit.number} (byte {byte}): {bit.name}: {bit.meaning}"
        return
    shape = "Struct" if register.slots == 1 else f"Array[0..{register.slots - 1}] of Struct"
    yield f"      {register.name} : {shape}{comment}"
    for field, kind, _ in _fields(register):
        yield f"         {field} : {_S7_TYPES[kind]};"
    yield "      END_STRUCT;"


def _logix_comments() -> Iterator[tuple[str, str]]:
    for tag in tags():
        operand = f"Andon[{tag.address}]" if tag.bit is None else f"Andon[{tag.address}].{tag.bit}"
        words = " (2 words, high word first)" if tag.kind is Kind.U32 else ""
        yield operand, f"{tag.name}{words}: {tag.meaning}"


def _size(register: Register) -> str:
    return f"{register.words}" if register.slots == 1 else f"{register.slots} x {register.words}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


def _csv(rows: Iterable[tuple[str, ...]]) -> str:
    found = io.StringIO()
    csv.writer(found, lineterminator="\r\n").writerows(rows)
    return found.getvalue()
