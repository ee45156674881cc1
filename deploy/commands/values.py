"""What an argument must be."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Read a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def port(text: str) -> int:
    """Read a TCP port."""
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004 - TCP's range
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, not {number}")
    return number
