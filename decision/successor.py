"""What may follow a recipe that is in force while the line runs. Pure.

How parts are judged may change: limits, zones, counting, alarms, what the gate does, what is kept, the deadline; and
a view's bundle, where a person wants it and every worker has opened it. Product, job and cameras are what the PLC and
other processes know a recipe by: to change them takes a restart of the station.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from config.errors import ConfigurationError
from config.recipe import Recipe

_RELEASE = "release the other one at the console"
_RESTART = "stop the station and start it again to change that"


def check(before: Recipe, after: Recipe, digest: str, known: Mapping[str, int], opened: Collection[str] = ()) -> None:
    """Raise ConfigurationError that names the field for what may not follow `before`.

    `digest` is of `after`; `known` are all contents that were ever in force under this name, digest -> version. One of
    them may come back as it was; anything new needs a version above all of them. `opened` are bundles that all workers
    have open although `before` does not name them.
    """
    for field in ("product", "job"):
        was, wanted = getattr(before, field), getattr(after, field)
        if was != wanted:
            raise ConfigurationError(f"{field}: is {was!r} in force, not {wanted!r}: {_RESTART}")
    if set(before.views) != set(after.views):
        views = " and ".join(before.views)
        raise ConfigurationError(f"views: are {views} in force, not {' and '.join(after.views)}: {_RESTART}")
    for camera, view in after.views.items():
        if before.views[camera].bundle_digest is not None and view.bundle_digest in opened:
            continue
        for field in ("bundle", "bundle_digest"):
            was, wanted = getattr(before.views[camera], field), getattr(view, field)
            if was != wanted:
                what = (
                    f"views.{camera}.{field}: is {was or 'not given'} in force, but {wanted or 'not given'} in the file"
                )
                raise ConfigurationError(f"{what}: the workers have loaded that bundle; {_RELEASE}, or {_RESTART}")
    if digest in known:
        return
    highest = max(known.values(), default=before.version)
    if after.version <= highest:
        had = "has had another content" if after.version in known.values() else f"is below version {highest}"
        raise ConfigurationError(f"version: {after.version} {had}: make it {highest + 1} or more")
