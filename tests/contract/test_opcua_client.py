"""`andon opcua`, our client of OPC 40100-1, against node-opcua as another maker's vision system."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import npm_packages
import pytest
from test_opcua import free_port

from config.errors import DeviceError, InputError
from decision.vision.client import VisionClient
from deploy import cli

PEER = Path(__file__).parent.parent / "opcua_vision.cjs"


class Peer:
    """The vision system."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"opc.tcp://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [npm_packages.NODE, str(PEER), json.dumps({"port": port})],
            env=npm_packages.environment("node-opcua"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **asked: object):  # type: ignore[no-untyped-def]  # whatever was asked for
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """End it, once or more often."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            end.close()


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.kill()


def test_methods_are_called_and_their_error_is_the_exit_code(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["opcua", "call", peer.url, "Stop", "Cause=3", "CauseDescription=lunch", "--json"]) == 0
    assert capsys.readouterr().out == '{"Error": 0}\n'
    assert cli.main(["opcua", "call", peer.url, "Stop", "Cause=99"]) == 1
    assert capsys.readouterr().out == "Error: -7\n"
    assert peer.ask(calls=True)[-2:] == [["Stop", 3, "lunch"], ["Stop", 99, ""]]


def test_what_cannot_be_called_says_why(peer: Peer) -> None:
    async def call() -> None:
        async with VisionClient(peer.url) as client:
            assert await client.call("StartContinuous", {"MeasId": "m-7"}) == {"JobId": {"Id": "job-1"}, "Error": 0}
            with pytest.raises(DeviceError, match=r"calling Halt: .*BadUserAccessDenied"):
                await client.call("Halt", {})
            with pytest.raises(InputError, match="Reason: no argument of the method: it takes Cause, CauseDescription"):
                await client.call("Stop", {"Reason": "3"})
            with pytest.raises(InputError, match="Cause: 'lunch' is no Int32"):
                await client.call("Stop", {"Cause": "lunch"})
            with pytest.raises(InputError, match="Dance: Eye has no such method: it has Abort, "):
                await client.call("Dance", {})

    asyncio.run(call())
    assert ["StartContinuous", "m-7", "", "", "", []] in peer.ask(calls=True)


def test_state_recipes_and_results_are_told_as_they_come_until_the_system_is_gone(peer: Peer) -> None:
    peer.ask(state="Operational")
    peer.ask(automatic="Ready")
    command = [sys.executable, "-m", "deploy", "opcua", "watch", peer.url, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        picture = json.loads(watch.stdout.readline())
        assert picture == {"kind": "picture", "system": "Eye", "state": "Ready", "recipes": ["lid"]}
        peer.ask(automatic="ContinuousExecution")
        for number in range(20):
            peer.ask(result=f"r-{number}", content=["PASS", "lid"])
        state, *results = (json.loads(watch.stdout.readline()) for _ in range(21))
        assert (state["kind"], state["fields"]["ToState"]) == ("state", "ContinuousExecution")
        assert [one["fields"]["ResultId"] for one in results] == [{"Id": f"r-{number}"} for number in range(20)]
        first = results[0]["fields"]
        assert (first["ResultState"], first["ResultContent"]) == (1, ["PASS", "lid"])
        assert first["CreationTime"] == "2024-05-06T07:08:09+00:00"
        peer.kill()
        assert watch.wait(20) == 1
        assert "the connection is lost" in watch.stderr.read()


def test_what_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["opcua", "call", f"opc.tcp://127.0.0.1:{free_port()}", "Stop"]) == 1
    assert "connecting: " in capsys.readouterr().err
    assert cli.main(["opcua", "watch", "opc.tcp://127.0.0.1:4840", "--certificate", "own.pem"]) == 78
    assert "belong together" in capsys.readouterr().err
