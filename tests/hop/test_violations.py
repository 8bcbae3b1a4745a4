"""What no peer should send: each ends the stream or the connection with the reason, and costs little before."""

from __future__ import annotations

import pytest
from hop_peers import METHOD, ClientSide, ServerSide, exchange, pair, said
from maniac_common.hop import calls, frames, hpack
from maniac_common.hop.calls import request_headers
from maniac_common.hop.connection import Connection
from maniac_common.hop.frames import ErrorCode
from maniac_common.hop.stream import WINDOW

_OPENING = frames.PREFACE + frames.settings({}) + frames.frame(frames.SETTINGS, frames.ACK, 0)
_HEADERS = request_headers(METHOD, "http", "core", ())
_END = frames.END_HEADERS


def headers(number: int, *given: tuple[str, str], flags: int = _END) -> bytes:
    """Return a HEADERS frame."""
    return frames.frame(frames.HEADERS, flags, number, hpack.encode(given or _HEADERS))


def reason(connection: Connection) -> ErrorCode | None:
    """Return the reason of the GOAWAY that a side sends; None: it goes on."""
    for kind, _, _, payload in said(connection):
        if kind == frames.GOAWAY:
            assert connection.is_closed
            return ErrorCode(frames.u32(payload, 4))
    assert not connection.is_closed
    return None


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (frames.frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 1, b"\x09x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
        (headers(0), ErrorCode.PROTOCOL_ERROR),
        (headers(4), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, _END, 3, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 0x20, 3, b"abc"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, _END, 1), ErrorCode.PROTOCOL_ERROR),
        (
            headers(3, flags=0) + frames.frame(frames.PING, 0, 0, bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            headers(3, flags=0) + frames.frame(frames.DATA, 0, 1, b"x"),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            headers(3, flags=0) + frames.frame(frames.CONTINUATION, _END, 5),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (frames.frame(frames.PRIORITY, 0, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.rst_stream(0, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (frames.rst_stream(7, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 1 << 24}), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, _END, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, frames.LARGEST), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.head(frames.MAX_FRAME_BYTES + 1, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_a_connection_ends_with_its_reason(frame: bytes, expected: ErrorCode) -> None:
    _, server = pair()
    server.connection.take()
    server.connection.receive(frame)
    assert reason(server.connection) is expected
    assert [status.code for status in server.heard.statuses] == [calls.UNAVAILABLE]


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        frames.PREFACE + headers(1),
        frames.PREFACE + frames.frame(frames.DATA, 0, 1, b"x"),
    ],
)
def test_who_begins_otherwise_is_not_served(opening: bytes) -> None:
    server = ServerSide()
    server.connection.receive(opening)
    assert reason(server.connection) is ErrorCode.PROTOCOL_ERROR
    assert server.requests == []


@pytest.mark.parametrize(
    "frame",
    [
        frames.frame(frames.PING, 0, 0, bytes(8)),
        frames.settings({}),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(frames.DATA, 0, 1),
        frames.frame(0x77, 0, 0),
        frames.rst_stream(1, ErrorCode.CANCEL),
    ],
)
def test_a_flood_ends_the_connection(frame: bytes) -> None:
    """What costs the peer little and moves nothing may not come without end."""
    _, server = pair()
    for _ in range(300):
        server.connection.receive(frame * 4)
        server.connection.take()
        if server.connection.is_closed:
            break
    assert server.connection.is_closed


def test_what_comes_now_and_then_is_no_flood() -> None:
    _, server = pair()
    for _ in range(3000):
        server.connection.receive(frames.frame(frames.PING, 0, 0, bytes(8)))
        server.connection.tick()
    assert not server.connection.is_closed


def test_a_peer_that_does_not_read_its_answers_gets_no_further_allowance() -> None:
    _, server = pair()
    server.connection.is_writable = False
    for _ in range(1100):
        server.connection.receive(frames.frame(frames.PING, 0, 0, bytes(8)))
        server.connection.tick()
    assert server.connection.is_closed


def test_streams_that_are_opened_and_reset_at_once_are_bounded() -> None:
    _, server = pair()
    number = 1
    while not server.connection.is_closed:
        number += 2
        server.connection.receive(headers(number) + frames.rst_stream(number, ErrorCode.CANCEL))
        server.connection.take()
        assert number < 3000


def test_a_block_without_end_is_bounded() -> None:
    """By its bytes, and by its frames when they are empty."""
    for piece in (b"", b"\x00\x01a\x01b" * 500):
        _, server = pair()
        server.connection.take()
        server.connection.receive(headers(3, flags=0))
        for _ in range(10):
            server.connection.receive(frames.frame(frames.CONTINUATION, 0, 3, piece))
        assert reason(server.connection) is ErrorCode.ENHANCE_YOUR_CALM


def test_headers_that_become_large_are_bounded() -> None:
    _, server = pair()
    server.connection.take()
    entry = b"\x40\x01a\x7f\x81\x0f" + b"x" * 2048
    server.connection.receive(frames.frame(frames.HEADERS, _END, 3, entry + b"\xbe" * 100))
    assert reason(server.connection) is ErrorCode.ENHANCE_YOUR_CALM


def test_before_a_call_is_accepted_little_is_taken() -> None:
    """The window stays small, tries are few, and time is short."""
    server = ServerSide(accept=lambda stream, _: stream.finish(calls.Status(7, "no")))
    server.connection.receive(_OPENING)
    for number in range(1, 100, 2):
        server.connection.receive(headers(number))
    assert reason(server.connection) is ErrorCode.ENHANCE_YOUR_CALM

    server = ServerSide(accept=lambda stream, _: stream.finish(calls.Status(7, "no")))
    server.connection.receive(_OPENING + headers(1))
    for _ in range(5):
        server.connection.receive(frames.frame(frames.DATA, 0, 1, bytes(16_000)))
    assert reason(server.connection) is ErrorCode.FLOW_CONTROL_ERROR

    server = ServerSide()
    server.connection.receive(_OPENING)
    server.connection.tick()
    assert reason(server.connection) is None
    server.connection.tick()
    assert reason(server.connection) is ErrorCode.ENHANCE_YOUR_CALM


def test_more_than_the_window_ends_the_stream() -> None:
    _, server = pair()
    server.stream.receive_window = 10
    server.connection.receive(frames.frame(frames.DATA, 0, 1, bytes(11)))
    assert [status.code for status in server.heard.statuses] == [calls.INTERNAL]
    assert not server.connection.is_closed


def test_a_window_that_grows_too_large_ends_the_stream() -> None:
    client, server = pair()
    client.connection.receive(frames.window_update(1, frames.LARGEST))
    assert [status.code for status in client.heard.statuses] == [calls.INTERNAL]
    exchange(client, server)
    assert not client.connection.is_closed


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x00\x00\x10\x00\x01", calls.RESOURCE_EXHAUSTED),
        (b"\x01\x00\x00\x00\x00", calls.UNIMPLEMENTED),
    ],
)
def test_a_message_that_is_not_taken_ends_its_call(message: bytes, code: int) -> None:
    """Both sides learn it; the connection stays."""
    client, server = pair(max_message_bytes=1 << 20)
    server.connection.receive(frames.frame(frames.DATA, 0, 1, message))
    exchange(client, server)
    assert [status.code for status in server.heard.statuses] == [code]
    assert [status.code for status in client.heard.statuses] == [code]
    assert not server.connection.is_closed


def test_a_message_that_is_cut_is_the_clients_fault() -> None:
    client, server = pair()
    server.connection.receive(
        frames.frame(frames.DATA, frames.END_STREAM, 1, b"\x00\x00\x00\x00\x09x")
    )
    exchange(client, server)
    assert [status.code for status in client.heard.statuses] == [calls.INTERNAL]


def test_data_after_the_end_ends_the_stream() -> None:
    _, server = pair()
    server.connection.receive(frames.frame(frames.DATA, frames.END_STREAM, 1))
    server.connection.receive(frames.frame(frames.DATA, 0, 1, b"\x00\x00\x00\x00\x00"))
    assert (server.heard.messages, len(server.heard.statuses)) == ([], 1)


@pytest.mark.parametrize(
    "given",
    [
        ((":method", "POST"), (":path", "/x")),
        ((":method", "POST"), (":scheme", "http"), (":path", "/x"), (":path", "/y")),
        ((":method", "POST"), (":scheme", "http"), (":path", "/x"), (":status", "200")),
        (("te", "trailers"), *_HEADERS),
        (*_HEADERS, ("X-Upper", "1")),
        (*_HEADERS, ("connection", "close")),
    ],
)
def test_a_malformed_request_is_reset(given: tuple[tuple[str, str], ...]) -> None:
    server = ServerSide()
    server.connection.receive(_OPENING)
    server.connection.take()
    server.connection.receive(headers(1, *given))
    assert (frames.RST_STREAM, 0, 1, ErrorCode.PROTOCOL_ERROR.to_bytes(4, "big")) in said(
        server.connection
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("header", "status"), [((":method", "GET"), "405"), (("content-type", "text/html"), "415")]
)
def test_a_request_that_is_no_call_is_answered_by_http(
    header: tuple[str, str], status: str
) -> None:
    server = ServerSide()
    server.connection.receive(_OPENING)
    server.connection.take()
    server.connection.receive(headers(1, *{**dict(_HEADERS), header[0]: header[1]}.items()))
    kind, _, _, block = said(server.connection)[0]
    assert kind == frames.HEADERS
    assert hpack.Decoder(4096).decode(block) == ((":status", status),)
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (headers(1, (":status", "503")), calls.UNAVAILABLE),
        (headers(1, (":status", "404"), ("content-type", "text/html")), calls.UNIMPLEMENTED),
        (headers(1, (":status", "200"), ("content-type", "text/html")), calls.UNKNOWN),
        (headers(1, (":status", "200"), flags=5), calls.UNKNOWN),
        (headers(1, ("grpc-status", "999"), flags=5), calls.UNKNOWN),
        (headers(1, ("grpc-status", "14"), flags=5), calls.UNAVAILABLE),
        (frames.frame(frames.DATA, 0, 1, b"x"), calls.INTERNAL),
    ],
)
def test_an_answer_that_is_none_is_a_status(answer: bytes, code: int) -> None:
    """A proxy in between answers in its own way."""
    client = ClientSide()
    client.connection.receive(frames.settings({}) + answer)
    assert [status.code for status in client.heard.statuses] == [code]


def test_an_answer_without_a_status_is_a_failure() -> None:
    client, _ = pair()
    client.connection.receive(frames.frame(frames.DATA, frames.END_STREAM, 1))
    assert [status.code for status in client.heard.statuses] == [calls.UNKNOWN]


def test_an_early_answer_is_skipped() -> None:
    client = ClientSide()
    client.connection.receive(frames.settings({}) + headers(1, (":status", "103")))
    assert (client.heard.heads, client.heard.statuses) == ([], [])


def test_windows_are_given_back_in_halves() -> None:
    _, server = pair(max_message_bytes=8 << 20)
    server.connection.take()
    message = (WINDOW - 5).to_bytes(5, "big") + bytes(WINDOW - 5)
    for at in range(0, WINDOW // 2, 16_384):
        server.connection.receive(frames.frame(frames.DATA, 0, 1, message[at : at + 16_384]))
    updates = [frame for frame in said(server.connection) if frame[0] == frames.WINDOW_UPDATE]
    assert updates == [
        (frames.WINDOW_UPDATE, 0, number, (WINDOW // 2).to_bytes(4, "big")) for number in (0, 1)
    ]
