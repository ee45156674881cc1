import pytest

import ingest.cameras
from config import plugins
from config.errors import EXIT_CONFIGURATION, ConfigurationError, MissingExtraError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest.cameras, "__path__", [*ingest.cameras.__path__, str(tmp_path)])
    return tmp_path


def test_plug_ins_are_files(folder):
    (folder / "added.py").write_text(
        "from pydantic import BaseModel\nclass Options(BaseModel):\n    depth_px: int = 1\n"
    )
    (folder / "_private.py").write_text("")
    assert plugins.names("ingest.cameras") == ["added", "folder", "simulated"]
    module = plugins.load("ingest.cameras", "added")
    assert plugins.options(module, {"depth_px": 3}, "here").model_dump() == {"depth_px": 3}
    with pytest.raises(ConfigurationError, match=r"station\.toml: camera 1: depth_px: .*\(got 'deep'\)"):
        plugins.options(module, {"depth_px": "deep"}, "station.toml: camera 1")


def test_an_absent_sdk_fails_only_when_it_is_asked_for_and_names_its_extra(folder):
    (folder / "gige.py").write_text("import an_sdk_that_is_not_installed\n")
    assert "gige" in plugins.names("ingest.cameras")
    with pytest.raises(MissingExtraError, match=r"an_sdk_that_is_not_installed.*andon\[gige\]") as caught:
        plugins.load("ingest.cameras", "gige")
    assert caught.value.exit_code == EXIT_CONFIGURATION


@pytest.mark.parametrize("name", ["", "Webcam", "no_such", "../evil", "os.path", "__init__", "_private"])
def test_names_that_are_no_plug_in_are_refused(name):
    with pytest.raises(ConfigurationError, match="there are folder, simulated"):
        plugins.load("ingest.cameras", name)
