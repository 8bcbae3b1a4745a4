"""One gateway in front of scripted providers of every dialect, for clients of every wire."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from gateway import KEY, Gateway
from providers import Providers

KINDS = {
    "openai": "openai",
    "spare": "openai",
    "openrouter": "openai",
    "newer": "openai-responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
HEAD = """
[core]
rate_limit = 1000000
local_model = "off"
[edge]
keep_alive_comment_s = 5
"""


@pytest.fixture(scope="session")
def _providers() -> Iterator[Providers]:
    providers = Providers()
    providers.start()
    yield providers
    providers.stop()


@pytest.fixture
def providers(_providers: Providers) -> Providers:
    """All providers, answering as well-behaved ones do until told otherwise."""
    _providers.reset()
    return _providers


@pytest.fixture(scope="session")
def gateway(_providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway that all tests of wires share."""
    config = HEAD
    for name, kind in KINDS.items():
        version = "/v1" if kind.startswith("openai") else ""
        config += f"""
[providers.{name}]
kind = "{kind}"
base_url = "http://127.0.0.1:{_providers.port}/{name}{version}"
api_key_env = "WIRES_KEY"
max_retries = 0
breaker = false
"""
    environ = {"WIRES_KEY": "key-of-the-provider"}
    gateway = Gateway(tmp_path_factory.mktemp("wires"), config, environ=environ)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client, as its users have it; it retries nothing."""
    base_url = gateway.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client
