"""Plug-ins: a file in a plug-in folder, named by `type`, loaded when it is asked for."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from config.errors import ConfigurationError, MissingExtraError
from config.files import explain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


def names(package: str) -> list[str]:
    """Return the names of the plug-ins in `package`, such as `ingest.cameras`, without importing them."""
    folder = importlib.import_module(package)
    return sorted(entry.name for entry in pkgutil.iter_modules(folder.__path__) if not entry.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import plug-in `name` of `package`.

    Raise ConfigurationError for an unknown name, MissingExtraError when its SDK is not installed: the extra that
    brings the SDK is named as the plug-in.
    """
    known = names(package)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name not in known:
        raise ConfigurationError(f"no {package} plug-in is named {name!r}: there are {', '.join(known)}")
    try:
        return importlib.import_module(f"{package}.{name}")
    except ImportError as error:
        raise MissingExtraError(f"{package}.{name}", name, error) from error


def options(module: ModuleType, values: Mapping[str, object], where: str) -> BaseModel:
    """Validate `values` as the plug-in's `Options`; `where` names the place in the file for the error."""
    model: type[BaseModel] = module.Options
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {explain(error)}") from error
