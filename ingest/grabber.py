"""The grabber: one camera's triggers and frames, its ring, and the workers that have credit with it.

    camera thread --exposure--> loop --Trigger--> decision --Verdict--> loop --Evidence--> storage
                                  └--Frame--> worker (--Prediction--> decision) --Answered--> loop

A frame is the grabber's from the exposure to the verdict: it re-sends it when a worker dies, it re-announces its
triggers when the decision stage was restarted, and it frees the slot when the verdict is in and the pictures are made.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import TYPE_CHECKING

import zmq
from msgspec.structs import replace

from config import bus, plugins
from config.errors import ConfigurationError
from config.handover import Giver
from config.log import Condition
from config.messages import (
    Answered,
    AnyMessage,
    Buffer,
    Bundles,
    Clock,
    Credit,
    Enlist,
    Expose,
    Fidelity,
    Frame,
    Job,
    Loss,
    PixelFormat,
    Reason,
    Recorded,
    Trigger,
    Verdict,
)
from config.service import Service
from config.wishes import Wishes
from ingest.announced import Announced
from ingest.camera import TriggerLine
from ingest.crew import Crew
from ingest.cursor import Cursor
from ingest.evidence import Judged
from ingest.keeper import Keeper
from ingest.shutter import Shutter, Taken
from ingest.wanted import Wanted

if TYPE_CHECKING:
    from config.home import Home

_ENLIST_NS = 200_000_000
_PROBE_NS = 50_000_000
_WITHOUT_JOB_NS = 2_000_000_000  # then the station file's recipe counts
_GRACE_NS = 500_000_000  # after the deadline, before a trigger without verdict is sent again
_HELD_MOST = 20_000  # parts without a verdict; at ten a second half an hour without decision stage
_AHEAD_NS = 5_000_000  # so much the camera's clock may be off
_REPEATED = 64  # triggers announced again after a restart; decision knows those that it has judged


@dataclass
class _Held:
    """A triggered part whose verdict is not in yet."""

    trigger: Trigger
    frame: Frame | None
    loss: Loss | None
    announced_ns: int


class Grabber(Service):
    """The service of one camera."""

    def __init__(self, home: Home, camera: str) -> None:
        super().__init__(f"camera-{camera}", home)
        self._station = home.read_station()
        section = next((one for one in self._station.cameras if one.name == camera), None)
        if section is None:
            known = ", ".join(one.name for one in self._station.cameras)
            raise ConfigurationError(f"the station has no camera {camera!r}: there are {known}")
        self._section = section
        self._recipes = home.read_recipes()
        self._run_id = home.read_run().run_id
        self._wishes = Wanted(Wishes(home.runtime), camera, self.counters)
        self._crew = Crew()
        self._held: dict[str, _Held] = {}  # by part id
        self._job: Job | None = None
        self._live_ns = 0
        self._due_ns = {"enlist": 0, "probe": 0}
        self._overrun = Condition("overrun", self.counters)
        self._announced = Announced()
        self._repeated = Condition("exposure_repeated", self.counters)
        self._skipped = Condition("trigger_skipped", self.counters)
        self._malformed = Condition("malformed_frame", self.counters)
        self._ahead = Condition("exposure_ahead", self.counters)
        self._trigger_lost = Condition("trigger_lost", self.counters)
        self._no_worker = Condition("no_worker", self.counters)
        self._silent = Condition("worker_silent", self.counters)

    def open(self) -> None:
        """Take the camera, make the ring, find the other stages."""
        plug_in = plugins.load("ingest.cameras", self._section.type)
        options = plugins.options(plug_in, self._section.options, f"camera {self._section.name}: options")
        self._line = TriggerLine(self.home)
        camera = plug_in.Camera(options, self._section.name, self._line)
        self._shutter = Shutter(camera, self._section.name, self.home.runtime, self._section.slots)
        self._line.film = self._shutter
        self._cursor = Cursor(self.home.runtime / f"{self._section.name}.{self._run_id}.cursor")
        addresses = self.home.addresses(f"camera.{self._section.name}")
        self._giver = Giver(self.bus, addresses, self._from_worker, self._lose, self.counters)
        self._decision = self.bus.connect(zmq.DEALER, self.home.endpoint("triggers"), self._section.name)
        records = self.bus.connect(zmq.DEALER, self.home.endpoint("records"), f"camera-{self._section.name}")
        side_px = self._station.storage.image_side_px
        self._keeper = Keeper(self._shutter, self._section.slots, side_px, records, self.counters)
        self._keeper.start()
        for source, receive in self._giver.sources.items():
            self.watch(source, receive)
        self.watch(self._decision, bus.Receiver(self._decision, self._from_decision, self.counters))
        self.watch(records, bus.Receiver(records, self._from_storage, self.counters))
        self.watch(self._shutter.mailbox.fileno(), self._expose)
        self.watch(self._keeper.fileno(), self._keeper.collect)
        self._opened_ns = time.monotonic_ns()

    def tick(self, now_ns: int) -> None:
        """Look for dead workers, keep in touch with decision, send again what got no answer."""
        if not self._shutter.started and (self._job or now_ns - self._opened_ns > _WITHOUT_JOB_NS):
            self._shutter.start(max(0, self._cursor.read() - _REPEATED))
        if now_ns >= self._due_ns["probe"]:
            self._due_ns["probe"] = now_ns + _PROBE_NS
            self._probe(now_ns)
            self._announce_again(now_ns)
            self._keeper.tick(now_ns)
            self._wishes.look(now_ns)
        if now_ns >= self._due_ns["enlist"]:
            self._due_ns["enlist"] = now_ns + _ENLIST_NS
            bus.send(self._decision, Enlist(camera=self._section.name, workers=len(self._crew.workers)))
            if not self._crew.workers:
                self._no_worker.occur()
        self._dispatch()

    def next_ns(self) -> int | None:
        """Wake for the next probe while frames are out, so that a dead worker is noticed at once."""
        return self._due_ns["probe"] if any(worker.frames for worker in self._crew.workers.values()) else None

    def close(self) -> None:
        """Release the camera and the ring."""
        if hasattr(self, "_line"):
            self._line.close()
        if hasattr(self, "_shutter"):
            self._shutter.close()
        if hasattr(self, "_giver"):
            self._giver.close()
        if hasattr(self, "_keeper"):
            self._keeper.close()

    def _expose(self) -> None:
        for taken in self._shutter.mailbox.drain():
            if isinstance(taken, BaseException):
                raise taken
            if taken is None:
                self.detail = "no more parts"
            else:
                self._announce(taken)
        self._shutter.go_on()

    def _announce(self, taken: Taken) -> None:
        if not self._announced.take(taken.exposure.sequence):
            self._repeated.occur(sequence=taken.exposure.sequence)
            self._shutter.free(taken.slot)
            return
        self._repeated.end()
        if taken.exposure.order is None and self._announced.skipped:
            self._skipped.occur(triggers=self._announced.skipped, before=taken.exposure.sequence)
        else:
            self._skipped.end()
        taken = self._believed(taken)
        exposure, camera, order = taken.exposure, self._section.name, taken.exposure.order
        recipe, deadline_ns = self._wanted(taken)
        views = tuple(self._recipes[recipe].views)
        if camera not in views:
            self._cursor.write(exposure.sequence + 1)
            self._shutter.free(taken.slot)
            return
        self.counters["triggers"] += 1
        now_ns = time.monotonic_ns()
        trigger = Trigger(
            part_id=order.part_id if order else f"{self._station.station}-{self._run_id}-{exposure.sequence:08d}",
            sequence=exposure.sequence,
            station=self._station.station,
            camera=camera,
            views=views,
            recipe=recipe,
            trigger_ns=exposure.time_ns,
            trigger_time_ns=order.trigger_time_ns if order else time.time_ns() - (now_ns - exposure.time_ns),
            deadline_ns=deadline_ns,
            truth=exposure.truth,
        )
        frame, loss = None, None
        if taken.reason is None and exposure.pixels is not None:
            height, width, colours = exposure.pixels.shape
            frame = Frame(
                frame_id=f"{trigger.part_id}/{camera}",
                part_id=trigger.part_id,
                camera=camera,
                recipe=recipe,
                shape=(height, width, colours),
                pixel_format=exposure.pixel_format or PixelFormat.of(colours),
                trigger_ns=trigger.trigger_ns,
                deadline_ns=trigger.deadline_ns,
                bundle=self._bundle(taken, recipe),
                slot=taken.slot,
            )
            self._overrun.end()
            self.counters["frames"] += 1
        else:
            loss = Loss(part_id=trigger.part_id, camera=camera, reason=taken.reason or Reason.UNREADABLE_FRAME)
            if loss.reason is Reason.OVERRUN:
                self._overrun.occur(part_id=trigger.part_id)
            else:
                self.counters[f"lost_{loss.reason.lower()}"] += 1
        if len(self._held) >= _HELD_MOST:
            lost = next(iter(self._held))
            self._trigger_lost.occur(part_id=lost)
            self._forget(lost)
        self._held[trigger.part_id] = _Held(trigger, frame, loss, now_ns)
        if frame:  # first: it has the longer way to go, and decision keeps a prediction that comes before its trigger
            self._crew.wait(trigger.part_id)
            self._dispatch()
        self._tell_decision(self._held[trigger.part_id])
        self._cursor.write(exposure.sequence + 1)
        self._keeper.make_room()

    def _believed(self, taken: Taken) -> Taken:
        """Return what was taken; without its picture where that is none, or is of a moment that has not come yet."""
        now_ns = time.monotonic_ns()
        if taken.detail:
            self._malformed.occur(sequence=taken.exposure.sequence, came=taken.detail)
        elif taken.slot is not None:
            self._malformed.end()
        ahead_ns = taken.exposure.time_ns - now_ns
        if ahead_ns <= _AHEAD_NS:
            self._ahead.end()
            return taken
        self._ahead.occur(sequence=taken.exposure.sequence, ahead_s=ahead_ns / 1e9)
        self._shutter.free(taken.slot)
        return Taken(replaced(taken.exposure, time_ns=now_ns), None, Reason.UNREADABLE_FRAME)

    def _wanted(self, taken: Taken) -> tuple[str, int]:
        """Return by which recipe the part is to be judged and by when: by its Job as it is in force."""
        exposure = taken.exposure
        if exposure.order is not None:
            return exposure.order.recipe, exposure.order.deadline_ns
        if self._job is not None:
            return self._job.recipe, exposure.time_ns + self._job.deadline_ms * 1_000_000
        recipe = self._station.recipe
        return recipe, exposure.time_ns + self._recipes[recipe].deadline_ms * 1_000_000

    def _bundle(self, taken: Taken, recipe: str) -> str | None:
        """Return which bundle is to judge the part's view, as decision says."""
        camera, exposure = self._section.name, taken.exposure
        if exposure.order is not None and camera in exposure.order.bundles:
            return exposure.order.bundles[camera]
        if self._job is not None and self._job.recipe == recipe and self._job.stamps:
            return self._job.bundle(camera, exposure.sequence)
        return self._recipes[recipe].views[camera].bundle_digest

    def _tell_decision(self, held: _Held) -> None:
        bus.send(self._decision, held.trigger)
        if held.loss:
            bus.send(self._decision, held.loss)

    def _announce_again(self, now_ns: int) -> None:
        """Send triggers again that should have had a verdict by now: it or they got lost on the way."""
        for part_id, held in list(self._held.items()):
            if now_ns < held.trigger.deadline_ns + _GRACE_NS:
                break
            if held.frame:
                # Nobody can judge it in time any more: make room, keep asking for the verdict.
                self._crew.drop(part_id)
                self._shutter.free(held.frame.slot)
                held.frame = None
                held.loss = Loss(part_id=part_id, camera=self._section.name, reason=Reason.LATE)
            if now_ns - held.announced_ns > _GRACE_NS:
                held.announced_ns = now_ns
                self.counters["triggers_repeated"] += 1
                self._tell_decision(held)

    def _dispatch(self) -> None:
        now_ns = time.monotonic_ns()
        given: dict[bytes, list[Frame]] = {}
        while (chosen := self._crew.assign(now_ns)) is not None:
            peer, part_id = chosen
            held = self._held.get(part_id)
            if held is None or held.frame is None:
                self._crew.withdraw(peer, part_id)
            else:
                given.setdefault(peer, []).append(held.frame)
        for peer, frames in given.items():
            if self._give(peer, frames):
                self.counters["frames_sent"] += len(frames)
            else:
                self._lose(peer)

    def _give(self, peer: bytes, frames: list[Frame]) -> bool:
        if self._crew.workers[peer].shares_memory:
            return self._giver.send_all(peer, frames)
        return all(
            self._giver.send(peer, replace(frame, slot=None), [self._shutter.lend(frame.slot, frame.shape)])
            for frame in frames
            if frame.slot
        )

    def _probe(self, now_ns: int) -> None:
        for peer in list(self._crew.workers):
            if not self._giver.reachable(peer):
                self._lose(peer)
        if doubtful := self._crew.doubt(now_ns):
            self._silent.occur(frames=len(doubtful))
            self._send_again(doubtful, now_ns)
        elif not any(worker.doubted for worker in self._crew.workers.values()):
            self._silent.end()

    def _lose(self, peer: bytes) -> None:
        if peer not in self._crew.workers:
            return
        self.counters["workers_lost"] += 1
        self._send_again(self._crew.lose(peer), time.monotonic_ns())
        self._dispatch()

    def _send_again(self, part_ids: set[str], now_ns: int) -> None:
        again = sorted((part for part in part_ids if self._in_time(part, now_ns)), reverse=True)
        for part_id in again:
            self._crew.wait(part_id, first=True)
        self.counters["frames_resent"] += len(again)

    def _in_time(self, part_id: str, now_ns: int) -> bool:
        held = self._held.get(part_id)
        return held is not None and held.frame is not None and now_ns < held.frame.deadline_ns

    def _from_worker(self, message: AnyMessage, _payload: list[Buffer], peer: bytes) -> None:
        if isinstance(message, Credit):
            self._no_worker.end()
            job, able = self._job, True
            if job is not None and job.revision:
                wanted = (*job.bundles, *job.wanted)
                self._giver.send(peer, Bundles(epoch=job.epoch, revision=job.revision, wanted=wanted))
                able = message.bundles is None or set(job.bundles) <= set(message.bundles)
            self._crew.credit(peer, message.capacity if able else 0, shares_memory=message.shares_memory)
            if not message.shares_memory:
                self._giver.send(peer, Clock(asked_ns=message.sent_ns, now_ns=time.monotonic_ns()))
        elif isinstance(message, Answered):
            now_ns, suffix = time.monotonic_ns(), f"/{self._section.name}"
            for frame_id in message.frame_ids:
                self._crew.answered(peer, frame_id.removesuffix(suffix), now_ns)
        self._dispatch()

    def _from_decision(self, message: AnyMessage, _payload: list[bytes], _peer: bytes) -> None:
        if isinstance(message, Job):
            restarted = self._job is not None and self._job.epoch != message.epoch
            self._job = message
            if restarted:
                self._begin_again()
        elif isinstance(message, Expose):
            self._line.expose(message)
        elif isinstance(message, Verdict):
            self._settle(message)

    def _begin_again(self) -> None:
        """Tell a restarted decision stage of every part it has not judged; have the frames predicted again."""
        now_ns = time.monotonic_ns()
        for part_id, held in self._held.items():
            self.counters["triggers_repeated"] += 1
            held.announced_ns = now_ns
            self._tell_decision(held)
            if self._in_time(part_id, now_ns):
                self._crew.drop(part_id)
                self._crew.wait(part_id)

    def _forget(self, part_id: str) -> None:
        held = self._held.pop(part_id)
        self._crew.drop(part_id)
        if held.frame:
            self._shutter.free(held.frame.slot)

    def _settle(self, verdict: Verdict) -> None:
        self._trigger_lost.end()
        held = self._held.pop(verdict.part_id, None)
        if held is None or held.frame is None:
            return
        self._crew.drop(verdict.part_id)
        self.counters["settled"] += 1
        slot, live = held.frame.slot, self._is_live()
        if slot is not None:
            pixels = self._shutter.view(slot, held.frame.shape)
            fidelity = Fidelity.EXACT if self._wishes.takes(verdict) else verdict.pixels
            self._keeper.keep(Judged(slot, pixels, verdict, self._section.name, fidelity, live))

    def _is_live(self) -> bool:
        rate_per_s = self._station.storage.live_images_per_s
        now_ns = time.monotonic_ns()
        if not rate_per_s or now_ns < self._live_ns:
            return False
        self._live_ns = now_ns + round(1e9 / rate_per_s)
        return True

    def _from_storage(self, message: AnyMessage, _payload: list[bytes], _peer: bytes) -> None:
        if isinstance(message, Recorded):
            self._keeper.recorded(message)
