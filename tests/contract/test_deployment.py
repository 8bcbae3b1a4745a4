"""docs/deployment: its files agree with the gateway, and with each other."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from maniac_core.cli.main import _parser, main

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "docs" / "deployment"
_UNITS = sorted(_FOLDER.glob("*.service"))
_COMPOSE: dict[str, Any] = yaml.safe_load((_FOLDER / "compose.yaml").read_text(encoding="utf-8"))
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
_OURS = {name: service for name, service in _SERVICES.items() if "build" in service}
_CONFIG = _FOLDER / "gateway.toml"
_BALANCER = (_FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
_PINNED = re.compile(r"[\w./-]+:\d+(\.\d+)+[\w.-]*")


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, Any]]:
    """The tables of gateway.toml."""
    return tomllib.loads(_CONFIG.read_text(encoding="utf-8"))


@pytest.mark.parametrize("service", [None, *_OURS])
def test_the_configuration_passes(service: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check-config` accepts it as it stands, and with what compose puts into the environment."""
    for name, value in _SERVICES.get(service or "", {}).get("environment", {}).items():
        monkeypatch.setenv(name, value)

    assert main(["check-config", "--config", str(_CONFIG)]) == 0


@pytest.mark.parametrize("unit", _UNITS, ids=lambda unit: unit.name)
def test_units_run_commands_that_exist(unit: Path) -> None:
    """The command line of a unit is one that the gateway takes, on the unit's port."""
    program, *arguments = _command(unit)
    parsed = _parser().parse_args(arguments)

    assert Path(program).name == "maniac-gateway"
    assert parsed.module in unit.name
    assert parsed.config.name == _CONFIG.name
    assert 4141 in vars(parsed).values()


def test_compose_runs_commands_that_exist() -> None:
    """The gateway's services are two cores, two edges and a migration, and read the configuration that is mounted."""
    modules = []
    for service in _OURS.values():
        parsed = _parser().parse_args(shlex.split(service["command"]))
        modules.append(parsed.module)
        assert f"./{_CONFIG.name}:{parsed.config}:ro" in service["volumes"]

    assert sorted(modules) == ["core", "core", "edge", "edge", "migrate"]


def test_images_are_pinned() -> None:
    """No image changes by itself."""
    dockerfile = (_FOLDER / "Dockerfile").read_text(encoding="utf-8")
    images = [service["image"] for service in _SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)

    assert [image for image in images if not _PINNED.fullmatch(image)] == []


def test_what_compose_names_exists() -> None:
    """Mounted files, declared volumes, awaited services, and what the image is built from."""
    for service in _SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (_FOLDER / source).is_file() or source in _COMPOSE["volumes"], source
        assert set(service.get("depends_on", {})) <= set(_SERVICES)
    for service in _OURS.values():
        context = (_FOLDER / service["build"]["context"]).resolve()
        assert context == _ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
    ignored = (_FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for kept in re.findall(r"^!(.+)$", ignored, re.MULTILINE):
        assert (_ROOT / kept).exists(), kept


def test_addresses_agree(tables: dict[str, dict[str, Any]]) -> None:
    """The edges know both cores, and the balancer both edges, by the addresses that compose gives them."""
    cores = [f"{_address(name)}:4141" for name in ("core-1", "core-2")]
    edges = [f"{_address(name)}:4000" for name in ("edge-1", "edge-2")]

    assert tables["edge"]["core"] == f"ipv4:{','.join(cores)}"
    assert re.findall(r"^ +server \S+ (\S+)$", _BALANCER, re.MULTILINE) == edges


def test_whoever_stops_a_process_waits_long_enough(tables: dict[str, dict[str, Any]]) -> None:
    """An edge drains for longer than the balancer needs to notice; nothing is killed within its grace."""
    checks = re.search(r"check inter (\d+)s fall (\d+)", _BALANCER)
    assert checks is not None
    assert tables["edge"]["drain_s"] > int(checks[1]) * int(checks[2])

    needed = 10 + max(
        tables["core"]["grace_s"], tables["edge"]["drain_s"] + tables["edge"]["grace_s"]
    )
    limits = [service["stop_grace_period"].removesuffix("s") for service in _OURS.values()]
    for unit in _UNITS:
        limits += re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert len(limits) == len(_OURS) + len(_UNITS)
    assert min(map(int, limits)) >= needed


def test_the_environment_holds_no_secret() -> None:
    """The example of the environment names variables and gives none a value."""
    lines = (_FOLDER / "environment.example").read_text(encoding="utf-8").splitlines()

    assert "PGPASSWORD=" in lines
    assert [line for line in lines if not re.fullmatch(r"(#.*|[A-Z_]+=|)", line)] == []


def _command(unit: Path) -> list[str]:
    found = re.search(r"^ExecStart=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return shlex.split(found[1].replace("%i", "4141").replace("%S", "/var/lib"))


def _address(service: str) -> str:
    address: str = _SERVICES[service]["networks"]["default"]["ipv4_address"]
    return address
