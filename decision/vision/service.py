"""The process of the OPC UA server: told by the decision stage, which never waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import zmq

from config import bus, recipe
from config.errors import ServiceError
from config.home import Home
from config.log import Condition
from config.mailbox import Mailbox
from config.messages import AnyMessage, Control, Controlled, Standing, Verdict
from config.service import Service
from decision.vision.orders import Denied
from decision.vision.server import InForce, VisionServer
from decision.vision.states import VisionState, state_of

_SILENT_NS = 2_000_000_000  # the decision stage says ten times a second how it stands
_OPEN_S = 30.0
_CLOSE_S = 0.5
_WAITING = 1000  # messages that the server has not taken yet; with more it hangs, and is started again


class Vision(Service):
    """Shows the station to OPC UA clients, and takes their orders to the decision stage."""

    def __init__(self, home: Home) -> None:
        super().__init__("opcua", home)
        modified = datetime.fromtimestamp((home.path / "station.json").stat().st_mtime, UTC)
        self._orders: Mailbox[Control | Denied] = Mailbox()
        self._denied = Condition("control_denied", self.counters)
        self._versions_ns = home.versions().changed_ns()
        self._server = VisionServer(home.read_station(), modified, self._in_force(), self._orders.put)
        self._server_loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._server_loop.run_forever, name="opcua", daemon=True)
        self._standing: Standing | None = None
        self._heard_ns = 0
        self._been_operational = False
        self._told: tuple[VisionState, str, Standing | None] | None = None
        self._waiting: set[Future[None]] = set()

    def open(self) -> None:
        """Listen for clients and for the decision stage."""
        self._thread.start()
        self._call(self._server.open()).result(_OPEN_S)
        news = self.bus.connect(zmq.SUB, self.home.endpoint("onlookers"))
        news.setsockopt(zmq.SUBSCRIBE, b"")
        self.watch(news, bus.Receiver(news, self._from_decision, self.counters))
        self._controls = self.bus.connect(zmq.DEALER, self.home.endpoint("controls"), "opcua")
        self.watch(self._controls, bus.Receiver(self._controls, self._from_decision, self.counters))
        self.watch(self._orders.fileno(), self._pass_on)

    def tick(self, now_ns: int) -> None:
        """Show how the station stands; end where the server has failed."""
        standing = self._standing
        state = state_of(standing, heard=now_ns - self._heard_ns < _SILENT_NS, been_operational=self._been_operational)
        self._been_operational |= state.automatic
        why = "the decision stage is silent" if standing and now_ns - self._heard_ns >= _SILENT_NS else ""
        why = why or (standing.detail if standing else "")
        told = (state, why, standing)
        if told != self._told:
            self._told = told
            self._wait_for(self._server.stand(*told))
        changed_ns = self.home.versions().changed_ns()
        if changed_ns != self._versions_ns:
            self._versions_ns = changed_ns
            self._wait_for(self._server.renew(self._in_force()))
        for done in [one for one in self._waiting if one.done()]:
            self._waiting.discard(done)
            done.result()  # what it raised ends the process, and it is started again
        self.counters["waiting"] = len(self._waiting)

    def close(self) -> None:
        """Say goodbye to the clients."""
        if self._thread.is_alive():
            closing = self._call(self._server.close())
            try:
                closing.result(_CLOSE_S)
            except TimeoutError:
                self.counters["close_timeout"] += 1
            self._server_loop.call_soon_threadsafe(self._server_loop.stop)
            self._thread.join(_CLOSE_S)

    def _in_force(self) -> dict[str, InForce]:
        versions, files = self.home.versions(), self.home.read_station().recipes
        found = {}
        for name, one in self.home.read_recipes().items():
            since = versions.kept_since(recipe.digest(recipe.content(one)))
            found[name] = InForce(one, since or datetime.fromtimestamp(files[name].stat().st_mtime, UTC))
        return found

    def _from_decision(self, message: AnyMessage, _payload: list[bytes], _peer: bytes) -> None:
        if isinstance(message, Standing):
            self._standing, self._heard_ns = message, time.monotonic_ns()
        elif isinstance(message, Verdict):
            self.counters["verdicts"] += 1
            self._wait_for(self._server.judged(message))
        elif isinstance(message, Controlled):
            self._standing, self._heard_ns = message.standing, time.monotonic_ns()
            self.tick(self._heard_ns)
            self._wait_for(self._server.answered(message))

    def _pass_on(self) -> None:
        for order in self._orders.drain():
            if isinstance(order, Denied):
                self._denied.occur(method=order.method)
            else:
                self._denied.end()
                self.counters["orders"] += 1
                bus.send(self._controls, order)  # where it is lost, the client's time runs out

    def _wait_for(self, call: Coroutine[Any, Any, None]) -> None:
        if len(self._waiting) >= _WAITING:
            call.close()
            raise ServiceError(f"{_WAITING} messages wait for the OPC UA server: it hangs")
        self._waiting.add(self._call(call))

    def _call(self, call: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(call, self._server_loop)
