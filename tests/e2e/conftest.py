"""One gateway and one scripted provider for all tests that need no special configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway import CONFIG, Gateway
from observing import Observed, start_observed
from upstream import Upstream


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    upstream.start()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The provider, with nothing left of other tests."""
    _upstream.reset()
    return _upstream


@pytest.fixture(scope="session")
def gateway(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway that tests share; they see each other's records."""
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"), CONFIG.format(base_url=_upstream.base_url)
    )
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway of the test's own."""
    started: list[Gateway] = []

    def start(config: str, environ: dict[str, str] | None = None) -> Gateway:
        # Short: the path of a socket has to fit into 107 bytes.
        folder = tmp_path / str(len(started))
        folder.mkdir()
        gateway = Gateway(folder, config, environ=environ)
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="module")
def _observed(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    observed = start_observed(tmp_path_factory.mktemp("observed"), _upstream.base_url)
    yield observed
    observed.gateway.stop()
    observed.collector.stop()


@pytest.fixture
def observed(_observed: Observed, upstream: Upstream) -> Observed:
    """A gateway with metrics and traces, its provider with nothing left of other tests."""
    del upstream
    return _observed
