"""A server's data folder: owned by the account that runs it, closed to everybody else, with settings of ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from config.errors import ConfigurationError, StoreError
from deploy.servers.account import Account

_SOCKET_PATH_BYTES = 107  # what sockaddr_un holds (unix(7)), less its closing zero
_PLAIN = re.compile(r"[\w/.+ -]*")  # libpq and SQLAlchemy take commas and colons in a socket's folder for lists


def sockets(data: Path, socket_name: str) -> Path:
    """Return the folder for a server's socket: its data folder, or a short one where that path cannot be used."""
    if len(os.fsencode(data / socket_name)) <= _SOCKET_PATH_BYTES and _PLAIN.fullmatch(str(data)):
        return data
    key = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    uid = os.geteuid()
    return Path("/tmp" if uid else "/run") / f"andon-{data.name}-{uid}-{key}"  # noqa: S108 - make_private() guards it


def make_private(folder: Path, account: Account | None) -> None:
    """Make `folder` one that only `account` (None: we) can enter; raise ConfigurationError where it is another's.

    Nobody can slip in their own: a folder in our place must be a real one, of the right owner, closed to others.
    """
    uid, gid = (account.uid, account.gid) if account else (os.geteuid(), os.getegid())
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    else:
        os.chown(folder, uid, gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{folder}: must be a folder of uid {uid} with mode 0700, but is of uid {found.st_uid} with mode "
            f"{found.st_mode & 0o7777:04o}: move it away, or give it to the right account if it is yours "
            f"(chown -R {uid}:{gid}, chmod 0700)"
        )


def check_home(home: Path) -> None:
    """Raise ConfigurationError where anybody may put things into the state folder."""
    if home.stat().st_mode & stat.S_IWOTH:
        raise ConfigurationError(f"{home}: everybody may write into this state folder: chmod o-w, or name another")


def write(path: Path, text: str, account: Account | None) -> None:
    """Let the file `path` hold `text`, be the account's and closed to others, whole or not at all.

    The folder may be another account's: root follows no link that lies in it.
    """
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except FileNotFoundError:
        pass
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if account:
            os.fchown(descriptor, account.uid, account.gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


@contextlib.contextmanager
def explained(server: str) -> Iterator[None]:
    """Turn the operating system's errors into ours: ConfigurationError for permissions, StoreError for the rest."""
    try:
        yield
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"{server} cannot be prepared: {error.cmd[0]} took longer than {error.timeout} s") from error
    except OSError as error:
        message = f"{server} cannot be prepared: {error.filename}: {error.strerror}"
        if isinstance(error, (PermissionError, NotADirectoryError)):
            raise ConfigurationError(message) from error
        raise StoreError(message) from error
