"""Metrics of a real gateway: what is counted, under which names, and that the page lists them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway
from observing import Observed, chat_body
from outage import SQLiteOutage
from ports import free_ports
from prometheus_client.parser import text_string_to_metric_families
from upstream import Exchange, Upstream, answer_or_stream

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _scrape(url: str) -> Samples:
    text = httpx.get(url).raise_for_status().text
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if v)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class _Change:
    """What was counted since its construction."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._before = _scrape(url)
        self._after = self._before

    def look(self) -> _Change:
        """Scrape again."""
        self._after = _scrape(self.url)
        return self

    def __call__(self, name: str, **labels: str) -> float:
        """Return by how much the samples with these labels, whatever their others are, have grown."""
        wanted = labels.items()
        return sum(
            value - self._before.get(key, 0.0)
            for key, value in self._after.items()
            if key[0] == name and wanted <= set(key[1])
        )

    def until(self, name: str, value: float, **labels: str) -> None:
        """Scrape until something is counted that nobody waits for."""
        deadline = time.monotonic() + 60
        while self.look()(name, **labels) != value:
            assert time.monotonic() < deadline, (name, self(name, **labels))
            # There is no event across processes to wait for.
            time.sleep(0.02)


def test_completions_are_counted_with_their_tokens_and_spend(observed: Observed) -> None:
    """Whole and streamed answers of a priced model: durations, tokens and dollars, under the model's name."""
    core, edge = _Change(observed.core_metrics), _Change(observed.edge_metrics)
    for stream in (False, True, False):
        assert observed.ask("openai/gpt-4o-mini", stream=stream).status_code == 200
    with observed.gateway.client() as client:
        records = client.get("/v1/chat/completions", params={"model": "openai/gpt-4o-mini"})
    spend = sum(record["spend"] for record in records.json()["data"])
    core.look()
    call = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_response_model": "openai/gpt-4o-mini",
    }
    assert core("gen_ai_server_request_duration_seconds_count", **call) == 3
    assert 0 < core("gen_ai_server_request_duration_seconds_sum", **call) < 60
    assert core("gen_ai_server_time_to_first_token_seconds_count", **call) == 1
    for kind, tokens in (("input", 27), ("output", 9)):
        assert core("gen_ai_client_token_usage_sum", **call, gen_ai_token_type=kind) == tokens
    assert core("maniac_completions_total", status="completed", streamed="true") == 1
    assert core("maniac_completions_total", status="completed", streamed="false") == 2
    assert core("maniac_upstream_attempts_total", gen_ai_provider_name="openai", outcome="ok") == 3
    assert (
        core("gen_ai_client_operation_duration_seconds_count", gen_ai_request_model="gpt-4o-mini")
        == 3
    )
    assert core("maniac_spend_usd_total", **call) == pytest.approx(spend)
    assert spend > 0
    assert core("maniac_capture_duration_seconds_count") == 3
    assert core("maniac_database_commits_total") >= 1
    scraped = _scrape(observed.core_metrics)
    assert scraped["maniac_captures_pending", frozenset()] == 0
    answered = {"http_route": "/v1/chat/completions", "http_response_status_code": "200"}
    edge.until(
        "http_server_request_duration_seconds_count", 3, http_request_method="POST", **answered
    )
    scraped = _scrape(observed.edge_metrics)
    assert scraped["maniac_cores_connected", frozenset()] == 1
    assert scraped["maniac_relay_calls", frozenset()] == 0
    assert scraped["http_server_active_requests", frozenset()] == 0


def test_failures_and_refusals_are_counted_by_reason(
    observed: Observed, upstream: Upstream
) -> None:
    """A provider that fails, a limit, a budget, a wrong key and a wrong path: each under its code."""

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(500, b'{"error": {"message": "no"}}')

    core, edge = _Change(observed.core_metrics), _Change(observed.edge_metrics)
    upstream.handler = fail
    assert observed.ask("mock/m1").status_code == 502
    upstream.handler = answer_or_stream
    limited = run_command(observed.gateway, "keys", "create", "--rate", "1").strip()
    poor = run_command(observed.gateway, "keys", "create", "--budget-usd", "0.000000001").strip()
    statuses = []
    with httpx.Client(base_url=observed.gateway.base_url, timeout=30) as client:
        for key, model in (
            (limited, "mock/m1"),
            (limited, "mock/m1"),
            (poor, "openai/gpt-4o-mini"),
            ("mk-nobody", "mock/m1"),
        ):
            bearer = {"authorization": f"Bearer {key}"}
            answer = client.post("/chat/completions", json=chat_body(model), headers=bearer)
            statuses.append(answer.status_code)
        client.request("PROPFIND", "/nowhere/to/be/found")
        bearer = {"authorization": f"Bearer {KEY}"}
        client.get("/nowhere/to/be/found", headers=bearer)
    assert statuses == [200, 429, 402, 401]
    core.look()
    assert core("maniac_completions_total", status="failed", error_type="upstream_error") == 1
    assert core("maniac_completions_total", error_type="insufficient_balance") == 1
    assert (
        core("maniac_upstream_attempts_total", gen_ai_provider_name="mock", outcome="failed") == 2
    )
    failed = {"gen_ai_request_model": "m1", "error_type": "upstream_error"}
    assert core("gen_ai_client_operation_duration_seconds_count", **failed) == 2
    assert core("maniac_rate_limit_refusals_total", unit="requests") == 1
    duration = "http_server_request_duration_seconds_count"
    edge.until(duration, 1, http_request_method="_OTHER", error_type="missing_api_key")
    for status, code in (
        ("502", "upstream_error"),
        ("429", "rate_limit_exceeded"),
        ("402", "insufficient_balance"),
        ("401", "invalid_api_key"),
        ("404", "route_not_found"),
    ):
        edge.until(duration, 1, http_response_status_code=status, error_type=code)
    assert not any(
        "nowhere" in value for _, labels in _scrape(observed.edge_metrics) for _, value in labels
    )


def test_names_of_callers_make_no_series(observed: Observed, upstream: Upstream) -> None:
    """What no list holds and never answered is _OTHER; one that answered has its name."""

    async def unknown(exchange: Exchange) -> None:
        await exchange.respond(404, b'{"error": {"message": "no such model"}}')

    core = _Change(observed.core_metrics)
    upstream.handler = unknown
    for number in range(3):
        assert observed.ask(f"open/invented-{number}").status_code >= 400
    upstream.handler = answer_or_stream
    assert observed.ask("open/real").status_code == 200
    assert observed.ask("nobody/invented-9").status_code == 404
    core.look()
    name = "gen_ai_server_request_duration_seconds_count"
    assert core(name, gen_ai_provider_name="open", gen_ai_response_model="_OTHER") == 3
    assert core(name, gen_ai_response_model="open/real") == 1
    assert "invented" not in httpx.get(observed.core_metrics).text


def test_a_provider_that_is_paused_shows(observed: Observed, upstream: Upstream) -> None:
    """A model's breaker opens after five failures, its provider's does not; what is not sent meanwhile counts as skipped."""

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(503, b"{}")

    core = _Change(observed.core_metrics)
    breaker = {"gen_ai_provider_name": "frail"}

    def state(model: str, state: str) -> tuple[str, frozenset[tuple[str, str]]]:
        labels = {**breaker, "gen_ai_request_model": model, "state": state}
        # The helper leaves out empty labels, which are the same as none.
        return "maniac_breaker_state", frozenset((k, v) for k, v in labels.items() if v)

    before = _scrape(observed.core_metrics)
    assert before[state("", "closed")] == 1
    assert state("m1", "closed") not in before
    upstream.handler = fail
    for _ in range(5):
        assert observed.ask("frail/m1").status_code == 503
    scraped = _scrape(observed.core_metrics)
    assert (scraped[state("m1", "closed")], scraped[state("m1", "open")]) == (0, 1)
    assert (scraped[state("", "closed")], scraped[state("", "open")]) == (1, 0)
    core.look()
    assert core("maniac_upstream_attempts_total", **breaker, outcome="failed") == 5
    # On a slow machine the pause may be over, and the next request a probe; but the pauses grow.
    while not core.look()("maniac_upstream_attempts_total", **breaker, outcome="skipped"):
        assert observed.ask("frail/m1").status_code == 503


def test_what_is_away_shows_and_holds_up_nothing(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """Neither database, Redis nor collector: requests are answered, metrics and log say why that is not all well.

    What is spooled is replayed; of the collector each process tells once, not with every batch.
    """
    metrics, closed = free_ports(2)
    gateway = start_gateway(
        f"""
[core]
local_model = "off"
durability = "available"
key_grace_s = 60
redis_url = "redis://127.0.0.1:{closed}/0"
redis_timeout_ms = 1000
metrics_listen = "127.0.0.1:{metrics}"
[providers.mock]
kind = "openai"
base_url = "{upstream.base_url}"
""",
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
            # Every span is a batch, and fails by itself.
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
        },
    )
    core = _Change(f"http://127.0.0.1:{metrics}/metrics")
    database = SQLiteOutage(gateway.data_dir / "gateway.db")
    with gateway.client() as client:
        client.post("/v1/chat/completions", json=chat_body("mock/m1")).raise_for_status()
        core.look()
        assert core("maniac_redis_paused") == 1
        assert core("maniac_redis_uncounted_requests_total") == 1
        database.begin()
        client.post("/v1/chat/completions", json=chat_body("mock/m1")).raise_for_status()
    core.look()
    back = _Change(core.url)
    assert _scrape(core.url)["maniac_database_up", frozenset()] == 0
    assert core("maniac_spooled_records_total") == 1
    assert core("maniac_capture_duration_seconds_count") == 2, "kept, if in the spool"
    database.end()
    core.until("maniac_replayed_records_total", 1)
    back.until("maniac_database_up", 1)
    assert gateway.stop() == 0
    said = [line for line in gateway.output().splitlines() if "traces are not exported" in line]
    assert sorted("maniac_core" in line for line in said) == [False, True], gateway.output()


def test_the_page_lists_the_metrics_that_there_are(observed: Observed) -> None:
    """Every name in the page is in a scrape of that process, with its labels, and the other way round."""
    assert observed.ask("mock/m1").status_code == 200
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    listed = {section.split("\n")[0]: _listed(section) for section in sections}
    for process, url in (
        ("Of a core", observed.core_metrics),
        ("Of an edge", observed.edge_metrics),
    ):
        families = list(text_string_to_metric_families(httpx.get(url).text))
        described = {**listed[process], **listed["Of both"]}
        shown = {
            f"{family.name}_total" if family.type == "counter" else family.name: family
            for family in families
        }
        assert set(shown) == set(described)
        for name, family in shown.items():
            kind, labels = described[name]
            assert family.type == kind, name
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == labels, name


def _listed(section: str) -> dict[str, tuple[str, set[str]]]:
    rows = re.findall(r"^\| `(\w+)` \| (histogram|counter|gauge) \|(.*?)\|", section, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
