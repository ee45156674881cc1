"""The least that a hand-over of copied frames can take between two Python processes, over one memcpy of the pixels.

`PYTHONPATH=. python tests/bench/floor.py`: a socket pair and a ring, nothing else; frames told of by one byte a packet,
and by the headers, generations and answers of the station. To be read beside `andon bench transport`.
"""

from __future__ import annotations

import math
import os
import signal
import socket as sockets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from config.messages import Answered, Frame, PixelFormat, decode, encode
from config.ring import RingReader, RingWriter

Shape = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

_SHAPES: dict[str, Shape] = {"0.3 MP mono": (480, 640, 1), "0.3 MP colour": (480, 640, 3)}
_SLOTS = 8
_ROUNDS = 7
_ROUND_S = 0.2
_PACKET_BYTES = 64 * 1024


def _answer(end: sockets.socket, ring: RingReader, *, headers: bool) -> None:
    while packet := end.recv(_PACKET_BYTES):
        if not headers:
            end.send(packet)
            continue
        ids = []
        for line in packet.split(b"\n"):
            frame, _ = decode(line.split(b" ", 1))
            if isinstance(frame, Frame) and frame.slot and ring.views([frame.slot], frame.shape) is not None:
                ids.append(frame.frame_id)
        end.send(b" ".join(encode(Answered(frame_ids=tuple(ids)))))


def _packet(ring: RingWriter, numbers: range, sources: Pixels, *, headers: bool) -> bytes:
    height, width, channels = sources.shape[1:]
    slots = [ring.write(number % _SLOTS, sources[number % _SLOTS]) for number in numbers]
    if not headers:
        return bytes((len(numbers),))
    frames = [
        Frame(
            frame_id=str(number),
            part_id=str(number),
            camera="c",
            recipe="r",
            shape=(height, width, channels),
            pixel_format=PixelFormat.of(channels),
            trigger_ns=0,
            deadline_ns=0,
            slot=slot,
        )
        for number, slot in zip(numbers, slots, strict=True)
    ]
    return b"\n".join([b" ".join(encode(frame)) for frame in frames])


def _counted(packet: bytes, *, headers: bool) -> int:
    if not headers:
        return packet[0]
    answered, _ = decode(packet.split(b" ", 1))
    return len(answered.frame_ids) if isinstance(answered, Answered) else 0


def _copies_per_s(sources: Pixels, target: Pixels) -> float:
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _ROUND_S:
        np.copyto(target[count % _SLOTS], sources[count % _SLOTS])
        count += 1
    return count / took


def _handed_per_s(end: sockets.socket, ring: RingWriter, sources: Pixels, together: int, *, headers: bool) -> float:
    sent = done = 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < _ROUND_S or done < sent:
        while took < _ROUND_S and sent - done <= _SLOTS - together:
            end.send(_packet(ring, range(sent, sent + together), sources, headers=headers))
            sent += together
        done += _counted(end.recv(_PACKET_BYTES), headers=headers)
    return done / took


def _ratios(shape: Shape, together: int, *, headers: bool) -> list[float]:
    """Return what a hand-over took over a memcpy of the same pixels, in turns."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        ring = RingWriter(Path(folder) / "ring", _SLOTS, math.prod(shape))
        ours, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            _answer(theirs, RingReader(Path(folder) / "ring"), headers=headers)
            os._exit(0)
        sources: Pixels = np.random.default_rng(0).integers(0, 255, (_SLOTS, *shape), np.uint8)
        target = sources.copy()
        try:
            return [
                _copies_per_s(sources, target) / _handed_per_s(ours, ring, sources, together, headers=headers)
                for _ in range(_ROUNDS)
            ]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    for name, shape in _SHAPES.items():
        for headers in (False, True):
            for together in (1, 2, 4, 8):
                ratios = _ratios(shape, together, headers=headers)
                told = "headers" if headers else "one byte"
                line = f"{name}, {told}, {together} a packet: {median(ratios):.2f} (lowest {min(ratios):.2f})"
                sys.stdout.write(f"{line}\n")
