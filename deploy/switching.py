"""`andon recipe list` and `andon recipe activate`: what the running station judges by, and another recipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from config import activation
from config.home import Home, default_path
from config.messages import Recipes, as_json
from deploy.database import database
from deploy.person import own_name
from deploy.table import Screen
from storage.switching import switch


def show(arguments: argparse.Namespace) -> int:
    """Show the station's recipes in the versions that are in force."""
    return _tell(arguments, activation.recipes(_home(arguments)))


def activate(arguments: argparse.Namespace) -> int:
    """Have parts judged by another recipe from now on."""
    home = _home(arguments)
    activation.recipes(home)  # where nothing runs, no database is started to find that out
    with database(home, "recipe activate") as url:
        return _tell(arguments, switch(home, url, arguments.recipe, arguments.by or own_name()))


def _home(arguments: argparse.Namespace) -> Home:
    return Home(arguments.home or default_path())


def _tell(arguments: argparse.Namespace, found: Recipes) -> int:
    if arguments.json:
        sys.stdout.write(as_json(found).decode() + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(found))
    return 0


def _lines(found: Recipes) -> Iterator[str]:
    names = ("", "RECIPE", "PRODUCT", "JOB", "VERSION", "DIGEST")
    rows = [
        (
            "*" if one.name == found.active else "",
            one.name,
            one.product,
            str(one.job),
            str(one.version),
            one.digest[:19],
        )
        for one in found.recipes
    ]
    yield from Screen(sys.stdout).table(names, rows)
    if found.plc_job:
        yield f"the PLC chooses: it asks for job {found.plc_job}"
    for one in found.recipes:
        if one.refused:
            yield f"the file of {one.name} is not taken: {one.refused}"
