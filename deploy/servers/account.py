"""Whom a server runs as: PostgreSQL refuses root, so root hands its servers to an ordinary account."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.errors import ConfigurationError

_NOBODY = 65534  # the kernel's overflow uid: there even where no account has it

_PATIENCE_S = 120  # initdb takes one second, and many on a slow disk


@dataclass(frozen=True)
class Account:
    """An ordinary account that root runs a server as."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """Return its name, or its uid where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


def choose(data: Path) -> Account | None:
    """Return the account that a server with the data folder `data` runs as; None: as we are, since we are not root.

    The owner of a data folder keeps it, also when a more suitable account comes up later.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(_NOBODY, _NOBODY)


def run(
    command: Sequence[str | Path], account: Account | None, *, where: Path = Path("/"), text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as `account`, in the folder `where`, with `text` as its input, in environment().

    Raise OSError where it cannot be started, TimeoutExpired where it does not end.
    """
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=where,
        env=environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        timeout=_PATIENCE_S,
    )


def environment() -> dict[str, str]:
    """Return the environment of servers: English messages, UTC, and nothing of ours (PGPORT would count, for one)."""
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


def check_enters(account: Account | None, folder: Path) -> None:
    """Raise ConfigurationError, naming the one that blocks, unless `account` may enter `folder` and all above it."""
    if account is None or _enters(account, folder):
        return
    blocked = next(parent for parent in (*reversed(folder.parents), folder) if not _enters(account, parent))
    raise ConfigurationError(
        f"{blocked}: the account '{account.name}', which runs the servers for root, may not enter this folder "
        f"(mode {blocked.stat().st_mode & 0o7777:04o}): keep the state where it may, as in /var/lib/andon "
        "(--home or ANDON_HOME), or let it enter: chmod o+x"
    )


def _enters(account: Account, folder: Path) -> bool:
    # The kernel is asked: permission bits alone would not know of access control lists.
    return run(["/bin/sh", "-c", 'test -x "$1"', "sh", folder], account).returncode == 0
