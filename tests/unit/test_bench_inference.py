"""`andon bench inference`, in a hurry: every engine that is installed, real runs, few of them."""

from __future__ import annotations

import json

import pytest

from deploy.bench import inference


def test_every_setting_is_measured_beside_the_bare_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_RUNS_S", 0.5)
    monkeypatch.setattr(inference, "_BUCKETS", (1, 2))
    report = inference.run()
    told = json.loads(report.as_json())
    for device in ("cpu", "openvino_cpu"):
        for bucket in (1, 2):
            name = f"{device}_threads_1_bucket_{bucket}"
            assert 0 < told["figures"][f"{name}_p50_ms"] <= told["figures"][f"{name}_p99_ms"]
            assert told["figures"][f"{name}_runs"] >= 1
            assert 0.1 < told["figures"][f"{name}_to_bare"] < 20
        assert 1 < told["figures"][f"{device}_resident_mb"] < 300
    assert told["targets"]["cpu_threads_1_bucket_1_to_bare"]["at_most"] == 1.05
    text = report.as_text()
    assert len([line for line in text.splitlines() if line.startswith("  cpu_threads_")]) >= 2
    assert "most frames a second: device '" in text
