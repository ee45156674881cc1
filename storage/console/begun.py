"""Sign-ins that have been begun at the provider and have not come back. Pure; memory is bounded."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from storage.sessions import digest

LASTS_S = 600.0
_MOST = 10_000


@dataclass(frozen=True)
class Begun:
    """One sign-in on its way: what the provider must send back, and where to go on."""

    browser: str  # digest of what only the browser that began it holds
    nonce: str
    verifier: str  # of PKCE (RFC 7636)
    redirect_uri: str
    wanted: str  # page
    before: str | None  # secret of the session that the new one follows
    until_s: float  # monotonic


class BegunSignIns:
    """Sign-ins by their `state` (RFC 6749, 10.12); each comes back once, in the browser that began it."""

    def __init__(self) -> None:
        self._begun: OrderedDict[str, Begun] = OrderedDict()

    def begin(self, redirect_uri: str, wanted: str, before: str | None, now_s: float) -> tuple[str, str, Begun]:
        """Return the state, the secret that the browser is to hold, and the rest; the oldest are forgotten."""
        state, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        begun = Begun(digest(secret), nonce, verifier, redirect_uri, wanted, before, now_s + LASTS_S)
        self._begun[state] = begun
        while len(self._begun) > _MOST:
            self._begun.popitem(last=False)
        return state, secret, begun

    def take(self, state: str, secret: str, now_s: float) -> Begun | None:
        """Return what was begun, once; None where it was not begun by who holds `secret`, or too long ago."""
        begun = self._begun.get(state)
        if begun is None or not hmac.compare_digest(begun.browser, digest(secret)):
            return None
        del self._begun[state]
        return begun if now_s < begun.until_s else None

    def __len__(self) -> int:
        return len(self._begun)
