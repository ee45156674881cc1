"""The methods of OPC 40100-1 that only look: results (7.10.2), recipes (7.5.2) and configurations (7.2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from asyncua import ua

from config.recipe import Recipe
from decision.vision.arguments import Method
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
        self.recipes = recipes
        self.ids: dict[str, Any] = {}  # recipe -> its RecipeIdInternalDataType
        self.configuration: Any = None  # the one that there is, a ConfigurationDataType
        self.prepared: str | None = None  # the recipe that parts are judged by

    def methods(self) -> dict[str, Method]:
        """Return the methods by their browse names."""
        return {
            "GetResultById": self.get_result,
            "GetResultComponentsById": self.get_components,
            "GetResultListFiltered": self.list_results,
            "GetRecipeListFiltered": self.list_recipes,
            "GetConfigurationList": self.list_configurations,
            "GetConfigurationById": self.get_configuration,
            "ReleaseResultHandle": _release,
            "ReleaseRecipeHandle": _release,
        }

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
            for name, recipe in self.recipes.items()
            if (not external or not external.Id or external.Id == str(recipe.job))
            and (not product or not product.Id or product.Id == recipe.product)
            and (int(prepared) == _DO_NOT_CARE or bool(int(prepared)) == (name == self.prepared))
        ]
        return _page(found, most, start)

    async def list_configurations(self, _parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant]:
        """Answer GetConfigurationList."""
        most, start, _timeout = (argument.Value for argument in arguments)
        return _page([self.configuration], most, start)

    async def get_configuration(self, _parent: ua.NodeId, wanted: ua.Variant, _timeout: ua.Variant) -> list[ua.Variant]:
        """Answer GetConfigurationById."""
        known = wanted.Value is not None and wanted.Value.Id == self.configuration.InternalId.Id
        found = self.configuration if known else types.ConfigurationDataType()
        return [_handle(), ua.Variant(found, ua.VariantType.ExtensionObject), _error(0 if known else UNKNOWN)]


async def _release(_parent: ua.NodeId, handle: ua.Variant) -> list[ua.Variant]:
    """Answer ReleaseResultHandle and ReleaseRecipeHandle: 0 is the one handle that is ever given."""
    return [_error(UNKNOWN if handle.Value else 0)]


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
