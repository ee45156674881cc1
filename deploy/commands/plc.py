"""`andon plc`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands.values import port, positive

_HOME = "state folder (default: ANDON_HOME, or this user's)"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("plc", help="the PLC's register map, and a PLC to try a station against")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    action = actions.add_parser("map", help="the register map: text, or a tag file that engineering tools import")
    action.add_argument(
        "--format",
        choices=("text", "csv", "kepware", "scl", "logix", "l5x"),
        default="text",
        help="kepware: KEPServerEX, Modbus; scl: Siemens data block; logix, l5x: Rockwell tag",
    )
    action.add_argument("--json", action="store_true", help="one JSON object on stdout")
    action.set_defaults(run=_map)

    action = actions.add_parser(
        "simulate",
        help="play the PLC: of the station in --home, or (with --type) of a real one, which it leads",
    )
    action.add_argument("--home", type=Path, metavar="DIR", help=_HOME)
    action.add_argument("--type", metavar="PROTOCOL", help="a driver of decision/plc, such as modbus, s7, opcua")
    action.add_argument("--port", type=port, metavar="N", help="listen here instead of at the protocol's own port")
    action.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    action.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="another option of the driver; repeatable"
    )
    action.add_argument("--rate", type=float, default=10.0, metavar="N", help="parts per second at full speed (10)")
    action.add_argument("--travel", type=float, default=2.0, metavar="S", help="seconds from cameras to gate (2)")
    action.add_argument("--slowest", type=float, default=1.0, metavar="SHARE", help="of full speed; below it random")
    action.add_argument("--longest-stop", type=float, default=0.0, metavar="S", help="the belt stands at random (0)")
    action.add_argument("--seed", type=int, default=0, metavar="N", help="of the random speeds")
    action.add_argument("--parts", type=positive, metavar="N", help="end after so many")
    action.add_argument("--job", type=positive, default=1, metavar="N", help="job that is asked for (1)")
    action.add_argument("--faults", type=Path, metavar="FILE", help="TOML: [[faults]] with name, at_s and for_s")
    action.add_argument("--json", action="store_true", help="what was seen, as one JSON object on stdout at the end")
    action.set_defaults(run=_simulate)

    action = actions.add_parser("fault", help="let something be wrong with the simulated PLC that runs")
    action.add_argument("fault", metavar="NAME", nargs="?", help="without a name: what there is")
    action.add_argument("--for", type=float, default=1.0, dest="for_s", metavar="S", help="seconds (1)")
    action.add_argument("--home", type=Path, metavar="DIR", help=_HOME)
    action.set_defaults(run=_fault)


def _map(arguments: argparse.Namespace) -> int:
    from deploy.plc.command import print_map  # noqa: PLC0415 - each command loads only what it needs

    return print_map(arguments)


def _simulate(arguments: argparse.Namespace) -> int:
    from deploy.plc.command import simulate  # noqa: PLC0415 - each command loads only what it needs

    return simulate(arguments)


def _fault(arguments: argparse.Namespace) -> int:
    from deploy.plc.command import fault  # noqa: PLC0415 - each command loads only what it needs

    return fault(arguments)
