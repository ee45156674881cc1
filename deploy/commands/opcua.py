"""`andon opcua`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("opcua", help="any vision system that is a server of OPC 40100-1: watch it, call it")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    action = actions.add_parser("watch", help="its state and prepared recipes, then every event as it arrives")
    _add_server(action)
    action.add_argument("--for", type=float, dest="for_s", metavar="S", help="end after so many seconds")
    action.add_argument("--json", action="store_true", help="one JSON object for each line")
    action.set_defaults(run=_watch)

    action = actions.add_parser("call", help="call a method, such as Stop, StartContinuous, PrepareRecipe")
    _add_server(action)
    action.add_argument("method", metavar="METHOD", help="its browse name")
    action.add_argument("given", nargs="*", metavar="NAME=VALUE", help="arguments by name; the others are empty")
    action.add_argument("--json", action="store_true", help="what it answers as one JSON object")
    action.set_defaults(run=_call)


def _add_server(action: argparse.ArgumentParser) -> None:
    action.add_argument("url", metavar="URL", help="opc.tcp://HOST:PORT")
    action.add_argument(
        "--certificate", type=Path, metavar="FILE", help="who calls; with it every message is encrypted"
    )
    action.add_argument("--private-key", type=Path, metavar="FILE", help="of --certificate")
    action.add_argument("--server-certificate", type=Path, metavar="FILE", help="nobody else is taken for the server")


def _watch(arguments: argparse.Namespace) -> int:
    from deploy.opcua import watch  # noqa: PLC0415 - each command loads only what it needs

    return watch(arguments)


def _call(arguments: argparse.Namespace) -> int:
    from deploy.opcua import call  # noqa: PLC0415 - each command loads only what it needs

    return call(arguments)
