"""The scripted provider at the transport seam: bytes, clocks, closing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.scripted import ScriptedRule
from maniac_core.providers.scripted.transport import ScriptedTransport
from maniac_core.providers.transport import (
    Deadlines,
    Transport,
    TransportError,
    TransportErrorKind,
    UpstreamRequest,
    UpstreamResponse,
)

_LONG = Deadlines()


def _transport(*rules: dict[str, Any]) -> ScriptedTransport:
    return ScriptedTransport("demo", msgspec.convert(rules, tuple[ScriptedRule, ...]))


def _request(*, stream: bool = True, text: str = "Hello") -> UpstreamRequest:
    chat = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    return UpstreamRequest("POST", "http://nowhere", (), json.dumps(chat).encode())


async def _body(
    transport: Transport, request: UpstreamRequest, deadlines: Deadlines = _LONG
) -> tuple[bytes, TransportErrorKind | None]:
    """Return the body, and how it failed if it did."""
    response = await transport.send(request, deadlines)
    body = b""
    try:
        while data := await response.read():
            body += data
    except TransportError as error:
        return body, error.kind
    finally:
        response.close()
    return body, None


async def _kind(response: UpstreamResponse) -> TransportErrorKind:
    with pytest.raises(TransportError) as failed:
        await response.read()
    return failed.value.kind


@pytest.mark.parametrize("stream", [False, True])
async def test_same_call_gives_the_same_bytes(*, stream: bool) -> None:
    """Bytes depend on request, number of the call and seed, and on nothing else."""
    rule = {"tool_calls": [{"name": "f"}]}
    one, other, seeded = _transport(rule), _transport(rule), _transport({**rule, "seed": 1})
    request = _request(stream=stream)
    first, second = await _body(one, request), await _body(one, request)
    assert (await _body(other, request), await _body(other, request)) == (first, second)
    assert len({first, second, await _body(seeded, request)}) == 3
    assert await _body(_transport(rule), _request(stream=stream, text="Bye")) != first


async def test_stream_is_what_openai_sends() -> None:
    """Chunks with one id, the role first, one finish reason, usage only on request, [DONE]."""
    body, _ = await _body(_transport({"text": "Hi there"}), _request())
    frames = body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
        {"content": " there"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]


@pytest.mark.parametrize(
    ("cut_with", "kind"),
    [
        ("truncated", TransportErrorKind.TRUNCATED),
        ("reset", TransportErrorKind.RESET),
        ("end", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_cut_after_bytes_is_exact(
    cut_with: str, kind: TransportErrorKind | None, *, stream: bool
) -> None:
    """A body can be cut at every byte, inside a character too, and shows the cut as asked."""
    whole, _ = await _body(_transport({"text": "é"}), _request(stream=stream))
    inside = whole.index("é".encode()) + 1
    for limit in (0, 1, inside, len(whole) - 1):
        rule = {"text": "é", "cut_after_bytes": limit, "cut_with": cut_with}
        assert await _body(_transport(rule), _request(stream=stream)) == (whole[:limit], kind)
    rule = {"text": "é", "cut_after_bytes": len(whole), "cut_with": cut_with}
    assert await _body(_transport(rule), _request(stream=stream)) == (whole, None)


@pytest.mark.parametrize(
    ("rule", "status", "content_type", "body"),
    [
        ({"body": ""}, 200, "text/plain", b""),
        ({"body": "<html>"}, 200, "text/html", b"<html>"),
        ({"body": "data: 1\n\n"}, 200, "text/event-stream; charset=utf-8", b"data: 1\n\n"),
        ({"body": "[]", "status": 502}, 502, "application/json", b"[]"),
        ({"body": "x", "headers": {"Content-Type": "a/b"}}, 200, "a/b", b"x"),
    ],
)
async def test_raw_bodies(
    rule: dict[str, Any], status: int, content_type: str, body: bytes
) -> None:
    """A body of one's own is sent untouched, with a type that fits unless one is given."""
    response = await _transport(rule).send(_request(), _LONG)
    assert (response.status, response.headers["content-type"]) == (status, content_type)
    assert await response.read_all(1000) == body
    response.close()


async def test_comments_pass_the_time_of_a_hang() -> None:
    """`comment_every_s` keeps bytes coming while the answer does not."""
    transport = _transport({"hang": "first_token", "comment_every_s": 0.002})
    response = await transport.send(_request(), _LONG)
    assert b'"role"' in await response.read()
    for _ in range(3):
        assert (await response.read()).startswith(b":")
    response.close()


async def test_pieces_come_no_earlier_than_they_are_due() -> None:
    """Delays add up from the head on, jitter included."""
    rule = {"text": "a b c", "first_token_delay_s": 0.01, "chunk_delay_s": 0.01}
    loop = asyncio.get_running_loop()
    began = loop.time()
    response = await _transport({**rule, "chunk_jitter_s": 0.01}).send(_request(), _LONG)
    chunks = 0
    while data := await response.read():
        chunks += data.count(b'"delta":{"content"')
        # Two milliseconds off: uvloop's clock counts no finer, at both ends.
        assert loop.time() - began >= 0.01 * chunks - 0.002
    assert chunks == 3
    response.close()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, (3, 1, 1, 0, 0)),
        ({"omit_done": True}, (3, 1, 0, 0, 0)),
        ({"omit_finish_reason": True}, (3, 0, 1, 0, 0)),
        ({"repeat_stream": True}, (6, 2, 2, 0, 0)),
        ({"comment_every": 2}, (3, 1, 1, 2, 0)),
        ({"malformed_chunk_after": 1}, (3, 1, 1, 0, 1)),
        ({"malformed_chunk_after": 9, "chunk_chars": 1}, (5, 1, 1, 0, 1)),
        ({"hang": "stream"}, (3, 0, 0, 0, 0)),
        ({"stall_after_chunks": 1}, (1, 0, 0, 0, 0)),
    ],
)
async def test_oddities_are_on_the_wire(rule: dict[str, Any], expected: tuple[int, ...]) -> None:
    """Each key changes chunks, finish reasons, end marks, comments or broken chunks, and only that."""
    body, _ = await _body(_transport({"text": "a b c", **rule}), _request(), Deadlines(idle_s=0.1))
    chunks, finishes, ends, comments, broken = 0, 0, 0, 0, 0
    for line in body.decode().split("\n"):
        comments += line.startswith(":")
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            ends += data == "[DONE]"
            continue
        try:
            choice = json.loads(data)["choices"][0]
        except json.JSONDecodeError:
            broken += 1
            continue
        chunks += "content" in choice["delta"] and "role" not in choice["delta"]
        finishes += choice["finish_reason"] is not None
    assert (chunks, finishes, ends, comments, broken) == expected


async def test_explicit_timeout_only_polls() -> None:
    """A timeout of one read leaves the response readable, that of the request ends it."""
    rule = {"text": "a b", "chunk_delay_s": 0.2}
    response = await _transport(rule).send(_request(), Deadlines(idle_s=5))
    await response.read()
    with pytest.raises(TransportError) as failed:
        await response.read(0.001)
    assert failed.value.kind is TransportErrorKind.IDLE_TIMEOUT
    assert b" b" in await response.read()
    assert await response.read() == b""
    response.close()

    body, kind = await _body(_transport({"hang": "end"}), _request(), Deadlines(idle_s=0.1))
    assert body.endswith(b"[DONE]\n\n")
    assert kind is TransportErrorKind.IDLE_TIMEOUT


async def test_timed_out_response_stays_ended() -> None:
    """After the idle deadline nothing more can be read."""
    response = await _transport({"stall_after_chunks": 0}).send(_request(), Deadlines(idle_s=0.1))
    await response.read()
    assert await _kind(response) is TransportErrorKind.IDLE_TIMEOUT
    assert await _kind(response) is TransportErrorKind.IDLE_TIMEOUT


async def test_limit_of_a_whole_body_is_kept() -> None:
    """A body over the limit is refused and the response closed."""
    response = await _transport({"body": "x" * 100}).send(_request(), _LONG)
    with pytest.raises(TransportError) as failed:
        await response.read_all(99)
    assert failed.value.kind is TransportErrorKind.BODY_TOO_LARGE
    assert await _kind(response) is TransportErrorKind.CLOSED


@pytest.mark.parametrize(
    ("rule", "sent"),
    [({"refuse": True}, False), ({"reset": True}, True), ({"hang": "connect"}, False)],
)
async def test_failures_say_whether_anything_was_sent(rule: dict[str, Any], *, sent: bool) -> None:
    """What fails before the request counts as not sent."""
    with pytest.raises(TransportError) as failed:
        await _transport(rule).send(_request(), Deadlines(connect_s=0.1))
    assert failed.value.sent is sent


async def test_closing_the_transport_ends_everything() -> None:
    """Waiting callers get CLOSED, before the head and inside the body, and so do new ones."""
    transport = _transport({"call": 1, "hang": "headers"}, {"call": 2, "hang": "first_token"})
    early = asyncio.create_task(transport.send(_request(), _LONG))
    await asyncio.wait({early}, timeout=0.01)
    response = await transport.send(_request(), _LONG)
    await response.read()
    late = asyncio.create_task(_kind(response))
    await asyncio.wait({late}, timeout=0.01)
    await transport.aclose()
    with pytest.raises(TransportError) as failed:
        await early
    assert failed.value.kind is TransportErrorKind.CLOSED
    assert await late is TransportErrorKind.CLOSED
    with pytest.raises(TransportError) as failed:
        await transport.send(_request(), _LONG)
    assert failed.value.kind is TransportErrorKind.CLOSED


async def test_request_that_is_no_chat_is_refused() -> None:
    """A body that is no chat request gets a 400 that says so."""
    response = await _transport({"text": "no"}).send(UpstreamRequest("GET", "http://x", ()), _LONG)
    assert response.status == 400
    error = json.loads(await response.read_all(1000))["error"]
    assert error["type"] == "invalid_request_error"
    assert "not a chat request" in error["message"]
    response.close()
