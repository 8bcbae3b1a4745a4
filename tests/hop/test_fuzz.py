"""Whatever comes, a connection goes on or ends cleanly: nothing raises, and each call ends once."""

from __future__ import annotations

from hop_peers import ClientSide, Heard, ServerSide, exchange, parse
from hypothesis import given
from hypothesis import strategies as st
from maniac_common.hop import frames, hpack
from maniac_common.hop.calls import request_headers
from maniac_common.hop.connection import Connection

_NUMBERS = st.sampled_from([0, 1, 1, 1, 2, 3, 5, frames.LARGEST])
_BLOCKS = st.one_of(
    st.just(hpack.encode(request_headers("/a/B", "http", "core", ()))),
    st.just(hpack.encode([(":status", "200"), ("content-type", "application/grpc")])),
    st.just(hpack.encode([("grpc-status", "0")])),
    st.binary(max_size=40),
)
_MESSAGES = st.binary(max_size=60).map(lambda data: b"\x00" + len(data).to_bytes(4, "big") + data)
_PAYLOADS = st.one_of(
    _BLOCKS,
    _MESSAGES,
    st.binary(max_size=40),
    st.integers(0, (1 << 32) - 1).map(lambda value: value.to_bytes(4, "big")),
    st.tuples(st.integers(0, 7), st.integers(0, (1 << 32) - 1)).map(
        lambda pair: pair[0].to_bytes(2, "big") + pair[1].to_bytes(4, "big")
    ),
    st.just(bytes(8)),
)
_FRAMES = st.builds(
    frames.frame,
    st.one_of(st.integers(0, 10), st.sampled_from([frames.DATA, frames.HEADERS])),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 0x20]), st.integers(0, 255)),
    _NUMBERS,
    _PAYLOADS,
)
# What an owner does meanwhile.
_DEEDS = st.sampled_from(["send", "send a lot", "end", "reset", "tick", "pause", "resume", "leave"])
_SCRIPTS = st.lists(st.one_of(_FRAMES, _FRAMES, _DEEDS), max_size=30)


def _check(connection: Connection, heard: Heard) -> None:
    """What is said is well-formed, and an end is told once."""
    for kind, _, number, payload in parse(connection.take()):
        assert kind <= frames.CONTINUATION
        assert len(payload) <= frames.MAX_FRAME_BYTES
        assert number <= frames.LARGEST
    assert len(heard.statuses) <= 1


def _act(deed: str, side: ClientSide | ServerSide) -> None:
    connection = side.connection
    stream = side.stream if isinstance(side, ClientSide) or side.streams else None
    if deed == "tick":
        connection.tick()
    elif deed == "pause":
        connection.is_writable = False
    elif deed == "resume":
        connection.is_writable = True
        connection.resume()
    elif stream is not None:
        if deed == "send":
            stream.send(b"hello")
        elif deed == "send a lot":
            stream.send(bytes(200_000))
        elif deed == "reset":
            stream.reset()
        elif deed == "end" and isinstance(side, ClientSide):
            stream.half_close()
        elif deed == "end":
            stream.finish()
        elif deed == "leave" and isinstance(side, ServerSide):
            connection.leave()


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data: bytes, has_preface: bool) -> None:
    server, client = ServerSide(), ClientSide()
    server.connection.receive(frames.PREFACE * has_preface + data)
    _check(server.connection, server.heard)
    client.connection.receive(data)
    _check(client.connection, client.heard)


@given(_SCRIPTS, st.booleans(), st.booleans())
def test_any_frames(script: list[bytes | str], is_server: bool, has_begun: bool) -> None:
    client, server = ClientSide(), ServerSide()
    if has_begun:
        exchange(client, server)
    side: ClientSide | ServerSide = server if is_server else client
    heard = server.heard if is_server and len(server.streams) <= 1 else client.heard
    if not has_begun:
        opening = frames.PREFACE if is_server else b""
        side.connection.receive(opening + frames.settings({}))
    for step in script:
        if isinstance(step, str):
            _act(step, side)
        else:
            side.connection.receive(step)
        if len(server.streams) <= 1:
            _check(side.connection, heard)
    side.connection.lost("the end")
    assert side.connection.running == 0


@given(st.lists(st.binary(max_size=50_000), max_size=8), st.data())
def test_messages_arrive_as_they_were_sent(messages: list[bytes], data: st.DataObject) -> None:
    """In any pieces, through any windows, and in both directions."""
    client, server = ClientSide(), ServerSide()
    window = data.draw(st.integers(1, 100_000))
    server.connection.receive(client.connection.take())
    client.connection.receive(server.connection.take())
    client.stream.send_window = server.stream.send_window = window
    for message in messages:
        client.stream.send(message)
        server.stream.send(message)
    client.stream.half_close()
    server_done = False
    for _ in range(20_000):
        spoken, answered = client.connection.take(), server.connection.take()
        cut = data.draw(st.integers(0, len(spoken))) if spoken else 0
        server.connection.receive(spoken[:cut])
        server.connection.receive(spoken[cut:])
        client.connection.receive(answered)
        if len(server.heard.messages) == len(client.heard.messages) == len(messages):
            server_done = True
            break
        # What a peer gives back bit by bit.
        client.connection.receive(frames.window_update(1, window))
        if not server.heard.half_closes:
            server.connection.receive(frames.window_update(1, window))
    assert server_done
    assert server.heard.messages == client.heard.messages == messages
