"""`andon opcua`: a vision system of any maker, by OPC 40100-1, on a terminal or as lines of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from config.errors import ConfigurationError, InputError, MissingExtraError

try:
    from decision.vision.client import Happening, Identity, VisionClient
except ImportError as missing:
    raise MissingExtraError("andon opcua", "opcua", missing) from missing

if TYPE_CHECKING:
    from collections.abc import Mapping

_FAILED = 1


def watch(arguments: argparse.Namespace) -> int:
    """Show how a vision system stands and what happens, until it is stopped or its time is over."""
    return asyncio.run(_watch(arguments))


def call(arguments: argparse.Namespace) -> int:
    """Call a method; exit 1 where its Error is not 0."""
    return asyncio.run(_call(arguments))


async def _watch(arguments: argparse.Namespace) -> int:
    async with VisionClient(arguments.url, _identity(arguments)) as client:
        await client.listen()  # first: what happens after the picture was taken is told, all of it
        picture = await client.look()
        recipes = ", ".join(picture.recipes) or "none"
        _say(
            {"kind": "picture", **asdict(picture)} if arguments.json else None,
            f"{picture.system}: {picture.state}; prepared: {recipes}",
        )
        try:
            async with asyncio.timeout(arguments.for_s):
                async for happening in client.happenings():
                    _say(_as_json(happening) if arguments.json else None, _line(happening))
        except TimeoutError:
            return 0
    return 0


async def _call(arguments: argparse.Namespace) -> int:
    given = {}
    for pair in arguments.given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r}: expected NAME=VALUE")
        given[name] = value
    async with VisionClient(arguments.url, _identity(arguments)) as client:
        answer = await client.call(arguments.method, given)
    lines = "\n".join(f"{name}: {json.dumps(one)}" for name, one in answer.items())
    _say(answer if arguments.json else None, lines or "done")
    return _FAILED if answer.get("Error", 0) else 0


def _identity(arguments: argparse.Namespace) -> Identity | None:
    given = (arguments.certificate, arguments.private_key, arguments.server_certificate)
    if not any(given):
        return None
    if not all(given):
        raise ConfigurationError("--certificate, --private-key and --server-certificate belong together")
    return Identity(*given)


def _as_json(happening: Happening) -> dict[str, object]:
    fields = {name: one for name, one in asdict(happening).items() if name != "time"}
    return {**fields, "time": happening.time.isoformat()}


def _line(happening: Happening) -> str:
    said = f"{happening.time:%H:%M:%S.%f}"[:-3] + f"  {happening.kind:8}  {happening.message}"
    match happening.kind:
        case "state":
            return f"{said}  ({happening.fields.get('FromState')} -> {happening.fields.get('ToState')})"
        case "result":
            return f"{said}  {json.dumps(happening.fields.get('ResultContent'))}"
    return said


def _say(as_json: Mapping[str, object] | None, line: str) -> None:
    """Write a line at once: what is watched through a pipe must not wait for the next one."""
    sys.stdout.write((json.dumps(as_json) if as_json is not None else line) + "\n")
    sys.stdout.flush()
