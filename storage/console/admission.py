"""Who comes in: sessions and tokens as the database knows them, remembered for a while in case it goes away.

What was looked up counts for a second; a change that is made at this console counts at once. While PostgreSQL is away,
who was signed in lately goes on seeing the live page, for an hour at most; nobody new can sign in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import NamedTuple, TypeVar

from config.errors import StoreError
from config.log import Condition
from storage.sessions import Sessions, Signed, digest
from storage.throttle import Throttle

_FRESH_S = 1.0
_REMEMBERED_S = 3600.0
_MOST = 1000  # sessions and tokens that are remembered
_ANSWERS_S = 1.5
_AGAIN_S = 1.0  # after the database did not answer
_NAME_TRIES = 5
_ADDRESS_TRIES = 20  # a hall of terminals may share one
_WAITING = 8  # sign-ins at a time

Result = TypeVar("Result")


class TooManyTriesError(Exception):
    """Sign-ins failed too often; `wait_s` says for how long none is looked at."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many sign-ins failed: wait {max(1, round(wait_s))} s and try again")
        self.wait_s = max(1, round(wait_s))


class _Known(NamedTuple):
    signed: Signed
    asked_s: float


class Admission:
    """Who is signed in, for one event loop; `forget` may be called from any thread."""

    def __init__(self, sessions: Sessions, counters: Counter[str]) -> None:
        self._sessions = sessions
        self._counters = counters
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._changes = 0
        self._asking: dict[str, asyncio.Task[Signed | None]] = {}
        self._lookups = ThreadPoolExecutor(2, "admission")
        self._trials = ThreadPoolExecutor(1, "sign-in")
        self._owed: Future[Signed | None] | None = None  # a lookup that has not been answered in time
        self._away_until_s = 0.0
        self._away = Condition("sessions_not_known", counters)
        self._names, self._addresses = Throttle(_NAME_TRIES), Throttle(_ADDRESS_TRIES)
        self._waiting = 0

    async def by_session(self, secret: str, *, used: bool = True) -> Signed | None:
        """Return who a session belongs to; raise StoreError where that cannot be known now."""
        return await self._find(digest(secret), lambda: self._sessions.of_session(secret, used=used))

    async def by_token(self, secret: str) -> Signed | None:
        """Return who a token speaks for; raise StoreError where that cannot be known now."""
        return await self._find(digest(secret), lambda: self._sessions.of_token(secret))

    def forget(self, name: str) -> None:
        """Look up again what is known of a person, since it has changed."""
        self._changes += 1
        for key, known in list(self._known.items()):
            if known.signed.name == name:
                self._known.pop(key, None)

    async def sign_in(self, name: str, password: str, address: str, before: str | None) -> str | None:
        """Begin a session and return its secret; None where name or password is wrong.

        Raise TooManyTriesError for a name or an address that has failed too often, whether or not there is such a
        name, and StoreError where PostgreSQL is away.
        """
        keys = ((self._names, name.strip().casefold()[:64]), (self._addresses, _network(address)))
        crossed = self._begin_try(keys)
        try:
            secret = await self._try(lambda: self._sessions.sign_in(name, password, address, before))
        except StoreError as error:
            self._forgive(keys)
            raise StoreError(f"nobody can sign in until the database is back ({error})") from error
        if secret is not None:
            self._names.forget(keys[0][1])
            self._addresses.forgive(keys[1][1])
            return secret
        self._counters["sign_ins_failed"] += 1
        if crossed:
            await asyncio.to_thread(self._sessions.throttled, name, address)
        return None

    async def try_password(self, name: str, change: Callable[[], None]) -> None:
        """Let somebody who is signed in `change` the password, which asks for the present one.

        Raise what `change` raises, and TooManyTriesError where that failed too often: whoever finds a screen that was
        left open must not guess on.
        """
        keys = ((self._names, name),)
        self._begin_try(keys)
        try:
            await self._try(change)
        except StoreError:
            self._forgive(keys)
            raise
        self._names.forget(name)

    def _begin_try(self, keys: Sequence[tuple[Throttle, str]]) -> bool:
        """Count a failure before it is one, so that many tries at once are no way around.

        Tell whether it is the one from which on somebody has to wait; raise TooManyTriesError where it is after that.
        """
        now_s = time.monotonic()
        wait_s = max(throttle.wait_s(key, now_s) for throttle, key in keys)
        if wait_s > 0 or self._waiting >= _WAITING:
            self._counters["sign_ins_throttled"] += 1
            raise TooManyTriesError(wait_s)
        crossed = [throttle.fail(key, now_s) for throttle, key in keys]
        return any(crossed)

    async def _try(self, attempt: Callable[[], Result]) -> Result:
        """Make one attempt after the other: each takes a core for a tenth of a second."""
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._trials, attempt)
        finally:
            self._waiting -= 1

    @staticmethod
    def _forgive(keys: Sequence[tuple[Throttle, str]]) -> None:
        for throttle, key in keys:
            throttle.forgive(key)

    async def _find(self, key: str, ask: Callable[[], Signed | None]) -> Signed | None:
        known, now_s = self._known.get(key), time.monotonic()
        if known is not None and now_s - known.asked_s < _FRESH_S:
            return known.signed
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: str, ask: Callable[[], Signed | None]) -> Signed | None:
        now_s, changes = time.monotonic(), self._changes
        if now_s < self._away_until_s or (self._owed is not None and not self._owed.done()):
            return self._recall(key, "the database is away")
        future = self._lookups.submit(ask)
        try:
            found = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), _ANSWERS_S)
        except (StoreError, TimeoutError) as error:
            self._owed = future
            self._away_until_s = time.monotonic() + _AGAIN_S
            why = str(error) or "PostgreSQL does not answer"
            self._away.occur(error=why)
            return self._recall(key, why)
        self._owed = None
        self._away.end()
        if found is None:
            self._known.pop(key, None)
        elif changes == self._changes:
            self._known[key] = _Known(found, now_s)
            self._known.move_to_end(key)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found

    def _recall(self, key: str, why: str) -> Signed:
        """Return who was known lately by `key`; raise StoreError where nobody was."""
        known = self._known.get(key)
        if known is None or time.monotonic() - known.asked_s > _REMEMBERED_S:
            raise StoreError(f"{why}: who you are cannot be told until it is back")
        return known.signed


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the network that one customer has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network(f"{found}/64", strict=False)) if found.version == 6 else address  # noqa: PLR2004 - IP's
