"""Passwords: what one must be, and what is kept of it."""

from __future__ import annotations

import secrets
import unicodedata
from base64 import b64encode
from threading import Lock

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from config.errors import InputError

SHORTEST = 12
LONGEST = 128
_DIFFERENT = 5  # characters at least
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that is taken for something else
_GROUPS = 4  # of four: 79 bits
# OWASP's Password Storage Cheat Sheet, Argon2id, first of its equal choices: the one that takes a core the least time
_ARGON2 = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1, type=Type.ID)
_ONE_AT_A_TIME = Lock()  # 46 MiB and a core: never more of either, whoever tries
# what nobody has takes as long to compare with as what somebody has; made up, for to encode one takes a start 60 ms
_MADE_UP = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (_ARGON2.salt_len, _ARGON2.hash_len))
_NOBODYS = "$".join(
    (f"$argon2id$v=19$m={_ARGON2.memory_cost},t={_ARGON2.time_cost},p={_ARGON2.parallelism}", *_MADE_UP)
)


def insist(password: str, name: str) -> str:
    """Return a password as it is kept track of; raise InputError that says what a good one would be.

    NIST SP 800-63B, 3.1.1: length counts, no mixture of characters is asked for.
    """
    said = _normal(password)
    if not SHORTEST <= len(said) <= LONGEST:
        raise InputError(f"password: must be {SHORTEST} to {LONGEST} characters long; several words are easy to keep")
    if name.casefold() in said.casefold():
        raise InputError("password: must not contain the name")
    if len(set(said)) < _DIFFERENT:
        raise InputError(f"password: must have at least {_DIFFERENT} different characters")
    return said


def one_time() -> str:
    """Return a password to be told once and changed at the first sign-in."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(_GROUPS))
    return "-".join(groups)


def encode(password: str) -> str:
    """Return what is stored of a password: Argon2id with its own salt."""
    with _ONE_AT_A_TIME:
        return _ARGON2.hash(_normal(password))


def matches(encoded: str | None, password: str) -> bool:
    """Tell whether `password` is the one that was encoded; takes as long where there is none to compare with."""
    with _ONE_AT_A_TIME:
        try:
            _ARGON2.verify(encoded or _NOBODYS, _normal(password)[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return False
    return encoded is not None


def _normal(password: str) -> str:
    """Return a password as every keyboard types it (RFC 8265, 4.2: NFC)."""
    return unicodedata.normalize("NFC", password)
