from __future__ import annotations

import json
import shlex
from itertools import pairwise

import pytest

from config import plugins
from deploy.cli import main
from deploy.guide import SITUATIONS
from inference.training import detector


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_what_is_advised_is_there_and_takes_these_options(situation, capsys) -> None:
    assert main(["guide", situation.name, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["situations"]
    here = plugins.names("inference.detectors")
    named = [one["detector"] for one in answer["take"]]
    assert set(named) <= set(here)
    assert named == [advice.detector for advice in situation.advice if advice.detector in here]
    absent = [advice.detector for advice in situation.advice if advice.detector not in here]
    assert all(name in answer["not_in_this_version"] for name in absent)
    for one in answer["take"]:
        assert one["title"] == detector.summary(one["detector"]).title
        words = shlex.split(one["command"])
        given = [word.split("=", 1) for before, word in pairwise(words) if before == "--option"]
        detector.load(one["detector"], {name: json.loads(value) for name, value in given})


def test_every_situation_is_told_and_an_unknown_one_refused(capsys) -> None:
    assert main(["guide"]) == 0
    told = capsys.readouterr().out
    assert all(situation.question in told for situation in SITUATIONS)
    assert "Not in this version: " in told
    assert main(["guide", "cheap"]) == 2
    assert "situation 'cheap' is unknown: highest-accuracy," in capsys.readouterr().err
