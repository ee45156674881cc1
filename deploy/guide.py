"""`andon guide`: which detector suits which situation, and why; what is not in this version is said so."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple

from config import plugins
from config.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import argparse


class Advice(NamedTuple):
    """A detector that suits a situation, with the options to take, and why."""

    detector: str
    why: str
    options: str = ""


class Situation(NamedTuple):
    """What somebody has or wants, the detectors that suit it, the best first, and what to know beside.

    `later` says what else suits it and is not in this version.
    """

    name: str
    question: str
    advice: tuple[Advice, ...]
    note: str
    later: str = ""


_FAST = "--option size_px=160 --option 'taps=[4,8]' --option stride_px=16"

SITUATIONS = (
    Situation(
        "highest-accuracy",
        "The highest accuracy, whatever it costs",
        (
            Advice("patchcore", "keeps what good parts look like at every place, and misses least"),
            Advice(
                "reverse_distillation", "learns the good parts' own structure, where minutes of fitting are no matter"
            ),
            Advice("cfa", "moves the features towards the product, where those of the network alone do not suit it"),
            Advice("drawn", "learns from spots, cracks, stains and bites that it draws on good parts; for surfaces"),
        ),
        "Which one wins depends on the product: `andon select --data DIR --out DIR` tries them all on yours.",
        "normalising flows and detectors on foundation models",
    ),
    Situation(
        "under-10-ms",
        "Under 10 ms an image on one CPU core",
        (
            Advice("patchcore", "with small images and a coarse grid it takes a third of its time", _FAST),
            Advice("mahalanobis", "one distance for each image: the price of the network alone; says no place"),
            Advice("classical", "some operators take microseconds; for faults that can be described"),
            Advice("padim", "no search at all, where parts always lie alike"),
        ),
        "`andon select --max-ms 10` measures what holds on this machine; a time from another machine promises nothing.",
        "flows that are built for speed",
    ),
    Situation(
        "few-images",
        "10 to 50 good images",
        (
            Advice("patchcore", "nothing is learnt but a memory, so few images are enough for one that works"),
            Advice("spade", "keeps every image's features, which are few anyway"),
            Advice("dn2", "distance to the nearest images, where only good or bad counts"),
        ),
        "With few images calibration can promise little: the bundle says how many more a promised rate needs.",
    ),
    Situation(
        "no-images",
        "No image of a good part yet",
        (
            Advice(
                "classical", "operators with limits that a person sets need no part to learn from but to be calibrated"
            ),
        ),
        "Each detector of this version learns, or is calibrated, from good images. Take them during the first minutes "
        "of the line, with the gate on reject.",
        "detectors on foundation models, which are asked in words (zero-shot)",
    ),
    Situation(
        "many-products",
        "Many products in one detector",
        (
            Advice("dn2", "good parts of several kinds each have their neighbours"),
            Advice("patchcore", "its memory holds several products; give it a larger one", "--option bank=10000"),
        ),
        "A recipe for each product, each with its own bundle, is more accurate and easier to explain: the PLC's job "
        "number switches between them without a pause.",
        "one reconstruction model for many classes",
    ),
    Situation(
        "prototype",
        "A prototype in minutes",
        (
            Advice("patchcore", "learns in seconds to a minute, with defaults that suit most products"),
            Advice("padim", "one pass over the images"),
        ),
        "andon train --data DIR --out part.andon --recipe part.toml, then andon up --bundle part.andon.",
    ),
    Situation(
        "fine-texture",
        "Cloth, paper, ground metal: a texture finer than things are",
        (
            Advice("classical", "sees every pixel, each place and the whole frame; networks blur what is that fine"),
            Advice("dn2", "where a fault changes the whole texture and only good or bad counts"),
        ),
        "Let --option side_px be the camera's longest side: what is resampled away is not judged.",
    ),
    Situation(
        "must-explain",
        "Each verdict must be explained",
        (
            Advice("classical", "named operators with limits: every number can be measured again by hand"),
            Advice("patchcore", "says where, and how far from the nearest good example that it was shown"),
            Advice("padim", "says how many standard deviations each place is from good parts"),
        ),
        "Any verdict can be replayed (`andon replay`): recipe, bundle and pixels give the same score again.",
    ),
)


def guide(arguments: argparse.Namespace) -> int:
    """Say which detector suits a situation, or all of them."""
    known = {situation.name: situation for situation in SITUATIONS}
    if arguments.situation and arguments.situation not in known:
        raise InputError(f"situation {arguments.situation!r} is unknown: {', '.join(known)}")
    shown = [known[arguments.situation]] if arguments.situation else list(SITUATIONS)
    found = [_answer(situation) for situation in shown]
    if arguments.json:
        sys.stdout.write(json.dumps({"situations": found}) + "\n")
        return 0
    sys.stdout.write("\n\n".join(_text(answer) for answer in found) + "\n")
    return 0


def _answer(situation: Situation) -> dict[str, object]:
    here = set(plugins.names("inference.detectors"))
    advice = [_detector(one) for one in situation.advice if one.detector in here]
    absent = [one.detector for one in situation.advice if one.detector not in here]
    later = ", ".join([*absent, *([situation.later] if situation.later else [])])
    return {
        "situation": situation.name,
        "question": situation.question,
        "take": advice,
        "note": situation.note,
        "not_in_this_version": later or None,
    }


def _detector(advice: Advice) -> dict[str, object]:
    from inference.training import detector  # noqa: PLC0415 - torch takes seconds to load

    command = f"andon train --detector {advice.detector} {advice.options}".rstrip()
    plain: dict[str, object] = {"detector": advice.detector, "why": advice.why, "command": command}
    try:
        return {**plain, **detector.summary(advice.detector).model_dump()}
    except MissingExtraError as error:
        return {**plain, "title": advice.detector, "state": str(error)}


def _text(answer: dict[str, object]) -> str:
    lines = [f"{answer['question']}  ({answer['situation']})"]
    taken = answer["take"]
    assert isinstance(taken, list)  # noqa: S101 - as `_answer` made it
    for number, one in enumerate(taken, 1):
        lines.append(f"  {number}. {one['title']}: {one['why']}")
        if "images" in one:
            place = "says where" if one["localises"] else "says no place"
            lines.append(f"     learns in {one['fitting']}, well from {one['images']} good images on; {place}")
        lines.append(f"     {one.get('state') or one['command']}")
    if not taken:
        lines.append("  nothing in this version")
    lines.append(f"  {answer['note']}")
    if answer["not_in_this_version"]:
        lines.append(f"  Not in this version: {answer['not_in_this_version']}.")
    return "\n".join(lines)
