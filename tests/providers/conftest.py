"""Recorded exchanges with providers, by marker: `@pytest.mark.recordings("openai-stream-*")`, argument `recording`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest


class Recording(msgspec.Struct, frozen=True):
    """One exchange."""

    name: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "recordings(*globs, without=glob): run once per recorded exchange"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recording" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("recordings")
    assert marker is not None
    folder = _folder()
    without = marker.kwargs.get("without")
    paths = sorted(
        path
        for glob in marker.args
        for path in folder.glob(f"{glob}.json")
        if not (without and path.match(f"{without}.json"))
    )
    if paths:
        metafunc.parametrize("recording", paths, ids=lambda path: path.stem, indirect=True)
    else:
        reason = f"no recordings {marker.args} in {folder}; set MANIAC_RECORDINGS"
        skip = pytest.mark.skip(reason=reason)
        metafunc.parametrize("recording", [pytest.param(None, marks=skip)], indirect=True)


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Recording:
    path: Path = request.param
    exchange = msgspec.json.decode(path.read_bytes())
    response = exchange["response"]
    return Recording(
        name=path.stem,
        request=exchange["request"],
        status=response["status"],
        headers=response["headers"],
        body=response["body_text"].encode(),
    )


def _folder() -> Path:
    configured = os.environ.get("MANIAC_RECORDINGS")
    if configured:
        return Path(configured)
    return Path(__file__).parents[3] / "shared" / "recordings"
