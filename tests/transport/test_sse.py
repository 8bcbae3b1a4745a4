"""Server-sent events come out the same, whatever the line ends and the pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maniac_core.providers.transport.sse import SSEDecoder, SSEError, SSEEvent


def decode(*pieces: bytes, limit: int = 1000) -> list[SSEEvent]:
    """Decode a stream, its unfinished event included."""
    decoder = SSEDecoder(limit)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


def cut(data: bytes, *places: int) -> list[bytes]:
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(None, b"a")]),
        (b"data:a\n\n", [(None, b"a")]),
        (b"data:  a \n\n", [(None, b" a ")]),
        (b"data: a: b\n\n", [(None, b"a: b")]),
        (b"data: a\ndata: b\ndata:\n\n", [(None, b"a\nb\n")]),
        (b"data\n\n", [(None, b"")]),
        (b"data\ndata\n\n", [(None, b"\n")]),
        (b"event: x\ndata: a\n\n", [("x", b"a")]),
        (b"event:x\ndata:a\n\n", [("x", b"a")]),
        (b"data: a\nevent: x\n\n", [("x", b"a")]),
        (b"event: x\nevent: y\ndata: a\n\n", [("y", b"a")]),
        (b"event: x\ndata: a\ndata: b\n\n", [("x", b"a\nb")]),
        (b"event:\ndata: a\n\n", [(None, b"a")]),
        (b"event: x\n\ndata: a\n\n", [(None, b"a")]),
        (b": note\n\ndata: a\n\n", [(None, b"a")]),
        (b"data: a\n: note\ndata: b\n\n", [(None, b"a\nb")]),
        (b"unknown: 1\ndata: a\nDATA: b\n data: c\n\n", [(None, b"a")]),
        (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [(None, b"a"), (None, b"b")]),
        (b"data: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [(None, b"b")]),
        (b"\xef\xbb\n\ndata: b\n\n", [(None, b"b")]),
        ("data: ü€😀\n\n".encode(), [(None, "ü€😀".encode())]),
        ("event: ü\ndata: a\n\n".encode(), [("ü", b"a")]),
        (b"event: \xff\ndata: \xff\n\n", [("\ufffd", b"\xff")]),
        (b"data: [DONE]\n\n", [(None, b"[DONE]")]),
        (b"", []),
        (b"\n\n", []),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_stream_becomes_events(
    stream: bytes, events: list[tuple[str | None, bytes]], line_end: bytes
) -> None:
    """Each stream gives its events with each line end, whole and cut at every offset."""
    expected = [SSEEvent(name, data) for name, data in events]
    stream = stream.replace(b"\n", line_end)

    assert decode(stream) == expected
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == expected
    for place in range(len(stream)):
        assert decode(*cut(stream, place)) == expected


def test_line_ends_may_be_mixed() -> None:
    """CR LF is one line end, LF CR are two, in the same stream."""
    assert decode(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\rdata: e\r\r\n") == [
        SSEEvent(None, b"a\nb\nc"),
        SSEEvent(None, b"d"),
        SSEEvent(None, b"e"),
    ]


FIELDS = (b"data: ", b"data:", b"data", b"data: b\n\n", b"event: x", b"id: 7", b"retry: 5")
MARKS = (b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"a", b"\0", b"\xef\xbb\xbf", "é€".encode())
PIECES = st.sampled_from([*FIELDS, *MARKS])


@given(
    parts=st.lists(PIECES, max_size=25),
    places=st.lists(st.integers(0, 120), max_size=10),
    limit=st.sampled_from([10, 1000]),
)
@settings(max_examples=600, deadline=None)
def test_any_pieces_give_the_same_events(parts: list[bytes], places: list[int], limit: int) -> None:
    """How the bytes are chopped decides nothing: not events, not counters, not errors."""
    stream = b"".join(parts)

    def outcome(pieces: list[bytes]) -> object:
        decoder = SSEDecoder(limit)
        events: list[SSEEvent] = []
        try:
            for piece in pieces:
                events += decoder.feed(piece)
            pending = decoder.pending
            events += decoder.finish()
        except SSEError:
            return events, "too large"
        return events, pending, decoder.comments, decoder.last_event_id, decoder.retry_ms

    assert outcome(cut(stream, *places)) == outcome([stream])


@given(parts=st.lists(PIECES, max_size=25))
@settings(max_examples=300, deadline=None)
def test_agrees_with_a_line_by_line_reading_of_the_standard(parts: list[bytes]) -> None:
    """The fast paths dispatch exactly what the standard's algorithm does."""
    stream = b"".join(parts)

    complete = [event for event in decode(stream) if event.complete]

    assert [(event.event, event.data) for event in complete] == list(by_the_standard(stream))


def by_the_standard(stream: bytes) -> list[tuple[str | None, bytes]]:
    """Interpret a whole stream as the standard's text says, one line after the other."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    events: list[tuple[str | None, bytes]] = []
    name, data = b"", b""
    for line in lines:
        if not line:
            if data:
                events.append((name.decode("utf-8", "replace") or None, data[:-1]))
            name, data = b"", b""
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"event":
            name = value
        if field == b"data":
            data += value + b"\n"
    return events


@pytest.mark.parametrize("tail", [b"data: b", b"data: b\n", b"event: x\ndata: b\r"])
def test_unfinished_event_is_marked(tail: bytes) -> None:
    """An event without its blank line is only returned at the end, and says so."""
    decoder = SSEDecoder()

    assert decoder.feed(b"data: a\n\n" + tail) == [SSEEvent(None, b"a")]
    assert decoder.pending
    [event] = decoder.finish()
    assert (event.data, event.complete) == (b"b", False)
    assert not decoder.pending


@pytest.mark.parametrize("tail", [b"", b"event: x\n", b": note", b"\n"])
def test_unfinished_lines_without_data_are_no_event(tail: bytes) -> None:
    """Only data makes an event, also at the end."""
    assert decode(b"data: a\n\n" + tail) == [SSEEvent(None, b"a")]


def test_comments_id_and_retry_are_kept_aside() -> None:
    """Comments are counted; the last id and retry stay readable, nonsense in them is ignored."""
    decoder = SSEDecoder()
    decoder.feed(b": one\n: two\n\nid: 7\nretry: 1500\ndata: a\n\n")
    decoder.feed(b":\n\nid: a\0b\nretry: soon\n\nretry: %s\n\n" % (b"9" * 5000))

    assert (decoder.comments, decoder.last_event_id, decoder.retry_ms) == (3, "7", 1500)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_event_of_the_limit_passes_and_one_byte_more_does_not(line_end: bytes) -> None:
    """The limit holds for the lines of one event, complete or not, and not for a stream."""
    fits = b"data: 7890" + line_end + line_end
    too_long = b"data: 78901" + line_end + line_end

    expected = SSEEvent(None, b"7890")
    assert decode(fits * 500, limit=10) == [expected] * 500
    assert decode(*cut(fits, *range(20)), limit=10) == [expected]
    assert decode(fits + line_end + fits, limit=10) == [expected] * 2
    for pieces in ([too_long], cut(too_long, *range(20)), [too_long[:11]]):
        with pytest.raises(SSEError, match="10 bytes"):
            decode(*pieces, limit=10)


def test_events_before_an_oversized_one_are_returned() -> None:
    """The error comes with the next call, and with every later one."""
    decoder = SSEDecoder(10)

    assert decoder.feed(b"data: a\n\n" + b"x" * 11) == [SSEEvent(None, b"a")]
    with pytest.raises(SSEError):
        decoder.feed(b"\n\n")
    with pytest.raises(SSEError):
        decoder.finish()


def test_many_small_pieces_of_a_large_event_stay_cheap() -> None:
    """A large event in 64 KiB pieces is put together once, not at every piece."""
    decoder = SSEDecoder()
    piece = b"x" * 65_536
    events = decoder.feed(b"data: ")
    for _ in range(200):
        events += decoder.feed(piece)
    events += decoder.feed(b"\n\n")

    assert [len(event.data) for event in events] == [200 * 65_536]


@pytest.mark.parametrize("nothing", [b"\n", b"event: ping\n\n", b"id: 1\n\n"])
def test_a_stream_of_nothing_ends(nothing: bytes) -> None:
    """Blank lines and events without data are bounded as events are; comments, which keep alive, are not."""
    decoder = SSEDecoder()
    piece = nothing * 100_000
    with pytest.raises(SSEError, match="blank lines and empty events"):
        list(map(decoder.feed, [piece] * 30))
    patient = SSEDecoder()
    for _ in range(30):
        assert patient.feed(b": wait\n\n" * 50_000) == []
