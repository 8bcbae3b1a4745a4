"""One request and its answer: what may be sent, and that no header can break out of its line."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from maniac_edge.server.cycle import Arrival, EdgeCycle

START = "http.response.start"
BODY = "http.response.body"


class Connection:
    """What a cycle writes to."""

    def __init__(self, method: str = "POST", *, keep_alive: bool = True) -> None:
        self.sent = b""
        self.is_closed = False
        self.is_complete = False
        options: dict[str, Any] = {
            "scope": {"method": method},
            "transport": self,
            "flow": SimpleNamespace(write_paused=False),
            "logger": None,
            "access_logger": None,
            "access_log": False,
            "default_headers": [(b"date", b"now")],
            "message_event": Arrival(),
            "expect_100_continue": False,
            "keep_alive": keep_alive,
            "on_response": self.complete,
        }
        self.cycle = EdgeCycle(**options)

    def write(self, data: bytes) -> None:
        """Be the transport."""
        self.sent += data

    def close(self) -> None:
        """Be the transport."""
        self.is_closed = True

    def complete(self) -> None:
        """The answer is whole."""
        self.is_complete = True

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        """Send a head."""
        await self.cycle.send({"type": START, "status": status, "headers": list(headers)})

    async def body(self, data: bytes, *, more: bool = False) -> None:
        """Send a piece of the body."""
        await self.cycle.send({"type": BODY, "body": data, "more_body": more})


async def test_an_answer_of_known_length() -> None:
    """The default headers come first, and the connection stays open."""
    connection = Connection()
    await connection.start((b"content-length", b"2"), (b"x", b"\xe9\ty"))
    await connection.body(b"o", more=True)
    assert not connection.is_complete
    await connection.body(b"k")

    assert connection.sent == (
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\nx: \xe9\ty\r\n\r\nok"
    )
    assert (connection.is_complete, connection.is_closed) == (True, False)


async def test_an_answer_of_unknown_length_is_chunked() -> None:
    """An empty piece is none; the last one ends the answer."""
    connection = Connection(keep_alive=False)
    await connection.start()
    await connection.body(b"abc", more=True)
    await connection.body(b"", more=True)
    await connection.body(b"")

    head, _, rest = connection.sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[2:] == [b"connection: close", b"transfer-encoding: chunked"]
    assert rest == b"3\r\nabc\r\n0\r\n\r\n"
    assert connection.is_closed


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204)])
async def test_an_answer_without_a_body(method: str, status: int) -> None:
    """It is complete with its head, whatever the application sends."""
    connection = Connection(method)
    await connection.start(status=status)
    await connection.body(b"" if method == "POST" else b"left out")

    assert connection.sent.endswith(b"date: now\r\n\r\n")
    assert connection.is_complete


async def test_the_application_may_close_the_connection() -> None:
    """Its header is sent once."""
    connection = Connection()
    await connection.start((b"connection", b"Close"), (b"content-length", b"0"))
    await connection.body(b"")

    assert connection.sent.count(b"onnection") == 1
    assert connection.is_closed


BREAKS = [b"a\r\nset-cookie: x", b"a\nx: y", b"a\rb", b"a\0b", b"a\x7fb", b"\r\n\r\n"]


@pytest.mark.parametrize("value", BREAKS)
@pytest.mark.parametrize("as_name", [False, True])
async def test_no_header_breaks_out_of_its_line(value: bytes, as_name: bool) -> None:
    """Nothing of such an answer is sent."""
    connection = Connection()
    header = (value, b"v") if as_name else (b"n", value)
    with pytest.raises(RuntimeError, match="line break"):
        await connection.start(header, (b"content-length", b"0"))

    assert connection.sent == b""


async def test_what_does_not_belong_there_is_refused() -> None:
    """A body before its head, a second head, a body of another length, and anything after the end."""
    connection = Connection()
    with pytest.raises(RuntimeError, match="cannot be sent now"):
        await connection.body(b"x")
    await connection.start((b"content-length", b"2"))
    with pytest.raises(RuntimeError, match="cannot be sent now"):
        await connection.start()
    with pytest.raises(RuntimeError, match="longer"):
        await connection.body(b"abc")
    short = Connection()
    await short.start((b"content-length", b"2"))
    with pytest.raises(RuntimeError, match="shorter"):
        await short.body(b"a")
    whole = Connection()
    await whole.start((b"content-length", b"0"))
    await whole.body(b"")
    with pytest.raises(RuntimeError, match="cannot be sent now"):
        await whole.body(b"")


async def test_whoever_waits_for_a_request_goes_on_when_something_arrives() -> None:
    """At once where it was there before, and each time anew."""
    arrival = Arrival()
    arrival.set()
    await arrival.wait()
    arrival.clear()
    waiting = asyncio.create_task(arrival.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    arrival.set()
    arrival.set()
    await asyncio.wait_for(waiting, 10)
