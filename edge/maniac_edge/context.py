"""RequestContext: what one HTTP request brings along, and what becomes of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from random import getrandbits
from urllib.parse import parse_qsl, unquote

# Larger values are refused by gRPC with an error that says nothing about the header.
_MAX_METADATA_VALUE = 4096
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,64})?")
# Of the core's side of the hop: says that this is an edge, and for whom it asks.
_CLIENT_ADDRESS = "x-maniac-client-address"
_KNOWN = {
    b"x-request-id": "x-request-id",
    b"authorization": "authorization",
    b"traceparent": "traceparent",
    b"idempotency-key": "idempotency-key",
    b"anthropic-beta": "anthropic-beta",
    # Where clients of other makers put the key.
    b"x-api-key": "key",
    b"api-key": "key",
    b"x-goog-api-key": "key",
}

# Keys of ours and of providers, which some put into paths by mistake.
_KEY = re.compile(r"(?<![A-Za-z0-9])(mk-|sk-|pk-|rk-|gsk_|xai-|AIza)[-_A-Za-z0-9]{12,}")
_HIDDEN_KEY = re.compile(r"(mk-|sk-|pk-|rk-|gsk_|xai-|AIza)[-_A-Za-z0-9]{12,}")
_LEAST_WITH_KEY = 25
_LONGEST_SHOWN = 1000

Header = tuple[bytes, bytes]


class RequestContext:
    """The facts of one request that every layer needs.

    `metadata` goes with each call of the core. `response_headers` collects what the core says (rate limits, dropped
    parameters, timing) and is sent with the answer, whatever the answer is.
    """

    __slots__ = (
        "client_address",
        "client_gone",
        "error_code",
        "is_head",
        "metadata",
        "path",
        "request_id",
        "response_headers",
        "sent_bytes",
        "started",
        "status",
        "streamed",
    )

    def __init__(self, headers: Iterable[Header], path: str, client_address: str) -> None:
        self.started = time.perf_counter()
        self.path = path
        self.client_address = client_address
        self.response_headers: dict[bytes, bytes] = {}
        self.status = 0
        self.sent_bytes = 0
        self.streamed = False
        self.client_gone = False
        self.error_code: str | None = None
        self.is_head = False
        self.request_id, forwarded = _read(headers)
        self.metadata: tuple[tuple[str, str], ...] = (
            *forwarded.items(),
            ("x-request-id", self.request_id),
            (_CLIENT_ADDRESS, self.client_address or "unknown"),
        )

    def take_key(self, query: bytes) -> None:
        """Use the key of a query, `?key=`, where Gemini's clients put it; one of the headers comes first."""
        if any(name == "authorization" for name, _ in self.metadata):
            return
        key = dict(parse_qsl(query.decode("latin-1"))).get("key", "")
        if key and len(key) <= _MAX_METADATA_VALUE and _PRINTABLE.fullmatch(key.encode()):
            self.metadata = (*self.metadata, ("authorization", f"Bearer {key}"))

    @property
    def shown_path(self) -> str:
        """The path as it may be logged: without anything that looks like a key, and not without end."""
        path = self.path
        return path if len(path) < _LEAST_WITH_KEY else _shown(path[:_LONGEST_SHOWN])

    @property
    def is_gated(self) -> bool:
        """Whether the path needs a key, so that even a refusal of the edge has to pass the core's gates."""
        return self.path.startswith(("/v1/", "/v1beta/", "/v1alpha/", "/api/v1/")) or self.path in {
            "/v1",
            "/api/v1",
        }


def _shown(path: str) -> str:
    if "%" in path and _HIDDEN_KEY.search(unquote(path)):
        return "(a path with a key in it)"
    return _KEY.sub(r"\1…", path)


def new_request_id() -> str:
    """Return an id for a request whose client gave none."""
    # The id is not a secret: a generator that is seeded once saves a system call for each.
    return f"req_{getrandbits(96):024x}"


def _read(headers: Iterable[Header]) -> tuple[str, dict[str, str]]:
    request_id = ""
    metadata: dict[str, str] = {}
    other_key = ""
    for name, value in headers:
        key = _KNOWN.get(name)
        if key is None:
            continue
        if key == "x-request-id":
            if not request_id and _REQUEST_ID.fullmatch(value):
                request_id = value.decode("ascii")
            continue
        # A value that gRPC cannot carry is as good as absent: a key of that form is unknown anyway.
        if len(value) > _MAX_METADATA_VALUE or not _PRINTABLE.fullmatch(value):
            continue
        if key == "traceparent" and not _TRACEPARENT.fullmatch(value):
            continue
        text = value.decode("ascii")
        if key == "key":
            other_key = other_key or text
        elif key not in metadata:
            metadata[key] = text
        elif key == "anthropic-beta":
            metadata[key] = f"{metadata[key]},{text}"
    if other_key and metadata.get("authorization", "")[:7].lower() != "bearer ":
        metadata["authorization"] = f"Bearer {other_key}"
    return request_id or new_request_id(), metadata
