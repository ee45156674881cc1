"""The methods of OPC 40100-1 that only look: results (7.10.2) and recipes (7.5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from config.recipe import Recipe
from decision.vision.results import UNKNOWN, Results, matches, types

_COMPONENTS: Final = (
    *("HasTransferableDataOnFile", "IsPartial", "IsSimulated", "ResultState", "MeasId", "PartId"),
    *("ExternalRecipeId", "InternalRecipeId", "ProductId", "ExternalConfigurationId", "InternalConfigurationId"),
    *("JobId", "CreationTime", "ProcessingTimes", "ResultContent"),
)
_DO_NOT_CARE = 2  # of TriStateBooleanDataType


class Answers:
    """What the methods answer, from the results that are kept and the recipes of the station."""

    def __init__(self, results: Results, recipes: Mapping[str, Recipe]) -> None:
        self._results = results
        self._recipes = recipes
        self.ids: dict[str, Any] = {}  # recipe -> its RecipeIdInternalDataType
        self.prepared: str | None = None  # the recipe that parts are judged by

    async def get_result(self, _parent: ua.NodeId, result_id: ua.Variant, _timeout: ua.Variant) -> list[ua.Variant]:
        """Answer GetResultById."""
        found = self._results.find(result_id.Value.Id) if result_id.Value else None
        return [_handle(), ua.Variant(found or types.ResultDataType()), _error(0 if found else UNKNOWN)]

    async def get_components(self, _parent: ua.NodeId, result_id: ua.Variant, _timeout: ua.Variant) -> list[ua.Variant]:
        """Answer GetResultComponentsById."""
        found = self._results.find(result_id.Value.Id) if result_id.Value else None
        result = found or types.ResultDataType()
        components = [_variant(getattr(result, name)) for name in _COMPONENTS]
        return [components[0], _handle(), *components[1:], _error(0 if found else UNKNOWN)]

    async def list_results(self, _parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant]:
        """Answer GetResultListFiltered."""
        *wanted, most, start, _timeout = (argument.Value for argument in arguments)
        found = self._results.matching(matches(wanted))
        return _page(found, most, start)

    async def list_recipes(self, _parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant]:
        """Answer GetRecipeListFiltered."""
        external, product, prepared, most, start, _timeout = (argument.Value for argument in arguments)
        found = [
            self.ids[name]
            for name, recipe in self._recipes.items()
            if (not external or not external.Id or external.Id == str(recipe.job))
            and (not product or not product.Id or product.Id == recipe.product)
            and (int(prepared) == _DO_NOT_CARE or bool(int(prepared)) == (name == self.prepared))
        ]
        return _page(found, most, start)


async def not_supported(_parent: ua.NodeId, *_arguments: ua.Variant) -> ua.StatusCode:
    """Answer a method that would control the station."""
    return ua.StatusCode(ua.UInt32(StatusCodes.BadNotSupported))


def _page(found: list[Any], most: int, start: int) -> list[ua.Variant]:
    """Return what a list method answers: is it all, how many, handle, list, error (7.10.2.3)."""
    page = found[start : start + most] if most else found[start:]
    return [
        ua.Variant(start + len(page) >= len(found), ua.VariantType.Boolean),
        ua.Variant(len(page), ua.VariantType.UInt32),
        _handle(),
        ua.Variant(page, ua.VariantType.ExtensionObject, is_array=True),
        _error(0),
    ]


def _handle() -> ua.Variant:
    return ua.Variant(0, ua.VariantType.UInt32)  # nothing has to be released


def _error(code: int) -> ua.Variant:
    return ua.Variant(code, ua.VariantType.Int32)


def _variant(value: object) -> ua.Variant:
    return ua.Variant(value, variant_type(value))


def variant_type(value: object) -> ua.VariantType:
    """Return the type that a value has on the wire."""
    for kind, found in _VARIANTS.items():
        if isinstance(value, kind):
            return found
    return ua.VariantType.Null if value is None else ua.VariantType.ExtensionObject


_VARIANTS: Final = {
    bool: ua.VariantType.Boolean,
    int: ua.VariantType.Int32,
    list: ua.VariantType.Variant,
    datetime: ua.VariantType.DateTime,
    ua.LocalizedText: ua.VariantType.LocalizedText,
    ua.NodeId: ua.VariantType.NodeId,
}
