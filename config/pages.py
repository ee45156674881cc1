"""Large pages for a process that multiplies matrices: fewer places to look up, 2 to 3 % less time for a frame."""

from __future__ import annotations

import os
import sys

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"


def ask_for_large() -> None:
    """Have glibc ask for large pages (madvise(2)) wherever this process takes memory.

    It reads its tunables only as a process begins: so this one begins again, under the same number, unless it did. Call
    it before anything that takes time. Kernels and C libraries that know nothing of it pass over it.
    """
    given = os.environ.get(_VARIABLE, "")
    if _TUNABLE in given:
        return
    os.environ[_VARIABLE] = ":".join(filter(None, (given, f"{_TUNABLE}=1")))
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very command that this process is
