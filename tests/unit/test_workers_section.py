"""Where workers of other machines connect to, and what is wrong with a station's workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.errors import ConfigurationError
from config.home import Home
from config.station import CameraSection, PlcSection, Station, WorkersSection
from deploy.working import remote


def station(**workers: object) -> Station:
    return Station(
        station="st",
        recipes={"p": Path("p.toml")},
        recipe="p",
        cameras=(CameraSection(name="top", type="simulated"), CameraSection(name="side", type="simulated")),
        plc=PlcSection(type="modbus"),
        workers=WorkersSection.model_validate(workers),
    )


def test_each_endpoint_has_a_port_of_its_own_from_the_one_named_on(tmp_path: Path) -> None:
    told = {
        "predictions": "tcp://10.0.0.1:5600",
        "health": "tcp://10.0.0.1:5601",
        "camera.top": "tcp://10.0.0.1:5602",
        "camera.side": "tcp://10.0.0.1:5603",
    }
    here = station(count=0, listen="tcp://10.0.0.1:5600")
    assert here.remote_endpoints() == told
    assert station().remote_endpoints() == {}
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.write_station(here.model_copy(update={"recipes": {"p": tmp_path / "p.toml"}}))
    local = f"ipc://{home.runtime}/camera.side.sock"
    assert home.addresses("camera.side") == [local, "tcp://10.0.0.1:5603"]
    assert len(home.addresses("records")) == 1
    # a worker over there finds nothing but these
    there = remote(here, "cuda:1")
    assert (there.endpoints, there.workers.device, there.remote_endpoints()) == (told, "cuda:1", {})


def test_a_station_without_any_worker_is_refused() -> None:
    with pytest.raises(ValidationError, match="count 0 needs listen"):
        WorkersSection(count=0)


@pytest.mark.parametrize("listen", [None, "tcp://0.0.0.0:5600", "tcp://*:5600", "tcp://[::]:5600"])
def test_an_address_that_says_no_machine_cannot_be_connected_to(listen: str | None) -> None:
    with pytest.raises(ConfigurationError, match="must name the address"):
        remote(station(listen=listen), None)


def test_a_device_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigurationError, match="--device gpu"):
        remote(station(listen="tcp://10.0.0.1:5600"), "gpu")
