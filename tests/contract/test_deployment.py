"""docs/deployment: its files agree with the gateway, and with each other."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from maniac_core.cli.main import _parser, main
from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "docs" / "deployment"
_UNITS = sorted(_FOLDER.glob("*@.service"))
_ALL_UNITS = sorted(_FOLDER.glob("*.service"))
_COMPOSE: dict[str, Any] = yaml.safe_load((_FOLDER / "compose.yaml").read_text(encoding="utf-8"))
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
_OURS = {name: service for name, service in _SERVICES.items() if "build" in service}
_CONFIG = _FOLDER / "gateway.toml"
_BALANCER = (_FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
_DOCKERFILE = (_FOLDER / "Dockerfile").read_text(encoding="utf-8")
_CONFINED = {
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectKernelTunables=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "RestrictNamespaces=yes",
    "SystemCallFilter=@system-service",
    "LimitCORE=0",
}
_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
_PINNED = re.compile(r"[\w./-]+:\d+(\.\d+)+[\w.-]*")


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, Any]]:
    """The tables of gateway.toml."""
    return tomllib.loads(_CONFIG.read_text(encoding="utf-8"))


@pytest.mark.parametrize("service", [None, *_OURS])
def test_the_configuration_passes(service: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check-config` accepts it as it stands, and with what compose puts into the environment."""
    for name, value in _SERVICES.get(service or "", {}).get("environment", {}).items():
        monkeypatch.setenv(name, _VARIABLE.sub("secret" * 6, value))

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
    images = [service["image"] for service in _SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", _DOCKERFILE, re.MULTILINE)

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


@pytest.mark.parametrize("unit", _ALL_UNITS, ids=lambda unit: unit.name)
def test_units_are_confined(unit: Path) -> None:
    """They see a read-only system without capabilities, and what they may take is bounded."""
    directives = unit.read_text(encoding="utf-8").splitlines()

    assert _CONFINED - set(directives) == set()
    for name in ("MemoryMax", "CPUQuota", "TasksMax", "TimeoutStopSec"):
        assert len([line for line in directives if re.fullmatch(rf"{name}=\d\S*", line)]) == 1, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", _ALL_UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_units_safe(unit: Path, tmp_path: Path) -> None:
    """By systemd's own measure of exposure, from 0 (none) to 100 (all)."""
    copy = tmp_path / unit.name.replace("@", "@4141")
    shutil.copy(unit, copy)
    measured = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", copy],
        check=False,
        capture_output=True,
        text=True,
    )
    assert measured.returncode == 0, measured.stdout


def test_the_unit_of_one_machine_serves() -> None:
    """Its command line is one that the gateway takes."""
    _, *arguments = _command(_FOLDER / "maniac-serve.service")
    parsed = _parser().parse_args(arguments)

    assert parsed.module == "serve"
    assert parsed.data_dir == "/var/lib/maniac"


def test_containers_are_confined() -> None:
    """They see a read-only system, have no capabilities but those named, and what they may take is bounded."""
    for name, service in _SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
    assert [name for name, service in _SERVICES.items() if "cap_add" in service] == ["postgres"]


def test_secrets_are_asked_for() -> None:
    """No secret has a default, and the example of the environment names each."""
    text = (_FOLDER / "compose.yaml").read_text(encoding="utf-8")
    named = re.findall(r"(?<!\$)\$\{?(\w+)", text)
    environment = (_FOLDER / "environment.example").read_text(encoding="utf-8")

    assert set(named) == {"MANIAC_EDGE_KEY", "PGPASSWORD", "REDIS_PASSWORD"}
    assert len(_VARIABLE.findall(text)) == len(named)
    assert all(f"\n{name}=\n" in environment for name in named)


def test_the_image_runs_a_command_that_exists() -> None:
    """By default it serves, on all its interfaces, as a user of its own, and says whether it does."""
    (command,) = re.findall(r"^CMD (.+)$", _DOCKERFILE, re.MULTILINE)
    parsed = _parser().parse_args(json.loads(command))

    assert (parsed.module, parsed.host) == ("serve", "0.0.0.0")
    assert "\nEXPOSE 4000 4141\n" in _DOCKERFILE
    assert "\nUSER maniac\n" in _DOCKERFILE
    assert "/readyz" in _DOCKERFILE[_DOCKERFILE.index("\nHEALTHCHECK") :]


def test_the_image_is_built_from_hashes() -> None:
    """Whatever is installed has its hash in a lock file; the wheel of the gateway comes from the build itself."""
    installs = re.findall(r"pip install (.+?)(?:\\|;|$)", _DOCKERFILE, re.MULTILINE)

    assert len(installs) == 4
    assert all("--require-hashes" in line or "--no-index --no-deps" in line for line in installs)
    for name in re.findall(r"-r (locks/\S+?\.txt)", _DOCKERFILE):
        assert (_FOLDER / name).is_file(), name


def test_locks_pin_what_the_project_asks_for() -> None:
    """Each requirement is pinned to a version that fits, each file by its hash, and no index is named."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = {
        "runtime": [
            *project["project"]["dependencies"],
            *(line for extra in ("postgres", "redis", "otel", "yaml") for line in extras[extra]),
        ],
        "local": extras["local"],
        "build": project["build-system"]["requires"],
    }
    for name, requirements in wanted.items():
        text = (_FOLDER / "locks" / f"{name}.txt").read_text(encoding="utf-8")
        pins = dict(
            re.findall(r"^([\w.-]+)==([\w.]+) .*\\\n    --hash=sha256:", text, re.MULTILINE)
        )
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(pins[requirement.name]), requirement
        assert "://" not in text
        assert not re.search(r"^-", text, re.MULTILINE)
        assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) == len(pins)


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
