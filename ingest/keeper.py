"""What becomes of a judged frame: pictures as the recipe wants them, or fewer where the line would have to wait.

Slots of the ring are the line's first: pictures are made less faithful, then given up, before one costs an overrun.
What waits for storage is bound by number and by bytes. Each of these has its counter and its two log lines.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from config.courier import Courier
from config.log import Condition
from config.messages import Fidelity, encode
from ingest.evidence import EvidenceMaker, Finished, Judged

if TYPE_CHECKING:
    from collections import Counter

    from config.bus import Socket
    from config.messages import Recorded
    from ingest.shutter import Shutter

_WAITING_SHARE = 0.5  # of the ring's slots may wait for the encoder;
_FAITHFUL_SHARE = 0.25  # beyond this one as reduced JPEGs only;
_FREE_SHARE = 0.25  # none while fewer than this are free
_KEPT = 500  # pictures that wait for storage,
_KEPT_BYTES = 64_000_000  # and their bytes; the newest is kept whatever its size


class Keeper:
    """Hand judged frames of one camera to the encoder, free their slots, and send the pictures to storage."""

    def __init__(
        self, shutter: Shutter, slots: int, image_side_px: int, records: Socket, counters: Counter[str]
    ) -> None:
        """Encode frames that lie in the `slots` slots of `shutter`; send to storage over `records`."""
        self._shutter = shutter
        self._slots = slots
        self._courier = Courier(records)
        self._counters = counters
        self._maker = EvidenceMaker(image_side_px)
        self._encoding = 0
        self._bytes: dict[str, int] = {}  # of what waits for storage, by record id
        self._reduced = Condition("evidence_reduced", counters)
        self._shed = Condition("evidence_shed", counters)
        self._lost = Condition("evidence_lost", counters)
        self._failed = Condition("evidence_failed", counters)

    def start(self) -> None:
        """Start the encoder's thread."""
        self._maker.start()

    def fileno(self) -> int:
        """Return the descriptor that can be read while finished pictures wait for `collect`."""
        return self._maker.mailbox.fileno()

    def keep(self, job: Judged) -> None:
        """Encode what a frame's job asks for, or less; its slot is freed when nobody needs it any more."""
        if job.fidelity is Fidelity.NONE and not job.live:
            self._shutter.free(job.slot)
            return
        if self._encoding >= _WAITING_SHARE * self._slots:
            self._give_up(job)
            return
        if job.fidelity in {Fidelity.EXACT, Fidelity.FULL} and self._encoding >= _FAITHFUL_SHARE * self._slots:
            self._reduced.occur(part_id=job.verdict.part_id, wanted=job.fidelity)
            job = replace(job, fidelity=Fidelity.REDUCED)
        self._encoding += 1
        self._maker.put(job)
        self.make_room()

    def make_room(self) -> None:
        """Give up the pictures that have waited longest for the encoder while the ring is short of slots."""
        while self._encoding and self._shutter.free_slots < _FREE_SHARE * self._slots:
            job = self._maker.withdraw()
            if job is None:
                return
            self._encoding -= 1
            self._give_up(job)

    def collect(self) -> None:
        """Free the slots of finished frames and send their pictures."""
        for finished in self._maker.mailbox.drain():
            self._encoding -= 1
            self._shutter.free(finished.slot)
            if finished.failure:
                self._failed.occur(error=finished.failure)
            else:
                self._failed.end()
            self._send(finished)
        if not self._encoding:
            self._shed.end()
            self._reduced.end()

    def recorded(self, message: Recorded) -> None:
        """Forget pictures that are on disk."""
        for record_id in self._courier.recorded(message):
            self._bytes.pop(record_id, None)
        if len(self._courier) < _KEPT // 2:
            self._lost.end()

    def tick(self, now_ns: int) -> None:
        """Send again what storage has not confirmed in time."""
        self._courier.tick(now_ns)

    def close(self) -> None:
        """End the encoder's thread."""
        self._maker.close()

    def _give_up(self, job: Judged) -> None:
        if job.fidelity is not Fidelity.NONE:
            self._shed.occur(part_id=job.verdict.part_id)
        self._shutter.free(job.slot)

    def _send(self, finished: Finished) -> None:
        now_ns = time.monotonic_ns()
        for header, content in finished.pictures:
            while len(self._courier) and self._is_full(len(content)):
                record_id = self._courier.drop_oldest()
                self._bytes.pop(record_id, None)
                self._lost.occur(record_id=record_id)
            self._bytes[header.record_id] = len(content)
            self._courier.send(header.record_id, encode(header, [content]), now_ns)
            self._counters["evidence"] += 1

    def _is_full(self, more_bytes: int) -> bool:
        return len(self._courier) >= _KEPT or sum(self._bytes.values()) + more_bytes > _KEPT_BYTES
