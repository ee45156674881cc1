"""The state folder: where one station keeps everything, and the short-lived runtime folder beside it.

home/station.json   the station as it runs (paths absolute)
home/run.json       this run: its id and length
home/start.json     when the simulated line started (written once every process is READY)
home/versions/      the recipes in force in this run, and all that ever were
home/lessons/       products that are taught anew at the console (`config/lessons.py`)
home/bundles/       bundles that were released there, or fitted by `andon up`
home/journal/       verdicts on their way to PostgreSQL
home/log/           log of every process
/dev/shm/andon-…    rings, outbox and sockets: gone with the machine's power, kept through any kill -9
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from config import files, station
from config.curve import Keys
from config.errors import ConfigurationError
from config.holds import Holds
from config.recipe import Recipe
from config.schedule import Schedule
from config.station import Station
from config.versions import Versions

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Run(BaseModel):
    """One run of the station; part ids carry its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    parts: int | None = None
    demo: bool = False  # the parts are the demo's, not a customer's


class _Start(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    start_ns: int
    boot_id: str


class Home:
    """The state folder of one station."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.path = path.absolute()
        key = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:12]
        named, memory = os.environ.get("ANDON_RUNTIME"), Path("/dev/shm")  # noqa: S108 - see make(): ours alone
        parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
        parent = Path(named) if named else parent
        self.runtime = parent / f"andon-{os.getuid()}-{key}"
        self.journal = self.path / "journal"
        self.log = self.path / "log"

    def make(self) -> None:
        """Make the folders; raise ConfigurationError where that cannot be."""
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711)  # whatever the umask: root's servers run as another account, and must pass
            for folder in (self.journal, self.log):
                folder.mkdir(exist_ok=True)
            self.runtime.mkdir(mode=0o700, exist_ok=True)
            owner = self.runtime.lstat()
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename}: no state folder can be made here: {error.strerror}; name another with --home"
            ) from error
        if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or self.runtime.is_symlink():
            raise ConfigurationError(f"{self.runtime}: belongs to somebody else or is open to others: remove it")

    def read_station(self) -> Station:
        """Return the station that runs here."""
        return station.read(self.path / "station.json")

    def write_station(self, running: Station) -> None:
        """Keep the station that runs here."""
        files.write(self.path / "station.json", running.model_dump_json(indent=2).encode())

    def read_run(self) -> Run:
        """Return the present run."""
        return files.read(self.path / "run.json", Run)

    def write_run(self, run: Run) -> None:
        """Begin a run: forget the last one's start."""
        (self.path / "start.json").unlink(missing_ok=True)
        files.write(self.path / "run.json", run.model_dump_json().encode())

    def write_start(self, run: Run, start_ns: int) -> None:
        """Let the simulated line start at `start_ns`."""
        start = _Start(run_id=run.run_id, start_ns=start_ns, boot_id=_boot_id())
        files.write(self.path / "start.json", start.model_dump_json().encode())

    def schedule(self) -> Schedule | None:
        """Return the simulated line's schedule; None while it has not started or where the line is a real one."""
        path = self.path / "start.json"
        simulation = self.read_station().simulation
        if simulation is None or not path.exists():
            return None
        start, run = files.read(path, _Start), self.read_run()
        if (start.run_id, start.boot_id) != (run.run_id, _boot_id()):
            return None
        return Schedule(simulation, start.start_ns, run.parts, self.holds().read())

    def bundle(self, digest: str) -> Path | None:
        """Return where a bundle lies that was put into this machine's `bundles` under its digest; None: nowhere."""
        name = digest.removeprefix("sha256:")
        if not _DIGEST.fullmatch(name):
            return None
        return next(iter(sorted((self.path / "bundles").glob(f"*-{name}.andon"))), None)

    def holds(self) -> Holds:
        """Return what tells when the simulated belt of this run was held."""
        return Holds(self.runtime, self.read_run().run_id)

    def versions(self) -> Versions:
        """Return what tells which versions of the recipes are in force."""
        return Versions(self.path / "versions")

    def read_recipes(self) -> dict[str, Recipe]:
        """Return the recipes by name as they are in force in this run; before it has any, as the files say them."""
        versions, running = self.versions(), self.read_station()
        found = versions.read(self.read_run().run_id, running) if versions.exists() else None
        return found if found is not None else running.read_recipes()

    def endpoint(self, name: str) -> str:
        """Return the address of a bus endpoint such as `triggers`: a socket here unless the station file says else."""
        try:
            addresses = json.loads((self.path / "station.json").read_text(encoding="utf-8"))["endpoints"]
        except FileNotFoundError:
            addresses = {}
        return str(addresses.get(name, f"ipc://{self.runtime}/{name}.sock"))

    def keys(self) -> Keys | None:
        """Return the keys of the station's bus; None where it is not encrypted, or nothing runs here yet."""
        path = self.path / "station.json"
        named = self.read_station().bus_keys if path.exists() else None
        return Keys.read(named) if named else None

    def addresses(self, name: str) -> list[str]:
        """Return every address that a bus endpoint is bound to: workers of other machines have one for themselves."""
        remote = self.read_station().remote_endpoints().get(name)
        return [self.endpoint(name), *([remote] if remote else ())]


def default_path() -> Path:
    """Return the state folder that counts where none is named: ANDON_HOME, /var/lib/andon for root, or XDG's."""
    named = os.environ.get("ANDON_HOME")
    if named:
        return Path(named)
    if os.getuid() == 0:
        return Path("/var/lib/andon")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "andon"


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""
