"""Results and recipes in the words of OPC 40100-1, section 12."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.ua.uatypes import extension_objects_by_datatype, register_basetype, register_extension_object

from config.messages import Judgement, Verdict
from config.recipe import Recipe

types: Final[Any] = ua  # the classes of the standard's types are there once the server has read them

_IDS: Final = {  # subtypes of BinaryIdBaseDataType that add nothing to it -> numeric ids of type and binary encoding
    "RecipeIdExternalDataType": (3002, 5002),
    "RecipeIdInternalDataType": (3013, 5268),
    "ConfigurationIdDataType": (3008, 5090),
}

_TRIMMED_STRING: Final = 3017

KEPT: Final = 256  # results that can be asked for
COMPLETED, FAILED = 1, 4  # of ResultStateDataType, 12.19
UNKNOWN: Final = -1  # our own error code: there is no such result (0: none, above 0: the standard's)
_HASH = "sha256:"


def make_types(namespace: int) -> None:
    """Make classes for the types of which the library makes none, so that they can be told apart on the wire."""
    index = ua.Int16(namespace)
    for name, (kind, encoding) in _IDS.items():
        type_id, encoding_id = (ua.NodeId(ua.Int32(number), index) for number in (kind, encoding))
        if type_id in extension_objects_by_datatype:
            continue
        made = make_dataclass(name, [], bases=(types.BinaryIdBaseDataType,))
        register_extension_object(name, encoding_id, made, type_id)


def know_strings(namespace: int) -> None:
    """Tell the library of the standard's TrimmedString: of two with that name, a server has its own, it takes one."""
    register_basetype("TrimmedString", ua.NodeId(ua.Int32(_TRIMMED_STRING), ua.Int16(namespace)), ua.String)


class Results:
    """The latest results, oldest first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def add(self, result: Any) -> None:  # noqa: ANN401 - the library makes the types' classes while it runs
        """Keep a result and forget the oldest where there are too many."""
        self._kept[result.ResultId.Id] = result
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def find(self, result_id: str) -> Any | None:  # noqa: ANN401 - as above
        """Return a result."""
        return self._kept.get(result_id)

    def matching(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """Return results that are wanted, the latest first."""
        return [result for result in reversed(self._kept.values()) if wanted(result)]


def result_of(verdict: Verdict, job: int | None, job_id: str, meas_id: object = None, part_id: object = None) -> Any:  # noqa: ANN401 - as above
    """Return a part's ResultDataType; `job` is what the PLC calls the recipe.

    `meas_id` and `part_id` are what the client that has started the job calls measurement and part.
    """
    took_ms = (verdict.judged_ns - verdict.trigger_ns) / 1e6
    began = verdict.trigger_time_ns / 1e9
    return types.ResultDataType(
        ResultId=types.ResultIdDataType(Id=verdict.part_id),
        HasTransferableDataOnFile=False,
        IsPartial=False,
        IsSimulated=False,
        ResultState=FAILED if verdict.verdict is Judgement.FAULT else COMPLETED,
        MeasId=meas_id,
        PartId=part_id or types.PartIdDataType(Id=verdict.part_id),
        ExternalRecipeId=None if job is None else types.RecipeIdExternalDataType(Id=str(job)),
        InternalRecipeId=_recipe_id(verdict.recipe, verdict.recipe_version, verdict.recipe_digest),
        ProductId=types.ProductIdDataType(Id=verdict.product),
        InternalConfigurationId=types.ConfigurationIdDataType(Id=verdict.station),
        JobId=types.JobIdDataType(Id=job_id),
        CreationTime=_time(began + took_ms / 1e3),
        ProcessingTimes=types.ProcessingTimesDataType(
            StartTime=_time(began), EndTime=_time(began + took_ms / 1e3), ProcessingDuration=took_ms
        ),
        ResultContent=_content(verdict),
    )


def recipe_id(name: str, recipe: Recipe, digest: str) -> Any:  # noqa: ANN401 - as above
    """Return a recipe's RecipeIdInternalDataType."""
    return _recipe_id(name, recipe.version, digest)


def configuration(name: str, content: bytes, modified: datetime) -> Any:  # noqa: ANN401 - as above
    """Return the ConfigurationDataType of the station file."""
    hashed = hashlib.sha256(content).digest()
    return types.ConfigurationDataType(
        HasTransferableDataOnFile=False,
        InternalId=types.ConfigurationIdDataType(Id=name, Hash=hashed, HashAlgorithm="SHA-256"),
        LastModified=modified,
    )


def _content(verdict: Verdict) -> list[ua.Variant]:
    """Return verdict, gate command, reasons, highest score (NaN: none) and the part's number in its run."""
    scores = [view.score for view in verdict.views if view.score is not None]
    return [
        ua.Variant(str(verdict.verdict), ua.VariantType.String),
        ua.Variant(str(verdict.gate), ua.VariantType.String),
        ua.Variant(" ".join(verdict.reasons), ua.VariantType.String),
        ua.Variant(max(scores, default=math.nan), ua.VariantType.Double),
        ua.Variant(verdict.sequence, ua.VariantType.UInt64),
    ]


def _recipe_id(name: str, version: int, digest: str | None) -> Any:  # noqa: ANN401 - as above
    hashed = digest is not None and digest.startswith(_HASH)
    return types.RecipeIdInternalDataType(
        Id=name,
        Version=str(version),
        Hash=bytes.fromhex(digest.removeprefix(_HASH)) if digest is not None and hashed else None,
        HashAlgorithm="SHA-256" if hashed else None,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def matches(wanted: Sequence[Any]) -> Callable[[Any], bool]:
    """Return what GetResultListFiltered's criteria want: a state (0: any), then ids (empty: any), in its order."""
    state, *ids = wanted
    named = [(name, one.Id) for name, one in zip(_CRITERIA, ids, strict=True) if one is not None and one.Id]

    def are_met(result: Any) -> bool:  # noqa: ANN401 - the library makes the types' classes while it runs
        held = [(getattr(result, name), wanted_id) for name, wanted_id in named]
        return state in (0, result.ResultState) and all(one is not None and one.Id == want for one, want in held)

    return are_met


_CRITERIA: Final = (
    *("MeasId", "PartId", "ExternalRecipeId", "InternalRecipeId"),
    *("ExternalConfigurationId", "InternalConfigurationId", "ProductId", "JobId"),
)
