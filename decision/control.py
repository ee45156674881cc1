"""How far the station may go: what clients of the OPC UA server have ordered, kept through any `kill -9` of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from msgspec.structs import replace

from config import files
from config.errors import MessageError
from config.log import logger
from config.messages import Control, Controlled, Group, Mode, Standing, as_json, from_json
from decision.vision.states import mode_after, state_of

Refusal = Literal["", "STATE", "RECIPE", "JOB"]
GIVING_UP: Final = ("Abort", "Reset")  # methods that end the parts under way; the others let them be judged


class Kept(Group, frozen=True, kw_only=True):
    """What a restarted decision stage must know."""

    mode: Mode = Mode.CONTINUOUS
    order: int = 0
    method: str = ""
    who: str = ""


class Controls:
    """The mode of one run. A new run begins with judging whatever comes."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Take up what was ordered in this run; what former ones have left in `folder` is removed."""
        self._path = folder / f"control.{run_id}"
        for former in folder.glob("control.*"):
            if former != self._path:
                former.unlink(missing_ok=True)
        self._kept = self._read()
        self._single: str | None = None  # the part that a single job is about
        self._been_operational = False
        self._waiting: list[tuple[bytes, Control]] = []  # carried out once no part is under way
        self._shown = self._kept

    def _read(self) -> Kept:
        if not self._path.exists():
            return Kept()
        try:
            kept = from_json(Kept, self._path.read_bytes())
        except MessageError as error:
            logger().warning("what was ordered in this run is lost: no part is taken", damage=str(error))
            return Kept(mode=Mode.READY, who="a damaged file")
        # which part the single job was about is not known any more: better none than two
        return replace(kept, mode=Mode.READY) if kept.mode is Mode.SINGLE else kept

    @property
    def prepared(self) -> bool:
        """Whether a client lets the station have a recipe to judge by."""
        return self._shown.mode is not Mode.INITIALIZED

    @property
    def why_none(self) -> str:
        """Why no part is taken; empty where the next one is."""
        if self.takes():
            return ""
        return f"{self._kept.mode}: {self._kept.method} by {self._kept.who}" if self._single is None else "single job"

    def takes(self) -> bool:
        """Tell whether a part that is triggered now is to be judged."""
        return self._kept.mode is Mode.CONTINUOUS or (self._kept.mode is Mode.SINGLE and self._single is None)

    def taken(self, part_id: str) -> None:
        """Remember the part that was triggered: of a single job it is the only one."""
        if self._kept.mode is Mode.SINGLE:
            self._single = part_id

    def judged(self, part_id: str) -> None:
        """End a single job with its part."""
        if part_id == self._single:
            self._keep(replace(self._kept, mode=Mode.READY))

    def refuses(self, control: Control, standing: Standing, *, recipe: str | None, asked: str | None) -> Refusal:
        """Return why an order cannot be carried out: STATE, RECIPE, JOB; empty where it can.

        `standing` is how the station stands now, `recipe` the one that it would judge by, `asked` the one that the PLC
        has asked for, if it has.
        """
        state = state_of(standing, heard=True, been_operational=self._been_operational)
        unable = control.method == "SelectModeAutomatic" and standing.state != "READY"
        if unable or mode_after(control.method, state) is None:
            return "STATE"
        if control.method.startswith("Prepare"):
            return "JOB" if asked not in (None, control.recipe) else ""
        return "RECIPE" if control.recipe not in (None, recipe) else ""

    def order(self, control: Control, standing: Standing, peer: bytes) -> None:
        """Carry out what was not refused; it is answered by `answers` once no part is under way."""
        state = state_of(standing, heard=True, been_operational=self._been_operational)
        mode = mode_after(control.method, state)
        if mode is None:
            raise ValueError(f"{control.method} in {state}: ask refuses() first")
        if mode is not self._kept.mode or control.recipe is not None:
            self._keep(Kept(mode=mode, order=self._kept.order + 1, method=control.method, who=control.who))
        self._waiting.append((peer, control))

    def show(self, standing: Standing, *, open_parts: int) -> Standing:
        """Return how the station stands, with the mode: a stop is complete when the parts under way are judged."""
        if not open_parts or self.takes():
            self._shown = self._kept
        shown = self._shown
        standing = replace(standing, mode=shown.mode, order=shown.order, method=shown.method)
        state = state_of(standing, heard=True, been_operational=self._been_operational)
        self._been_operational |= state.automatic
        return standing

    def answers(self, standing: Standing, *, open_parts: int) -> list[tuple[bytes, Controlled]]:
        """Return to whom to say that an order is carried out; `standing` is what `show` returned."""
        if open_parts and not self.takes():
            return []
        waiting, self._waiting = self._waiting, []
        return [
            (peer, Controlled(order_id=control.order_id, refused="", standing=standing)) for peer, control in waiting
        ]

    def _keep(self, kept: Kept) -> None:
        self._single = None
        files.write(self._path, as_json(kept))
        self._kept = kept
