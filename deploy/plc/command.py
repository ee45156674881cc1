"""`andon plc map`, `andon plc simulate` and `andon plc fault`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from config import files
from config.errors import ConfigurationError
from config.home import Home, default_path
from config.station import PlcSection, SimulationSection
from deploy.plc import simulator, tags
from deploy.plc.belt import Tally
from deploy.plc.coupled import CoupledLine, is_coupled
from deploy.plc.faults import MEANINGS, Fault, Script
from deploy.plc.line import Line, OwnLine, StationLine


def print_map(arguments: argparse.Namespace) -> int:
    """Print the register map."""
    if arguments.json:
        sys.stdout.write(json.dumps(tags.as_json()) + "\n")
    else:
        sys.stdout.write(tags.FORMATS[arguments.format]())
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """Play a PLC until Ctrl-C, or for a number of parts; return 1 where a wrong part left the belt."""
    home = Home(arguments.home or default_path())
    planned = files.read(arguments.faults, Script).faults if arguments.faults else ()
    tally = simulator.run(_line(arguments, home), planned)
    sys.stdout.write(json.dumps(tally.model_dump()) + "\n" if arguments.json else _said(tally))
    return 1 if tally.escapes or tally.bad_passed else 0


def fault(arguments: argparse.Namespace) -> int:
    """Let a fault begin, or say which there are."""
    if arguments.fault is None:
        width = max(map(len, Fault))
        sys.stdout.writelines(f"{one:{width}}  {MEANINGS[one]}\n" for one in Fault)
        return 0
    if arguments.fault not in list(Fault):
        raise ConfigurationError(f"no fault is named {arguments.fault!r}: there are {', '.join(Fault)}")
    if arguments.for_s <= 0:
        raise ConfigurationError(f"--for: must be above 0, not {arguments.for_s:g}")
    simulator.command(Home(arguments.home or default_path()).runtime / "plc.sock", arguments.fault, arguments.for_s)
    sys.stdout.write(f"{arguments.fault} for {arguments.for_s:g} s: {MEANINGS[Fault(arguments.fault)]}\n")
    return 0


def _line(arguments: argparse.Namespace, home: Home) -> Line:
    if arguments.type is None:
        return CoupledLine(home) if is_coupled(home) else StationLine(home)
    home.make()
    options: dict[str, object] = dict(_option(given) for given in arguments.option)
    if arguments.type == "opcua":
        options.setdefault("url", f"opc.tcp://{arguments.host}:{arguments.port or 4840}")
    else:
        options["host"] = arguments.host
        if arguments.port is not None:
            options["port"] = arguments.port
    try:
        plc = PlcSection(type=arguments.type, trigger="plc", options=options)
        belt = SimulationSection(
            products=("part",),
            rate_per_s=arguments.rate,
            gate_travel_s=arguments.travel,
            slowest_speed=arguments.slowest,
            longest_stop_s=arguments.longest_stop,
            seed=arguments.seed,
        )
    except ValidationError as error:
        raise ConfigurationError(f"andon plc simulate: {files.explain(error)}") from error
    return OwnLine(home, plc, belt, arguments.parts, arguments.job)


def _option(given: str) -> tuple[str, object]:
    name, mark, value = given.partition("=")
    if not mark:
        raise ConfigurationError(f"--option {given}: expected NAME=VALUE")
    return name, int(value) if value.isdecimal() else value


def _said(tally: Tally) -> str:
    facts = tally.model_dump(exclude={"run_id"})
    names: Sequence[str] = list(facts)
    width = max(map(len, names))
    return "".join(f"{name.replace('_', ' '):{width}}  {facts[name]}\n" for name in names)
