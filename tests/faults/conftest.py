"""One gateway with many providers, all of them scripted on real sockets, with short deadlines."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import openai
import pytest
from asking import Asked, ask
from gateway import KEY, Gateway
from ledger import Ledger
from providers import Providers, service_account

# Deadlines that no test wants to meet.
LONG = "connect_s = 20, first_token_s = 20, idle_s = 20, total_s = 20"
TABLES = {
    # name: what differs from a plain provider without retries, breaker and key
    "main": f"timeouts = {{ {LONG} }}",
    "spare": "",
    "patient": "",
    "again": "max_retries = 2",
    "broken": "breaker = true",
    "shaky": "breaker = true\nmax_retries = 2",
    "probed": "breaker = true\ntimeouts = { first_token_s = 0.4 }",
    "keyless": 'api_key_env = "FAULTS_KEY_THAT_IS_NOT_SET"',
    "dead_keys": 'api_key_env = ["FAULTS_KEY_A", "FAULTS_KEY_B", "FAULTS_KEY_C"]',
    "limited_keys": 'api_key_env = ["FAULTS_KEY_A", "FAULTS_KEY_B"]',
    "poor_keys": 'api_key_env = ["FAULTS_KEY_A", "FAULTS_KEY_B"]',
    "no_keys_left": 'api_key_env = ["FAULTS_KEY_A", "FAULTS_KEY_B"]',
    "odd_key": 'api_key_env = "FAULTS_KEY_ODD"',
    "first_token": f"timeouts = {{ {LONG.replace('first_token_s = 20', 'first_token_s = 0.3')} }}",
    "idle": f"timeouts = {{ {LONG.replace('idle_s = 20', 'idle_s = 0.3')} }}",
    "steady": f"timeouts = {{ {LONG.replace('idle_s = 20', 'idle_s = 1')} }}",
    "total": f"timeouts = {{ {LONG.replace('total_s = 20', 'total_s = 0.5')} }}",
    "late": "timeouts = { first_token_s = 2 }",
    "hasty": "timeouts = { first_token_s = 0.3, total_s = 0.5 }",
    "openai": 'api_key_env = "FAULTS_KEY_A"',
    "openrouter": "",
    "anthropic": 'kind = "anthropic"\napi_key_env = "FAULTS_KEY_A"',
    "gemini": 'kind = "gemini"\napi_key_env = "FAULTS_KEY_A"',
    "vertex": 'kind = "vertex"\nproject = "p-1"\nlocation = "europe-west1"',
    "bedrock": 'kind = "bedrock"\nregion = "eu-west-1"',
    "newer": 'kind = "openai-responses"\napi_key_env = "FAULTS_KEY_A"',
    "newer_again": 'kind = "openai-responses"\nmax_retries = 2',
    "by_wire": 'wire = "responses"',
    "learning": "",
    "unversioned": 'kind = "openai"',
    "unreachable": "",
    "unreachable_again": "max_retries = 1",
    "gone": "breaker = true\nmax_retries = 2",
    "unconnected": f"timeouts = {{ {LONG.replace('connect_s = 20', 'connect_s = 0.3')} }}",
}
HEAD = """
[core]
rate_limit = 1000000
local_model = "off"
[edge]
keep_alive_comment_s = 0.9
"""
ENVIRON = {f"FAULTS_KEY_{name}": f"key-{name.lower()}" for name in "ABC"}
ENVIRON |= {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret-of-aws"}
# A key that nothing but the configuration tells to be one.
ENVIRON["FAULTS_KEY_ODD"] = "correct/horse+battery"


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
def dead_ports() -> Iterator[dict[str, int]]:
    """A port that refuses connections, and one that neither accepts nor refuses: its backlog is full."""
    with socket.socket() as bound, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        bound.bind(("127.0.0.1", 0))
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        refusing = bound.getsockname()[1]
        yield {
            "unreachable": refusing,
            "unreachable_again": refusing,
            "gone": refusing,
            "unconnected": full.getsockname()[1],
        }
        for filler in fillers:
            filler.close()


@pytest.fixture(scope="session")
def gateway(
    _providers: Providers,
    dead_ports: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """The gateway that all fault tests share."""
    config = HEAD
    for name, extra in TABLES.items():
        port = dead_ports.get(name, _providers.port)
        lines = [f"[providers.{name}]", extra]
        if "kind" not in extra:
            lines.append('kind = "openai"')
        version = "" if "kind" in extra else "/v1"
        lines.append(f'base_url = "http://127.0.0.1:{port}/{name}{version}"')
        lines += [
            default
            for default in ("max_retries = 0", "breaker = false")
            if default.partition(" ")[0] not in extra
        ]
        config += "\n".join(lines) + "\n"
    account = tmp_path_factory.mktemp("google") / "account.json"
    account.write_text(json.dumps(service_account(_providers.port)))
    environ = {**ENVIRON, "GOOGLE_APPLICATION_CREDENTIALS": str(account)}
    gateway = Gateway(tmp_path_factory.mktemp("faults"), config, environ=environ)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def ledger(gateway: Gateway) -> Ledger:
    """The gateway's records, read from its file."""
    return Ledger(gateway.data_dir / "gateway.db")


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """The `openai` client; it retries nothing, and waits longer than any deadline here."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=25) as client:
        yield client


@pytest.fixture
def asked(client: openai.OpenAI) -> Callable[..., Asked]:
    """Ask the gateway through the `openai` client and return what it told."""

    def call(model: str, *, stream: bool, **parameters: object) -> Asked:
        return ask(client, model, stream=stream, **parameters)

    return call
