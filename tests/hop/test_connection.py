"""A call between both sides, without sockets: messages, windows and ends."""

from __future__ import annotations

import pytest
from hop_peers import METHOD, ClientSide, ServerSide, exchange, pair, said
from maniac_common.hop import calls, frames
from maniac_common.hop.calls import Status
from maniac_common.hop.connection import MAX_STREAMS
from maniac_common.hop.frames import ErrorCode
from maniac_common.hop.stream import WINDOW

_PING = b"12345678"


def test_a_call_from_its_beginning_to_its_end() -> None:
    client, server = ClientSide(("x-key", "k")), ServerSide()
    client.stream.send(b"early")
    exchange(client, server)
    assert dict(server.requests[0])[":path"] == METHOD
    assert ("x-key", "k") in server.requests[0]
    assert client.heard.heads == [(("content-type", "application/grpc"), ("x-first", "1"))]

    server.stream.send(b"one")
    server.stream.send(b"")
    client.stream.send(b"two")
    client.stream.half_close()
    exchange(client, server)
    assert client.heard.messages == [b"one", b""]
    assert server.heard.messages == [b"early", b"two"]
    assert (server.heard.half_closes, server.heard.statuses) == (1, [])

    server.stream.finish()
    exchange(client, server)
    assert client.heard.statuses == [Status(calls.OK)]
    assert server.heard.statuses == []
    assert (client.connection.running, server.connection.running) == (0, 0)


def test_bytes_may_come_in_any_pieces() -> None:
    """Every split of what each side says gives the same."""
    client = ClientSide(("x-key", "k" * 40))
    client.stream.send(b"first")
    client.stream.send(b"second")
    client.stream.half_close()
    spoken = client.connection.take()
    server = ServerSide()
    server.connection.receive(spoken)
    server.stream.send(b"answer")
    server.stream.send(b"another")
    server.stream.finish(Status(calls.UNAVAILABLE, "later"))
    answered = server.connection.take()
    for cut in range(len(spoken) + 1):
        server = ServerSide()
        server.connection.receive(spoken[:cut])
        server.connection.receive(spoken[cut:])
        assert server.heard.messages == [b"first", b"second"]
        assert server.heard.half_closes == 1
    for cut in range(len(answered) + 1):
        client = ClientSide()
        client.stream.half_close()
        client.connection.receive(answered[:cut])
        client.connection.receive(answered[cut:])
        assert client.heard.messages == [b"answer", b"another"]
        assert client.heard.statuses == [Status(calls.UNAVAILABLE, "later")]


def test_bytes_may_come_one_by_one() -> None:
    client, server = ClientSide(), ServerSide()
    client.stream.send(b"x" * 300)
    for byte in client.connection.take():
        server.connection.receive(bytes((byte,)))
    assert server.heard.messages == [b"x" * 300]


def test_a_message_larger_than_frames_and_windows_arrives_whole() -> None:
    client, server = pair(max_message_bytes=8 << 20)
    large = bytes(range(256)) * 20_000
    client.stream.send(large)
    client.stream.send(b"after")
    server.stream.send(large[::-1])
    exchange(client, server)
    assert server.heard.messages == [large, b"after"]
    assert client.heard.messages == [large[::-1]]


def test_a_full_window_holds_messages_back_until_it_grows() -> None:
    """The sender learns that it has to wait, and when it need not any more."""
    client, server = pair()
    server.connection.initial_send_window = server.stream.send_window = 100
    server.stream.send(b"a" * 95)
    assert not server.stream.is_ready or server.stream.send_window == 0
    server.stream.send(b"b" * 50)
    assert not server.stream.is_ready
    client.connection.receive(server.connection.take())
    assert client.heard.messages == [b"a" * 95]

    server.connection.receive(frames.window_update(1, 54))
    client.connection.receive(server.connection.take())
    assert (client.heard.messages[1:], server.heard.times_ready) == ([], 0)
    server.connection.receive(frames.window_update(1, 1))
    client.connection.receive(server.connection.take())
    assert (client.heard.messages[1:], server.heard.times_ready) == ([b"b" * 50], 1)
    assert server.stream.is_ready


def test_the_window_of_the_connection_counts_as_well() -> None:
    client, server = pair()
    server.connection.send_window = 10
    server.stream.send(b"a" * 20)
    assert not server.stream.is_ready
    server.connection.receive(frames.window_update(0, 1000))
    assert (server.stream.is_ready, server.heard.times_ready) == (True, 1)
    client.connection.receive(server.connection.take())
    assert client.heard.messages == [b"a" * 20]


def test_an_initial_window_that_changes_in_mid_stream_changes_this_one() -> None:
    """Also to below zero, from where it has to grow back."""
    client, server = pair()
    window = server.stream.send_window
    server.stream.send(b"x" * 1000)
    server.connection.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))
    assert server.stream.send_window == 100 - (WINDOW - window) - 1005
    server.stream.send(b"late")
    client.connection.receive(server.connection.take())
    assert client.heard.messages == [b"x" * 1000]
    server.connection.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: 1013}))
    client.connection.receive(server.connection.take())
    assert client.heard.messages == [b"x" * 1000]
    server.connection.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: 1014}))
    client.connection.receive(server.connection.take())
    assert client.heard.messages == [b"x" * 1000, b"late"]


def test_a_larger_window_is_acknowledged_before_it_is_used() -> None:
    """Until then the peer holds the sender to the smaller one."""
    _, server = pair()
    server.stream.send_window = 0
    server.stream.send(b"x")
    window = server.connection.initial_send_window + 100
    server.connection.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: window}))
    assert [frame[0] for frame in said(server.connection)] == [frames.SETTINGS, frames.DATA]


def test_an_end_waits_for_what_was_sent_before_it() -> None:
    client, server = pair()
    server.stream.send_window = 10
    server.stream.send(b"a" * 20)
    server.stream.finish()
    client.connection.receive(server.connection.take())
    assert client.heard.statuses == []
    server.connection.receive(frames.window_update(1, 1000))
    client.connection.receive(server.connection.take())
    assert (client.heard.messages, client.heard.statuses) == ([b"a" * 20], [Status(calls.OK)])


def test_a_socket_that_takes_no_more_is_not_ready() -> None:
    _, server = pair()
    server.connection.is_writable = False
    assert not server.stream.is_ready
    server.connection.is_writable = True
    server.connection.resume()
    assert server.heard.times_ready == 1


def test_settings_and_pings_are_answered() -> None:
    _, server = pair()
    server.connection.receive(frames.settings({frames.MAX_CONCURRENT_STREAMS: 1, 0x99: 7}))
    server.connection.receive(frames.frame(frames.PING, 0, 0, _PING))
    server.connection.receive(frames.frame(frames.PING, frames.ACK, 0, _PING))
    assert said(server.connection) == [
        (frames.SETTINGS, frames.ACK, 0, b""),
        (frames.PING, frames.ACK, 0, _PING),
    ]


def test_padding_priorities_and_unknown_frames_change_nothing() -> None:
    client, server = pair()
    message = b"\x00\x00\x00\x00\x02hi"
    padded = bytes((7,)) + message + bytes(7)
    for frame in (
        frames.frame(frames.PRIORITY, 0, 1, b"\x80\x00\x00\x00\x10"),
        frames.frame(frames.PRIORITY, 0, 99, b"\x00\x00\x00\x00\x10"),
        frames.frame(0xEE, 0xFF, 1, b"whatever"),
        frames.frame(frames.DATA, frames.PADDED, 1, padded),
        frames.frame(frames.DATA, 0, 1),
    ):
        server.connection.receive(frame)
    assert server.heard.messages == [b"hi"]
    assert not server.connection.is_closed
    del client


def test_padding_counts_in_the_window() -> None:
    _, server = pair()
    before = server.stream.receive_window
    server.connection.receive(frames.frame(frames.DATA, frames.PADDED, 1, b"\x05" + bytes(5)))
    assert server.stream.receive_window == before - 6


def test_a_header_block_may_come_in_several_frames() -> None:
    client = ClientSide(("x-long", "v" * 100))
    out = said(client.connection)
    kind, flags, number, block = out.pop()
    assert kind == frames.HEADERS
    server = ServerSide()
    server.connection.receive(frames.PREFACE)
    for each in out:
        server.connection.receive(frames.frame(*each))
    padded = bytes((3,)) + b"\x00\x00\x00\x00\x00" + block[:20] + bytes(3)
    first = frames.PADDED | frames.HAS_PRIORITY
    server.connection.receive(frames.frame(kind, first, number, padded))
    server.connection.receive(frames.frame(frames.CONTINUATION, 0, number, block[20:40]))
    assert server.requests == []
    server.connection.receive(frames.frame(frames.CONTINUATION, flags, number, block[40:]))
    assert ("x-long", "v" * 100) in server.requests[0]


def test_an_answer_of_trailers_only_is_its_status() -> None:
    server = ServerSide(
        accept=lambda stream, _: stream.finish(Status(calls.PERMISSION_DENIED, "No: 100 % é\n"))
    )
    client = ClientSide()
    client.stream.send(b"x")
    exchange(client, server)
    assert client.heard.statuses == [Status(calls.PERMISSION_DENIED, "No: 100 % é\n")]
    assert client.heard.heads == []
    assert server.connection.running == 0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.REFUSED_STREAM, calls.UNAVAILABLE),
        (ErrorCode.CANCEL, calls.CANCELLED),
        (ErrorCode.ENHANCE_YOUR_CALM, calls.RESOURCE_EXHAUSTED),
        (ErrorCode.PROTOCOL_ERROR, calls.INTERNAL),
        (0xFFFF, calls.INTERNAL),
    ],
)
def test_a_reset_ends_the_call(code: int, status: int) -> None:
    client, server = pair()
    reset = frames.frame(frames.RST_STREAM, 0, 1, code.to_bytes(4, "big"))
    for side in (client, server):
        side.connection.receive(reset)
        assert [ended.code for ended in side.heard.statuses] == [status]
        side.stream.send(b"too late")
        side.connection.receive(frames.window_update(1, 5))
        assert not any(frame[0] == frames.DATA for frame in said(side.connection))


def test_a_client_that_resets_hears_no_more() -> None:
    client, server = pair()
    server.stream.send(b"on its way")
    client.stream.reset()
    exchange(client, server)
    assert (client.heard.messages, client.heard.statuses) == ([], [])
    assert [status.code for status in server.heard.statuses] == [calls.CANCELLED]


def test_a_server_that_leaves_finishes_what_runs() -> None:
    client, server = pair()
    server.connection.leave()
    exchange(client, server)
    assert client.heard.statuses == []
    headers = client.connection.headers_frame(
        3, calls.request_headers(METHOD, "http", "core", ()), is_last=False
    )
    server.connection.receive(headers)
    assert said(server.connection) == [
        (frames.RST_STREAM, 0, 3, ErrorCode.REFUSED_STREAM.to_bytes(4, "big"))
    ]
    server.stream.send(b"last")
    assert not server.connection.is_closed
    server.stream.finish()
    exchange(client, server)
    assert (client.heard.messages, client.heard.statuses) == ([b"last"], [Status(calls.OK)])
    assert server.connection.is_closed


def test_a_server_that_leaves_says_which_calls_it_has_not_taken() -> None:
    client, _ = pair()
    client.connection.receive(frames.goaway(0, ErrorCode.NO_ERROR))
    assert [status.code for status in client.heard.statuses] == [calls.UNAVAILABLE]


def test_calls_beyond_the_limit_are_refused() -> None:
    client, server = pair()
    headers = calls.request_headers(METHOD, "http", "core", ())
    for number in range(3, 2 * MAX_STREAMS + 2, 2):
        server.connection.receive(client.connection.headers_frame(number, headers, is_last=False))
    assert said(server.connection)[-1] == (
        *(frames.RST_STREAM, 0, 2 * MAX_STREAMS + 1),
        ErrorCode.REFUSED_STREAM.to_bytes(4, "big"),
    )
    assert server.connection.running == MAX_STREAMS


def test_a_lost_connection_ends_its_calls_once() -> None:
    client, server = pair()
    for side in (client, server):
        side.connection.lost("gone")
        side.connection.lost("again")
        assert side.heard.statuses == [Status(calls.UNAVAILABLE, "gone")]


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    client, server = pair()
    for _ in range(2):
        client.connection.tick()
    assert [frame[0] for frame in said(client.connection)] == [frames.PING]
    client.connection.tick()
    assert client.connection.is_closed
    assert [status.code for status in client.heard.statuses] == [calls.UNAVAILABLE]

    client, server = pair()
    for _ in range(10):
        client.connection.tick()
        exchange(client, server)
    assert not client.connection.is_closed


def test_a_smaller_header_table_is_acknowledged_in_the_next_block() -> None:
    server = ServerSide()
    client = ClientSide()
    client.connection.receive(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
    block = client.connection.headers_frame(1, (("a", "b"),), is_last=False)[9:]
    assert block[0] == 0x20
    del server
