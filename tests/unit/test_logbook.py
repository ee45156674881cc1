import io
import json
import os

from deploy.logbook import Logbook, ScreenProgress


def test_warnings_are_shown_and_everything_is_kept(tmp_path):
    screen = io.StringIO()
    book = Logbook(tmp_path, screen)
    book.take("worker-0", json.dumps({"level": "info", "event": "fine", "service": "worker-0"}), silent=False)
    book.take("worker-0", json.dumps({"level": "error", "event": "broken", "file": "a.andon"}), silent=False)
    book.take("postgres", "LOG: checkpoint", silent=True)
    book.take("worker-0", "Segmentation fault", silent=False)
    shown = screen.getvalue()
    assert "worker-0: broken file=a.andon" in shown
    assert "Segmentation fault" in shown
    assert "fine" not in shown
    assert "checkpoint" not in shown
    kept = [json.loads(line) for line in book.path.read_text().splitlines()]
    assert [entry["event"] for entry in kept] == ["fine", "broken", "LOG: checkpoint", "Segmentation fault"]
    assert book.last_error("worker-0") == "broken"
    assert book.last_error("postgres") is None


def test_the_log_never_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.logbook._FILE_BYTES", 2_000)
    book = Logbook(tmp_path, io.StringIO())
    for number in range(500):
        book.write("camera", "info", f"line {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5 * 2_200


def test_a_log_that_cannot_be_written_is_said_once_when_it_begins_and_once_when_it_ends(tmp_path, capsys):
    (tmp_path / "andon.log").symlink_to("/dev/full")
    screen = io.StringIO()
    book = Logbook(tmp_path, screen)
    for number in range(20):
        book.write("camera", "info", f"line {number}")
    assert screen.getvalue().count("the log cannot be written, the line goes on: No space left") == 1
    with (tmp_path / "room").open("wb") as room:
        os.dup2(room.fileno(), book._file.stream.fileno())
    book.write("camera", "info", "last")
    assert "of 20 lines some may be missing" in screen.getvalue()
    assert '"event": "last"' in (tmp_path / "room").read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_progress_is_shown_at_a_stages_begin_and_end():
    lines: list[str] = []
    progress = ScreenProgress(lines.append)
    for done in range(101):
        progress("fit", done, 100)
    assert lines == ["fit: 0 of 100", "fit: 100 of 100"]
