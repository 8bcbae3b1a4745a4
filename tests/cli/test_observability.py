"""What `serve` says when it is told to measure or trace and cannot."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def refused(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Run `serve` with a configuration that it cannot start with, and return what it says."""

    def serve(config: str = "", **variables: str) -> str:
        file = tmp_path / "gateway.toml"
        file.write_text(config + "\n[providers.demo]\nkind = 'scripted'\n")
        ended = run(
            *("serve", "--config", str(file), "--port", "0", "--grpc-port", "0"),
            MANIAC_CORE__LOCAL_MODEL="off",
            **variables,
        )
        assert ended.returncode in (1, 2)
        assert "Traceback" not in ended.stderr
        return ended.stderr

    return serve


def test_an_address_for_metrics_that_is_taken(refused: Callable[..., str]) -> None:
    """The key to change is named, before anything is started; both sides cannot have the same one either."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "[edge] metrics_listen" in refused(f"[edge]\nmetrics_listen = '{address}'")
    both = f"[core]\nmetrics_listen = '{address}'\n[edge]\nmetrics_listen = '{address}'"
    assert "are the same" in refused(both)


def test_traces_without_opentelemetry(refused: Callable[..., str], tmp_path: Path) -> None:
    """The extra to install is named."""
    (tmp_path / "hidden" / "opentelemetry").mkdir(parents=True)
    (tmp_path / "hidden" / "opentelemetry" / "__init__.py").write_text("raise ImportError")
    said = refused(
        PYTHONPATH=str(tmp_path / "hidden"), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318"
    )
    assert ".venv/bin/pip install '.[otel]'" in said


def test_traces_over_a_protocol_that_is_not_spoken(refused: Callable[..., str]) -> None:
    """It is named, with the one that is."""
    said = refused(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc"
    )
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not supported; set http/protobuf" in said
