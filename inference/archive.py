"""Zip files of which there is only one for given members: stored, undated, in order.

A bundle is read by writing it again: what is not byte for byte the same was changed, whichever byte it was. Members
are not compressed, so an archive is never larger than its file. Format: PKWARE APPNOTE 6.3, version 2.0, no zip64.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from config.errors import BundleError

_VERSION = 20
_MADE_BY_UNIX = 3 << 8
_DATE = 0x21  # 1980-01-01, the earliest that the format knows
_MODE = 0o100644 << 16
_LIMIT = 2**31


def pack(members: Mapping[str, bytes]) -> bytes:
    """Return the archive of `members`, in the mapping's order."""
    body, directory = io.BytesIO(), io.BytesIO()
    for name, data in members.items():
        encoded = name.encode("ascii")
        common = struct.pack("<HHHHIIIHH", 0, 0, 0, _DATE, zlib.crc32(data), len(data), len(data), len(encoded), 0)
        offset = body.tell()
        body.write(struct.pack("<4sH", b"PK\x03\x04", _VERSION) + common + encoded + data)
        directory.write(struct.pack("<4sHH", b"PK\x01\x02", _MADE_BY_UNIX | _VERSION, _VERSION) + common)
        directory.write(struct.pack("<HHHII", 0, 0, 0, _MODE, offset) + encoded)
    start, size = body.tell(), directory.tell()
    if start + size >= _LIMIT:
        raise BundleError(f"the members take {start} bytes: a bundle holds less than {_LIMIT}")
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(members), len(members), size, start, 0)
    return body.getvalue() + directory.getvalue() + end


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the members of an archive that `pack` made; raise BundleError for any other."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise BundleError("a member is there twice")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise BundleError("a member is compressed, and a bundle's never are")
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise BundleError(f"damaged, truncated or no bundle at all: {error}") from error
    try:
        same = pack(members) == data
    except UnicodeEncodeError:
        same = False
    if not same:
        raise BundleError("damaged: its bytes are not those that were written")
    return members
