"""Turn received bytes into a response: heads, framing and their limits, without any I/O."""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from maniac_core.providers.transport.base import TransportErrorKind
from maniac_core.providers.transport.content import ContentDecoder, is_identity
from maniac_core.providers.transport.response import HttpResponse


class ParsingError(Exception):
    """The bytes are not a response that can be accepted."""

    def __init__(self, kind: TransportErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class ResponseParser:
    """Parses the responses of one connection, one `begin()` each.

    Readable between calls: `in_head` until the final head is complete, `head_bytes` received so
    far, `is_until_close` for a body that only the end of the connection ends, and after
    `is_complete` whether the connection `may_be_reused` and for how long (`keep_alive_s`, None if
    the server did not say).
    """

    def __init__(self, max_header_bytes: int) -> None:
        self.in_head = True
        self.head_bytes = 0
        self.is_complete = False
        self.is_until_close = False
        self.may_be_reused = False
        self.keep_alive_s: float | None = None
        self._max_header_bytes = max_header_bytes
        self._parser = HttpResponseParser(self)
        self._response: HttpResponse | None = None
        self._raw_headers: list[bytes] = []
        self._held_bytes = 0
        self._is_interim = False
        self._is_head_method = False
        self._refusal: ParsingError | None = None

    def begin(self, response: HttpResponse, *, is_head_method: bool) -> None:
        """Expect one response, to be filled in as it arrives."""
        self.in_head = True
        self.head_bytes = self._held_bytes = 0
        self.is_complete = self.is_until_close = self.may_be_reused = False
        self.keep_alive_s = None
        self._response = response
        self._is_head_method = is_head_method

    def feed(self, data: bytes) -> None:
        """Parse received bytes.

        Raises:
            ParsingError: PROTOCOL or HEADERS_TOO_LARGE.

        """
        if self.in_head:
            self.head_bytes += len(data)
        self._held_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self._refusal is not None:
                raise self._refusal from None
            if not self.is_complete:
                raise ParsingError(
                    TransportErrorKind.PROTOCOL, f"invalid HTTP response: {error}"
                ) from error
            # The response itself is complete; only the bytes after it are invalid.
            self.may_be_reused = False
        # The parser keeps unfinished headers and trailers, so an endless one must be cut off.
        if self._held_bytes > self._max_header_bytes and not self.is_complete:
            raise self._refuse_size()

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Notice a second response where one was asked for."""
        if self.is_complete:
            self.may_be_reused = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; those after the body, the trailers, are of no interest."""
        if self.in_head:
            self._raw_headers += (name, value)

    def on_headers_complete(self) -> None:
        """Decide from the head how the body is delimited."""
        if self.is_complete:
            return
        raw, self._raw_headers = self._raw_headers, []
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise self._refuse(f"unexpected status {status}")
            self._is_interim = True
            return
        if (
            self.head_bytes > self._max_header_bytes
            # Body bytes came along; each header also has ": " and a line end.
            and sum(map(len, raw)) + 2 * len(raw) > self._max_header_bytes
        ):
            raise self._refuse_size()
        response = self._response
        assert response is not None, "begin() comes before feed()"
        headers = decode_headers(raw)
        response.headers = headers
        if "keep-alive" in headers:
            self.keep_alive_s = keep_alive_timeout(headers["keep-alive"])
        if self._is_head_method:
            # The parser now waits for the body a GET would have had: no reuse.
            self.is_complete = True
            self._accept(response, status)
            return
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise self._refuse(f"unsupported transfer-encoding {coding[:40]!r}")
        self.is_until_close = coding is None and "content-length" not in headers
        if "content-encoding" in headers and status not in (204, 304):
            self._decode_content(response)
        self._accept(response, status)

    def on_body(self, data: bytes) -> None:
        """Buffer body bytes."""
        if self.is_complete:
            return
        response = self._response
        assert response is not None, "begin() comes before feed()"
        response.chunks.append(data)
        response.buffered += len(data)
        self._held_bytes = 0

    def on_message_complete(self) -> None:
        """Note the end of the response, unless it was an interim one."""
        if self._is_interim:
            self._is_interim = False
        elif not self.is_complete:
            self.is_complete = True
            self.may_be_reused = self._parser.should_keep_alive()

    def _accept(self, response: HttpResponse, status: int) -> None:
        """End the head; a response has a status from when nothing in its head can fail it."""
        response.status = status
        self.in_head = False
        self._held_bytes = 0

    def _decode_content(self, response: HttpResponse) -> None:
        coding = response.headers["content-encoding"]
        if is_identity(coding):
            return
        try:
            response.decoder = ContentDecoder(coding, may_be_empty=not self.is_until_close)
        except ValueError as error:
            raise self._refuse(str(error), TransportErrorKind.ENCODING) from error
        # They describe the compressed bytes, which nobody gets to see.
        del response.headers["content-encoding"]
        response.headers.pop("content-length", None)

    def _refuse_size(self) -> ParsingError:
        text = f"response headers exceed {self._max_header_bytes} bytes"
        return self._refuse(text, TransportErrorKind.HEADERS_TOO_LARGE)

    def _refuse(
        self, text: str, kind: TransportErrorKind = TransportErrorKind.PROTOCOL
    ) -> ParsingError:
        """Make an error that survives being raised in a callback, which httptools replaces."""
        self._refusal = ParsingError(kind, text)
        return self._refusal


def decode_headers(raw: list[bytes]) -> dict[str, str]:
    """Make a mapping of alternating names and values; repeated headers are joined with ", "."""
    if not raw:
        return {}
    # Decoding all at once costs a third of decoding each; the parser lets no newline through.
    text = b"\n".join(raw).decode("latin-1").split("\n")
    names = "\n".join(text[::2]).lower().split("\n")
    values = text[1::2]
    headers = dict(zip(names, values, strict=True))
    if len(headers) < len(values):
        headers = {}
        for name, value in zip(names, values, strict=True):
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def keep_alive_timeout(value: str) -> float | None:
    """Return how many seconds a connection may idle after a `Keep-Alive` header, None if unsaid.

    A little less than the server says, since it started counting earlier.
    """
    for parameter in value.lower().split(","):
        name, _, number = parameter.partition("=")
        if name.strip() == "timeout" and number.strip().isdecimal():
            seconds = float(number)
            return max(seconds - 1.0, seconds / 2)
    return None
