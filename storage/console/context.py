"""What every answer of the console is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Request
from sqlalchemy import URL

from config.home import Home, Run
from config.messages import Judgement
from config.oidc import is_loopback
from config.recipe import Recipe
from config.station import Station
from storage.alarms import Alarms
from storage.console.admission import Admission
from storage.console.begun import BegunSignIns
from storage.console.claims import Claims
from storage.console.golden import Golden
from storage.console.live import LiveFeed
from storage.console.thumbnail import Copies
from storage.events import EventService
from storage.library import Library
from storage.live import LiveImages
from storage.picks import Picks
from storage.proposals import Proposals
from storage.query.desk import Desk
from storage.query.recent import RecentPart
from storage.query.service import QueryService
from storage.reviews import Reviews

if TYPE_CHECKING:
    from storage.console.exports import Exports
    from storage.console.oidc import Provider
    from storage.console.trials import Trials
from storage.roster import Roster
from storage.sessions import Sessions
from storage.shadows import Shadows
from storage.teaching import Teaching
from storage.tokens import Tokens


@dataclass(frozen=True)
class Told:
    """What another recipe would have made of a stored part; no verdict where that cannot be told, and `why` not."""

    verdict: Judgement | None
    why: str | None = None


class Hindsight(Protocol):
    """Stored parts ready to be judged again, as often as asked."""

    def judge(self, draft: Recipe) -> list[Told]:
        """Tell of each part what `draft` would have made of it; raise ConfigurationError for a wrong picture."""


class Judging(Protocol):
    """The decision stage's own rules, which this room does not import: whoever composes the console hands them in."""

    def check(self, draft: Recipe) -> None:
        """Raise ConfigurationError where nobody can judge by `draft`."""

    def recall(self, parts: Sequence[RecentPart], then: Callable[[str], Recipe | None]) -> Hindsight:
        """Make parts ready; `then` returns a recipe by the digest that a part was judged by, None where it is lost."""


@dataclass(frozen=True)
class Console:
    """One station's console."""

    home: Home
    run: Run
    database: URL
    station: Station
    products: tuple[str, ...]
    feed: LiveFeed
    live: LiveImages
    query: QueryService
    events: EventService
    alarms: Alarms
    golden: Golden
    reviews: Reviews
    desk: Desk
    claims: Claims
    picks: Picks
    roster: Roster
    sessions: Sessions
    tokens: Tokens
    admission: Admission
    provider: Provider | None  # that people sign in at, too
    begun: BegunSignIns
    counters: Counter[str]
    judging: Judging
    library: Library
    proposals: Proposals
    trials: Trials
    teaching: Teaching
    shadows: Shadows
    exports: Exports
    copies: Copies = field(default_factory=Copies)

    @property
    def private(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.station.console.host)

    @property
    def demo(self) -> bool:
        """Whether the parts are those of the demo."""
        return self.run.demo

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by TLS."""
        return (self.station.console.url or "").startswith("https://")

    def origin(self, host: str) -> str:
        """Return where our own pages come from, for a browser that asked for `host`."""
        return self.station.console.url or f"http://{host}"


def _console(request: Request) -> Console:
    console: Console = request.app.state.console
    return console


TheConsole = Annotated[Console, Depends(_console)]
