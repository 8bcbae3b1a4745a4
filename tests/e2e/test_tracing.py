"""Traces of a real gateway, and that neither they nor metrics cost anything where nobody asked for them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from collector import Span
from gateway import KEY, Gateway
from observing import PROMPT, Observed, chat_body
from upstream import Exchange, Upstream, answer_or_stream


def _is_from(service: str) -> Callable[[Span], bool]:
    return lambda span: span.service == f"maniac-gateway-{service}"


def test_one_trace_from_the_caller_to_the_provider(observed: Observed, upstream: Upstream) -> None:
    """The edge continues the caller's trace, the core the edge's, each attempt the core's, the provider the attempt's."""
    asked: list[Exchange] = []

    async def second_time(exchange: Exchange) -> None:
        asked.append(exchange)
        if len(asked) == 1:
            await exchange.respond(500, b'{"error": {"message": "the secret reason"}}')
        else:
            await answer_or_stream(exchange)

    upstream.handler = second_time
    trace_id = secrets.token_hex(16)
    answer = observed.ask("mock/m1", trace_id=trace_id, stream=False)
    assert answer.status_code == 200
    spans = observed.collector.wait_for(trace_id, 4)
    edge, core, *attempts = spans
    first, second = sorted(attempts, key=lambda span: -span.attributes["http.response.status_code"])
    assert _is_from("edge")(edge)
    assert all(map(_is_from("core"), (core, first, second)))
    assert edge.parent_id == "00f067aa0ba902b7"
    assert (core.parent_id, first.parent_id, second.parent_id) == (edge.id, core.id, core.id)
    assert [exchange.headers["traceparent"] for exchange in asked] == [
        f"00-{trace_id}-{span.id}-01" for span in (first, second)
    ]

    assert edge.name == "POST /v1/chat/completions"
    assert edge.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "maniac.request_id": answer.headers["x-request-id"],
    }
    assert core.name == "chat mock/m1"
    assert core.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mock",
        "gen_ai.request.model": "mock/m1",
        "gen_ai.response.model": "mock/m1",
        "gen_ai.response.id": answer.json()["id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "maniac.status": "completed",
        "maniac.request_id": answer.headers["x-request-id"],
    }
    request = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mock",
        "gen_ai.request.model": "m1",
    }
    assert first.attributes == {
        **request,
        "http.response.status_code": 500,
        "error.type": "upstream_error",
    }
    assert second.attributes == {
        **request,
        "http.response.status_code": 200,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
    }
    assert [span.is_error for span in (edge, core, first, second)] == [False, False, True, False]
    for body in observed.collector.bodies:
        for secret in (PROMPT, KEY, "the secret reason", "sk-upstream"):
            assert secret.encode() not in body


def test_a_caller_who_leaves_is_in_the_trace(observed: Observed, upstream: Upstream) -> None:
    """A stream that is broken off by its reader ends all spans, and its attempt has the time of its first token."""

    async def hang(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})
        await exchange.wait_until_gone()

    upstream.handler = hang
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    with (
        observed.gateway.client() as client,
        client.stream(
            "POST", "/v1/chat/completions", json=chat_body("mock/m1", stream=True), headers=headers
        ) as answer,
    ):
        next(answer.iter_lines())
    edge, core, attempt = observed.collector.wait_for(trace_id, 3)
    assert edge.attributes["error.type"] == "client_gone"
    assert (core.attributes["error.type"], core.attributes["maniac.status"]) == (
        "cancelled",
        "cancelled",
    )
    assert attempt.attributes["error.type"] == "cancelled"
    assert attempt.attributes["maniac.time_to_first_token_s"] > 0


def test_what_is_not_sampled_is_not_exported_but_continued(
    observed: Observed, upstream: Upstream
) -> None:
    """A caller that does not sample gets its trace continued, unsampled, and nothing else."""
    trace_id, sampled = secrets.token_hex(16), secrets.token_hex(16)
    with observed.gateway.client() as client:
        client.post(
            "/v1/chat/completions",
            json=chat_body("mock/m1"),
            headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"},
        ).raise_for_status()
    version, seen, span_id, flags = upstream.last.headers["traceparent"].split("-")
    assert (version, seen, flags) == ("00", trace_id, "00")
    assert span_id != "00f067aa0ba902b7"
    observed.ask("mock/m1", trace_id=sampled)
    observed.collector.wait_for(sampled, 3)
    assert not [span for span in observed.collector.spans if span.trace_id == trace_id]


def test_nothing_is_loaded_where_nobody_asked(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """Neither process imports what makes metrics or traces, whatever else it is told of traces."""
    gateway = start_gateway(
        f'[core]\nlocal_model = "off"\n[providers.mock]\nkind = "openai"\nbase_url = "{upstream.base_url}"\n',
        environ={
            "PYTHONPROFILEIMPORTTIME": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_SDK_DISABLED": "true",
        },
    )
    given = f"00-{secrets.token_hex(16)}-00f067aa0ba902b7-01"
    with gateway.client() as client:
        client.post(
            "/v1/chat/completions", json=chat_body("mock/m1"), headers={"traceparent": given}
        ).raise_for_status()
    assert upstream.last.headers["traceparent"] == given, "as it came"
    assert gateway.stop() == 0
    loaded = set(re.findall(r"^import time:.*\| +([\w.]+)$", gateway.output(), re.MULTILINE))
    assert {"maniac_core.server", "maniac_edge.app"} <= loaded
    # The web framework looks for OpenTelemetry's constants by itself.
    assert not {
        name
        for name in loaded
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"))
    }
