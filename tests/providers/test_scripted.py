"""Scripted answers as the gateway sees them: through the real dialect, decoder and upstream."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import Prompt, StreamItem, UpstreamFailure
from maniac_core.providers.openai.dialect import OpenAIDialect
from maniac_core.providers.scripted.transport import ScriptedTransport
from maniac_core.providers.upstream.stream import UpstreamStream
from maniac_core.providers.upstream.upstream import Upstream

_SENTENCE = "One two three four five six."
_FAILED = Reason.ERROR_REASON_UPSTREAM_ERROR
_TIMEOUT = Reason.ERROR_REASON_UPSTREAM_TIMEOUT


def _upstream(*rules: dict[str, Any], **timeouts: float) -> Upstream:
    table = {"kind": "scripted", "rules": rules, "timeouts": timeouts}
    config = msgspec.convert(table, ProviderConfig)
    return Upstream("demo", config, OpenAIDialect(), ScriptedTransport("demo", config.rules), ())


def _prompt(text: str, *, stream: bool) -> Prompt:
    return Prompt(messages=[{"role": "user", "content": text}], parameters={}, stream=stream)


async def _ask(upstream: Upstream, text: str = "Hello", model: str = "m") -> str:
    answer, _ = await upstream.answer(model, None, _prompt(text, stream=False), 5)
    return str(answer.choices[0].message["content"])


async def _open(upstream: Upstream, first_token_s: float = 5, total_s: float = 5) -> UpstreamStream:
    return await upstream.stream(
        "m", None, _prompt("Hello", stream=True), first_token_s=first_token_s, total_s=total_s
    )


class _Told:
    """What a stream told before it ended, and how that was."""

    def __init__(self) -> None:
        self.items: list[StreamItem] = []
        self.failure: UpstreamFailure | None = None
        self.malformed = 0

    @property
    def deltas(self) -> list[ChoiceDelta]:
        return [item for item in self.items if isinstance(item, ChoiceDelta)]

    @property
    def text(self) -> str:
        return "".join(delta.content or "" for delta in self.deltas)

    @property
    def finish_reason(self) -> str | None:
        reasons = [delta.finish_reason for delta in self.deltas if delta.finish_reason]
        assert len(reasons) < 2
        return reasons[0] if reasons else None

    @property
    def usage(self) -> Usage | None:
        return next((item for item in self.items if isinstance(item, Usage)), None)


async def _listen(upstream: Upstream, first_token_s: float = 5, total_s: float = 5) -> _Told:
    told = _Told()
    try:
        stream = await _open(upstream, first_token_s, total_s)
        try:
            while items := await stream.next():
                told.items += items
                if any(delta.has_content for delta in told.deltas):
                    stream.first_content_came()
        finally:
            told.malformed = stream.malformed
            stream.close()
    except UpstreamFailure as failure:
        told.failure = failure
    return told


async def test_without_rules_the_last_user_message_is_echoed() -> None:
    """A provider without rules answers, whole and streamed alike, with usage and a finish reason."""
    told = await _listen(_upstream())
    answer, _ = await _upstream().answer("m", None, _prompt("Hello", stream=False), 5)
    assert told.text == answer.choices[0].message["content"] == "You said: Hello"
    assert told.finish_reason == answer.choices[0].finish_reason == "stop"
    assert told.usage == answer.usage
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (2, 4)
    assert answer.upstream_model == "m"


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_tool_calls_and_usage_arrive_as_scripted(*, stream: bool) -> None:
    """What a rule says of reasoning, tools, usage and finish reason is what the dialect reads."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 80,
        "reasoning_tokens": 5,
        "cost": 0.25,
    }
    calls = [{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "time", "id": "t"}]
    rule = {
        "reasoning": "Look it up.",
        "text": "Wait.",
        "tool_calls": calls,
        "usage": usage,
        "chunk_chars": 4,
    }
    upstream = _upstream(rule)
    if stream:
        told = await _listen(upstream)
        reasoning = "".join(delta.reasoning or "" for delta in told.deltas)
        text, finish, used = told.text, told.finish_reason, told.usage
        parts = [call for delta in told.deltas for call in delta.tool_calls]
        names = [call.name for call in parts if call.name]
        arguments = ["".join(c.arguments for c in parts if c.index == i) for i in range(2)]
    else:
        answer, _ = await upstream.answer("m", None, _prompt("Hello", stream=False), 5)
        message = answer.choices[0].message
        reasoning, text = message["reasoning"], message["content"]
        finish, used = answer.choices[0].finish_reason, answer.usage
        names = [call["function"]["name"] for call in message["tool_calls"]]
        arguments = [call["function"]["arguments"] for call in message["tool_calls"]]
        assert message["tool_calls"][1]["id"] == "t"
    assert (reasoning, text, finish) == ("Look it up.", "Wait.", "tool_calls")
    assert names == ["weather", "time"]
    assert arguments == ['{"city":"Rome"}', "{}"]
    assert used == Usage(
        input_tokens=20,
        cache_read_tokens=80,
        output_tokens=15,
        reasoning_tokens=5,
        cost_nano_usd=250_000_000,
    )


async def test_usage_can_be_missing() -> None:
    """With `usage = false` neither form reports any."""
    assert (await _listen(_upstream({"usage": False}))).usage is None
    answer, _ = await _upstream({"usage": False}).answer("m", None, _prompt("x", stream=False), 5)
    assert answer.usage is None


async def test_first_matching_rule_answers() -> None:
    """Rules are tried in order, by model pattern, text of the prompt and streaming."""
    upstream = _upstream(
        {"model": "gpt-*", "contains": "blue", "text": "both"},
        {"model": "gpt-*", "text": "model"},
        {"contains": "blue", "text": "prompt"},
        {"stream": True, "text": "stream"},
    )
    assert await _ask(upstream, "deep blue", "gpt-x") == "both"
    assert await _ask(upstream, "red", "gpt-x") == "model"
    assert await _ask(upstream, "deep blue", "other") == "prompt"
    assert await _ask(upstream, "red", "other") == "You said: red"
    assert (await _listen(upstream)).text == "stream"


async def test_rules_are_counted_by_call_and_by_use() -> None:
    """`call` means the number of the call to the provider, `times` the uses of one rule."""
    upstream = _upstream(
        {"call": 1, "text": "first"},
        {"call": [2, 4], "text": "even"},
        {"call": "5-6", "text": "range"},
        {"call": "8-", "text": "late"},
        {"times": 1, "text": "once"},
    )
    said = [await _ask(upstream, "x") for _ in range(9)]
    assert said == [
        *("first", "even", "once", "even", "range", "range"),
        *("You said: x", "late", "late"),
    ]


async def test_failures_then_success() -> None:
    """`times` lets a provider fail a few times, with headers the retry logic reads."""
    headers = {"Retry-After": "3"}
    upstream = _upstream({"times": 2, "status": 429, "headers": headers}, {"text": "ok"})
    for _ in range(2):
        with pytest.raises(UpstreamFailure) as failed:
            await _ask(upstream)
        assert failed.value.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED
        assert failed.value.retry_after_s == 3
    assert await _ask(upstream) == "ok"


@pytest.mark.parametrize(
    ("rule", "reason", "part"),
    [
        ({"refuse": True}, _FAILED, "could not be reached"),
        ({"reset": True}, _FAILED, "closed the connection"),
        ({"status": 500}, _FAILED, "scripted status 500"),
        ({"error": {"message": "Broken."}}, _FAILED, "Broken."),
        (
            {"status": 400, "error": {"message": "No.", "param": "top_p"}},
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
            "No.",
        ),
        (
            {"status": 200, "error": {"message": "Busy.", "code": 503}},
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
            "Busy.",
        ),
        ({"body": "<html><body>Bad gateway</body></html>"}, _FAILED, "web page"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_requests_that_fail_at_once(
    rule: dict[str, Any], reason: Reason.ValueType, part: str, *, stream: bool
) -> None:
    """Refusals, resets, error statuses, errors in a 200 and web pages fail with their own words."""
    with pytest.raises(UpstreamFailure) as failed:
        await (_open(_upstream(rule)) if stream else _ask(_upstream(rule)))
    assert failed.value.reason == reason
    assert part in failed.value.message


@pytest.mark.parametrize(
    ("rule", "text", "part"),
    [
        ({"cut_after_chunks": 2}, "One two", "broke off"),
        ({"cut_after_chunks": 0}, "", "broke off"),
        ({"cut_after_chunks": 2, "cut_with": "reset"}, "One two", "broke off"),
        ({"cut_after_chunks": 2, "cut_with": "end"}, "One two", "before it was complete"),
        ({"cut_after_bytes": 480}, "One", "broke off"),
        (
            {"error_frame_after": {"chunks": 3, "error": {"message": "Oops."}}},
            "One two three",
            "Oops.",
        ),
        ({"omit_done": True, "omit_finish_reason": True}, _SENTENCE, "before it was complete"),
    ],
)
async def test_streams_that_break(rule: dict[str, Any], text: str, part: str) -> None:
    """What came before a break is delivered, then the failure, and never an end."""
    told = await _listen(_upstream({"text": _SENTENCE, **rule}))
    assert told.failure is not None
    assert told.failure.reason == _FAILED
    assert part in told.failure.message
    assert told.text == text
    assert told.finish_reason is None


@pytest.mark.parametrize(
    "rule",
    [
        {"omit_done": True},
        {"omit_finish_reason": True},
        {"repeat_stream": True},
        {"comment_every": 2},
        {"hang": "end"},
        {"malformed_chunk_after": 2},
        {"cut_after_bytes": 1_000_000},
        {"chunk_chars": 1},
        {"chunk_delay_s": 0.001, "chunk_jitter_s": 0.001, "delay_s": 0.001},
    ],
)
async def test_streams_that_are_whole_all_the_same(rule: dict[str, Any]) -> None:
    """Oddities that lose nothing do not change the answer, nor does a body that never closes."""
    told = await _listen(_upstream({"text": _SENTENCE, **rule}))
    assert told.failure is None
    assert (told.text, told.finish_reason) == (_SENTENCE, "stop")
    assert told.malformed == ("malformed_chunk_after" in rule)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"hang": "first_token"}, ""),
        ({"hang": "first_token", "comment_every_s": 0.002}, ""),
        ({"first_token_delay_s": 60}, ""),
        ({"hang": "stream"}, _SENTENCE),
        ({"stall_after_chunks": 2}, "One two"),
        ({"chunk_delay_s": 60}, "One"),
    ],
)
async def test_streams_that_stop_coming(rule: dict[str, Any], text: str) -> None:
    """A hang runs into the deadline of its stage, comments or not."""
    told = await _listen(_upstream({"text": _SENTENCE, **rule}, idle_s=0.2), first_token_s=0.2)
    assert told.failure is not None
    assert told.failure.reason == _TIMEOUT
    assert told.text == text


@pytest.mark.parametrize("rule", [{"hang": "connect"}, {"hang": "headers"}, {"delay_s": 60}])
async def test_answers_that_never_begin(rule: dict[str, Any]) -> None:
    """A connection or a head that does not come runs into its deadline."""
    told = await _listen(_upstream(rule, connect_s=0.01), first_token_s=0.2)
    assert told.failure is not None
    assert told.failure.reason == _TIMEOUT
    what = "accepted no connection" if rule.get("hang") == "connect" else "sent no content within"
    assert what in told.failure.message


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"cut_after_chunks": 1}, _FAILED),
        ({"malformed_chunk_after": 1}, _FAILED),
        ({"error_frame_after": {}}, _FAILED),
        ({"body": ""}, _FAILED),
        ({"stall_after_chunks": 1}, _TIMEOUT),
        ({"hang": "first_token"}, _TIMEOUT),
        ({"hang": "end"}, _TIMEOUT),
    ],
)
async def test_whole_answers_break_too(rule: dict[str, Any], reason: Reason.ValueType) -> None:
    """What breaks a stream breaks an answer in one piece as well."""
    with pytest.raises(UpstreamFailure) as failed:
        await _ask(_upstream(rule, idle_s=0.2))
    assert failed.value.reason == reason


async def test_cancelling_a_wait_ends_it() -> None:
    """A caller who goes away is not kept by a hanging provider."""
    stream = await _open(_upstream({"hang": "first_token"}))
    await stream.next()
    waiting = asyncio.create_task(stream.next())
    await asyncio.wait({waiting}, timeout=0.01)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
