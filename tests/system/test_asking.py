"""`andon query` and `andon export` as they are called, on a real database that was filled the real way."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy
from live_servers import Servers
from msgspec.structs import replace
from storage_process import verdict

from config import dataset
from config.messages import Evidence, Judgement, Region, Truth, encode
from deploy import cli
from storage.journal import Journal
from storage.postgres import PostgresWriter
from storage.reviews import Finding, Reviews

BEGIN = datetime(2026, 11, 20, 10, tzinfo=UTC)
PARTS = 120
EVIL = '=HYPERLINK("http://x")'
Andon = Callable[..., str]


def picture(number: int, side_px: int = 32) -> bytes:
    pixels = np.full((side_px, side_px, 3), 2 * number % 256, np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def url(running_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hundred and twenty parts: every tenth a REJECT, every fifteenth a FAULT without an image; some reviewed."""
    running_servers.ready()
    url = running_servers.database()
    records = []
    for number in range(PARTS):
        fault = number % 15 == 14
        judgement = Judgement.FAULT if fault else Judgement.REJECT if number % 10 == 0 else Judgement.PASS
        message, payload = verdict(number, judgement)
        time_ns = int((BEGIN + timedelta(minutes=number)).timestamp()) * 10**9
        changes = {
            "trigger_time_ns": time_ns,
            "product": EVIL if number >= 100 else "Käppchen",
            "truth": Truth(good=False, defect="Good", challenge=True) if number == 5 else None,
        }
        if number == 20:  # a box that leaves the frame, as no detector should make
            region = Region(x_px=60, y_px=60, width_px=30, height_px=30, area_px=400, score=3.0)
            changes["views"] = (replace(message.views[0], regions=(region,)),)
        records.append(encode(replace(message, **changes), payload))
        if not fault:
            side_px = 32 if number % 2 else 64  # the frame has 64
            shown = {"part_id": message.part_id, "trigger_time_ns": time_ns, "camera": "top", "encoding": "png"}
            size = {"width_px": side_px, "height_px": side_px}
            whole = Evidence(**shown, **size, purpose="image", region=None)
            records.append(encode(whole, [picture(number, side_px)]))
            if judgement is Judgement.REJECT:
                crop = Evidence(**shown, width_px=8, height_px=8, purpose="crop", region=0)
                records.append(encode(crop, [picture(number, 8)]))
    fill(url, tmp_path_factory.mktemp("journal"), records)
    reviews = Reviews(url, tmp_path_factory.mktemp("state"))
    reviews.add("st-r1-00000010", Finding.GOOD, "Ada")
    reviews.add("st-r1-00000020", Finding.DEFECT, "Ada", defect_class="dent")
    reviews.add("st-r1-00000030", Finding.GOOD, "Ada")
    reviews.add("st-r1-00000030", Finding.DEFECT, "Bob")
    reviews.add("st-r1-00000031", Finding.DEFECT, "Ada", camera="top", defect_class="crack")
    reviews.hold("st-r1-00000020", "to be shown", "Ada")
    reviews.close()
    yield url
    running_servers.drop(url)


def fill(url: str, folder: Path, records: list[list[bytes | memoryview]]) -> None:
    counters: Counter[str] = Counter()
    journal = Journal(folder, 1 << 30, 0, counters)
    journal.append(records)
    writer = PostgresWriter(sqlalchemy.make_url(url), journal, None, counters)
    writer.start()
    writer.tried.wait(10)
    writer.stop(20)
    journal.close()
    assert writer.problem is None
    assert writer.backlog_bytes == 0


@pytest.fixture
def andon(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Andon]:
    """Run `andon` in this process; return what it writes to stdout (or, where it is to fail, to stderr)."""
    monkeypatch.setenv("ANDON_DATABASE_URL", url)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: object, code: int = 0) -> str:
        assert cli.main([*map(str, words), "--home", str(tmp_path / "home")]) == code
        said = capsys.readouterr()
        if code:
            assert said.out == ""
            assert len(said.err.splitlines()) == 1
        return said.err if code else said.out

    yield run
    signal.signal(signal.SIGTERM, handler)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# query


def test_a_list_on_a_terminal_or_for_a_program(andon: Andon) -> None:
    lines = andon("query", "--limit", 20).splitlines()
    assert lines[0].split() == ["TIME", "VERDICT", "SCORE", "PRODUCT", "RECIPE", "GATE", "REASONS", "PART"]
    assert lines[1].endswith("st-r1-00000119")
    assert lines[21].startswith("20 parts: 2 FAULT, 2 REJECT, 16 PASS")
    assert "\x1b" not in "".join(lines)
    after = lines[22].split()[-1]
    page = json.loads(andon("query", "--after", after, "--limit", 5, "--json"))
    assert [part["sequence"] for part in page["parts"]] == [99, 98, 97, 96, 95]
    assert len(json.loads(andon("query", "--limit", 1000, "--json"))["parts"]) == PARTS


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--verdict", "reject", "--verdict", "FAULT"), 20),
        (("--product", EVIL), 20),
        (("--since", "2026-11-20T11:00Z", "--until", "2026-11-20T12:30:00+01:00"), 30),
        (("--challenge",), 1),
        (("--no-challenge",), PARTS - 1),
        (("--review", "disputed"), 1),
        (("--bundle", "00000000", "--camera", "top", "--score-min", 2), 12),
        (("--until", "1500w"), 0),
    ],
)
def test_filters_mean_what_they_say(andon: Andon, words: tuple[object, ...], parts: int) -> None:
    assert len(json.loads(andon("query", *words, "--json", "--limit", 500))["parts"]) == parts


def test_other_questions(andon: Andon) -> None:
    assert json.loads(andon("query", "--counts", "--json"))["total"] == PARTS
    assert "parts             120" in andon("query", "--counts")
    rates = json.loads(andon("query", "--rates", "hour", "--json"))
    assert [point["parts"] for point in rates["points"]] == [60, 60]
    assert len(andon("query", "--rates", "HOUR").splitlines()) == 3
    assert "product" in andon("query", "--choices")
    assert {one["name"] for one in json.loads(andon("query", "--choices", "--json"))["products"]} == {EVIL, "Käppchen"}
    part = andon("query", "--part", "st-r1-00000020")
    assert "REJECT" in part
    assert "DEFECT ON" in part
    assert json.loads(andon("query", "--part", "st-r1-00000020", "--json"))["details"][0]["regions"][0]["x_px"] == 60
    assert "no change of rejects" in andon("query", "--since-when", "rejects")
    answer = json.loads(andon("query", "--since-when", "score", "--json", "--product", "nothing"))
    assert (answer["change"], answer["parts"]) == (None, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "since: 'yesterday' is no time: give a time as"),
        (("--since", "99999999w"), "since: '99999999w' is no time"),
        (("--since", "1h", "--until", "2h"), "must be before until"),
        (("--recipe-version", "x"), "recipe_version: "),
        (("--verdict", "maybe"), "verdicts"),
        (("--score-min", "nan"), "score_min"),
        (("--after", "nonsense"), "after: is no cursor"),
        (("--rates", "year"), "--rates: 'year' is none of minute, hour, day, week"),
        (("--since-when", "luck"), "--since-when: 'luck' is none of score, rejects, review, fault, defects"),
        (("--since-when", "rejects", "--verdict", "PASS"), "cannot be chosen"),
        (("--part", "st-r1-0"), "there is no such part"),
        (("--part", "st-r1-00000001", "--line", "1"), "a filter chooses nothing with --part"),
        (("--counts", "--limit", "3"), "--limit, --after: are for the list of parts only"),
    ],
)
def test_wrong_words_are_one_clear_line(andon: Andon, words: tuple[str, ...], said: str) -> None:
    assert said in andon("query", *words, code=2)


# export


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_part_and_no_formula(andon: Andon, tmp_path: Path) -> None:
    said = andon("export", "--as", "csv", "--out", tmp_path / "out", "--images")
    assert "120 parts, 120 views, 12 defects, 124 images" in said
    parts = rows(tmp_path / "out" / "parts.csv")
    assert [int(row["sequence"]) for row in parts] == list(range(PARTS))
    assert parts[0]["trigger_time"] == "2026-11-20T10:00:00+00:00"
    assert parts[0]["product"] == "Käppchen"
    assert parts[110]["product"] == "'" + EVIL
    assert (parts[5]["challenge"], parts[5]["truth_good"], parts[6]["truth_good"]) == ("true", "false", "")
    assert [parts[number]["review"] for number in (10, 20, 30, 40)] == ["GOOD", "DEFECT", "DISPUTED", ""]
    assert (parts[20]["held"], parts[21]["held"]) == ("true", "false")
    views = rows(tmp_path / "out" / "views.csv")
    assert (views[0]["frame_width_px"], views[31]["review"]) == ("64", "DEFECT")
    defects = rows(tmp_path / "out" / "defects.csv")
    assert [row["part_id"][-3:] for row in defects] == [f"{number:03}" for number in range(0, PARTS, 10)]
    assert (defects[2]["x_px"], defects[2]["defect_class"]) == ("60", "dent")
    images = tmp_path / "out" / "images"
    assert (images / "st-r1-00000020" / "top-crop-0.png").read_bytes() == picture(20, 8)
    assert (images / "st-r1-00000021" / "top-image.png").read_bytes() == picture(21)
    assert not list(tmp_path.glob("*.partial"))


def test_one_file_of_chosen_parts(andon: Andon, tmp_path: Path) -> None:
    said = json.loads(andon("export", "--as", "csv", "--out", tmp_path / "a.csv", "--verdict", "REJECT", "--json"))
    assert (said["parts"], said["as"], said["out"]) == (12, "csv", str(tmp_path / "a.csv"))
    assert len(rows(tmp_path / "a.csv")) == 12
    assert "is one file" in andon("export", "--as", "csv", "--out", tmp_path / "b.csv", "--images", code=2)
    assert names(tmp_path) == ["a.csv"]


def test_parquet_is_the_same_with_types(andon: Andon, tmp_path: Path) -> None:
    pytest.importorskip("arro3.io", reason="the parquet extra is not installed")
    from arro3.io import read_parquet  # noqa: PLC0415 - an extra

    andon("export", "--as", "parquet", "--out", tmp_path / "out")
    andon("export", "--as", "csv", "--out", tmp_path / "csv")
    assert (names(tmp_path / "out")) == ["defects.parquet", "parts.parquet", "views.parquet"]
    for name, count in (("parts", PARTS), ("views", PARTS), ("defects", 12)):
        table = read_parquet(tmp_path / "out" / f"{name}.parquet").read_all()
        assert table.num_rows == count
        written = rows(tmp_path / "csv" / f"{name}.csv")
        assert table.column_names == list(written[0])
    parts = read_parquet(tmp_path / "out" / "parts.parquet").read_all()
    assert parts["trigger_time"][7].as_py() == BEGIN + timedelta(minutes=7)
    assert (parts["product"][110].as_py(), parts["score"][0].as_py()) == (EVIL, 3.0)
    assert (parts["challenge"][5].as_py(), parts["truth_good"][6].as_py()) == (True, None)


def test_folder_holds_all_of_each_part(andon: Andon, tmp_path: Path) -> None:
    andon("export", "--as", "folder", "--out", tmp_path / "out", "--verdict", "REJECT")
    assert len(names(tmp_path / "out")) == 12
    part = tmp_path / "out" / "st-r1-00000050"
    assert (names(part)) == ["part.json", "top-crop-0.png", "top-image.png"]
    assert json.loads((part / "part.json").read_text())["details"][0]["regions"][0]["area_px"] == 11


def test_coco_is_what_its_format_says(andon: Andon, tmp_path: Path) -> None:
    andon("export", "--as", "coco", "--out", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    check_coco(found, tmp_path / "out")
    names = {category["id"]: category["name"] for category in found["categories"]}
    boxes = {}
    for box in found["annotations"]:
        image = next(image for image in found["images"] if image["id"] == box["image_id"])
        boxes[int(image["part_id"][-8:])] = (names[box["category_id"]], box["bbox"], image["width"])
    assert len(found["images"]) == PARTS - 8
    assert 10 not in boxes  # found GOOD
    assert boxes[0] == ("defect", [1, 2, 3, 4], 64)
    assert boxes[20] == ("dent", [60, 60, 4, 4], 64)  # what is outside is cut off


def check_coco(found: dict[str, list[dict[str, object]]], folder: Path) -> None:
    """Check what pycocotools and its users take for granted (https://cocodataset.org/#format-data)."""
    assert set(found) == {"info", "licenses", "images", "annotations", "categories"}
    for kind in ("images", "annotations", "categories"):
        numbers = [one["id"] for one in found[kind]]
        assert len(set(numbers)) == len(numbers)
        assert all(isinstance(number, int) and number > 0 for number in numbers)
    images = {image["id"]: image for image in found["images"]}
    for image in images.values():
        pixels = cv2.imread(str(folder / str(image["file_name"])))
        assert pixels.shape[:2] == (image["height"], image["width"])
    assert len(list((folder / "images").iterdir())) == len(images)
    categories = {category["id"] for category in found["categories"]}
    for box in found["annotations"]:
        assert set(box) >= {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd"}
        assert box["category_id"] in categories
        x, y, width, height = box["bbox"]  # type: ignore[misc]  # JSON
        image = images[box["image_id"]]
        assert x >= 0 and y >= 0 and width > 0 and height > 0  # noqa: PT018 - one box
        assert x + width <= image["width"] and y + height <= image["height"]  # noqa: PT018 - one box
        assert box["area"] > 0 and box["iscrowd"] == 0  # type: ignore[operator]  # noqa: PT018 - JSON, one box


def test_mvtec_is_read_back_by_the_training_side(andon: Andon, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = json.loads(andon("export", "--as", "mvtec", "--out", out, "--product", "Käppchen", "--json"))
    good = {path.name for path in dataset.training_images(out)}
    tested = {sample.path.name: sample.kind for sample in dataset.test_images(out)}
    of = "st-r1-{:08}-top-image.png".format
    kinds = {number: tested.get(of(number), "good" if of(number) in good else None) for number in range(100)}
    assert len(good | set(tested)) == len(good) + len(tested)  # nothing is in both
    assert kinds[5] == "Good defect"  # a challenge part that passed is not good, whatever its defect is called
    assert kinds[10] == "good"  # a false reject, as a person found
    assert kinds[20] == "dent"
    assert kinds[30] is None  # disputed
    assert kinds[31] == "crack"
    assert kinds[14] is None  # FAULT
    assert {kinds[number] for number in (0, 40, 50, 60, 70, 80, 90)} == {"defect"}
    assert all(
        kinds[number] == "good" for number in range(100) if number % 10 and number not in {5, 31} and number % 15 != 14
    )
    assert 0 < sum(kind == "good" for kind in tested.values()) < len(good)
    assert said["views_unknown"] == 7  # six FAULTs and the disputed one
    assert said["images_reduced"] > 0
    assert cv2.imread(str(dataset.training_images(out)[0])) is not None


def test_mvtec_says_what_cannot_be_learnt(andon: Andon, tmp_path: Path) -> None:
    many = andon("export", "--as", "mvtec", "--out", tmp_path / "a", code=2)
    assert "one product and one camera are learnt at a time: choose them with --product and --camera" in many
    none = andon("export", "--as", "mvtec", "--out", tmp_path / "b", "--verdict", "FAULT", code=2)
    assert "no image of a good part is stored" in none
    assert names(tmp_path) == []


def test_what_is_there_is_left_alone(andon: Andon, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert "is there already" in andon("export", "--as", "csv", "--out", tmp_path / "mine", code=2)
    (tmp_path / "a.csv.partial").mkdir()
    assert "another export is under way" in andon("export", "--as", "csv", "--out", tmp_path / "a.csv", code=2)
    assert "cannot be made" in andon("export", "--as", "csv", "--out", tmp_path / "no" / "a", code=2)
    assert (names(tmp_path)) == ["a.csv.partial", "mine"]
    assert names(tmp_path / "mine") == []


@pytest.mark.parametrize("form", ["csv", "parquet", "coco", "folder", "mvtec"])
def test_a_disk_that_takes_no_more_leaves_nothing(andon: Andon, tmp_path: Path, form: str) -> None:
    """A limit of the file's size fails a write as a full disk does, without one."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limit[1]))
    try:
        said = andon("export", "--as", form, "--out", tmp_path / "out", "--product", "Käppchen", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large: nothing was exported" in said
    assert names(tmp_path) == []


def test_an_export_that_is_ended_leaves_nothing(url: str, tmp_path: Path) -> None:
    """It is held in its midst, so that it cannot be through before it is told to end."""
    command = [sys.executable, "-m", "deploy", "export", "--as", "folder", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, env={**os.environ, "ANDON_DATABASE_URL": url}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until_s = time.monotonic() + 30
    while not list(tmp_path.glob("out.partial/*/*.json")):
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.0005)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    assert 0 < len(names(tmp_path / "out.partial")) < PARTS
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait(10) == 130
    assert names(tmp_path) == []
