"""Parts as they are stored, with every pixel of one camera's view: what lessons collect and shadows judge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from config.errors import ImageLostError
from config.messages import Judgement
from config.recipe import samples
from storage.query.answers import Part
from storage.query.filters import Filter
from storage.query.service import QueryService

_LATER = timedelta(seconds=10)  # a part that was triggered so much later is stored, and the image is not: it was shed
_PNG = b"\x89PNG\r\n\x1a\n"


class Fresh:
    """Parts of one recipe, triggered since a time, oldest first; each of them once.

    Of a part whose pixels were not kept whole, because the line needed room or the store lost them, `shed` is told.
    """

    def __init__(
        self,
        query: QueryService,
        *,
        recipe: str,
        camera: str,
        verdicts: frozenset[Judgement],
        every_parts: int,
        since: datetime,
    ) -> None:
        self._query = query
        self._camera = camera
        self._every_parts = every_parts
        self._filter = Filter(recipe=recipe, camera=camera, verdicts=verdicts)
        self._since = since
        self._done: dict[str, datetime] = {}
        self.shed = 0

    def look(self) -> Iterator[tuple[Part, bytes]]:
        """Yield parts that have come since the last look, with their PNG; raise StoreError as queries do."""
        waiting: list[datetime] = []
        newest = self._since
        for part in self._query.stream(self._filter.model_copy(update={"since": self._since})):
            newest = max(newest, part.trigger_time)
            if part.part_id in self._done:
                continue
            if not samples(part.sequence, self._every_parts):
                self._done[part.part_id] = part.trigger_time
            elif (content := self._exact(part)) is not None:
                self._done[part.part_id] = part.trigger_time
                yield part, content
            else:
                waiting.append(part.trigger_time)
        self._forget(waiting, newest)

    def _exact(self, part: Part) -> bytes | None:
        kept = any(
            image.camera == self._camera and image.purpose == "image" and image.encoding == "png"
            for image in part.images
        )
        if not kept:
            return None
        try:
            content = self._query.image(part.part_id, self._camera, "image")
        except ImageLostError:
            return None
        return content if content is not None and content.startswith(_PNG) else None

    def _forget(self, waiting: list[datetime], newest: datetime) -> None:
        """Give up what will not come, and look from the oldest part on that still may."""
        hopeful = [time for time in waiting if newest - time < _LATER]
        self.shed += len(waiting) - len(hopeful)
        self._since = min([*hopeful, newest])
        self._done = {part_id: time for part_id, time in self._done.items() if time >= self._since}
