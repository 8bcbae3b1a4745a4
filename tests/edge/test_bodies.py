"""Bodies that are no requests: malformed, hostile, too large, cut short."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def with_extra(value: bytes) -> bytes:
    """Return a request whose unknown key has this text as its value."""
    return b'{"model":"m","messages":[{"role":"user","content":"hi"}],"x":' + value + b"}"


MALFORMED = {
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"model":"m"',
    "trailing": GOOD + b"x",
    "trailing comma": b'{"model":"m",}',
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "not utf-8": with_extra(b'"\xff"'),
    "not utf-8 in a key": b'{"\xff":1}',
    "utf-16": GOOD.decode().encode("utf-16"),
    "lone surrogate": GOOD.replace(b"hi", b"\\ud800"),
    "lone surrogate in an unknown key": with_extra(b'"\\udc00"'),
    "nan": with_extra(b"NaN"),
    "nan in a number": GOOD[:-1] + b',"temperature":NaN}',
    "infinity": with_extra(b"[-Infinity]"),
    "control character": GOOD.replace(b"hi", b"\x01"),
    "deep array": with_extra(b"[" * 100_000 + b"]" * 100_000),
    "deep object": with_extra(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep and never closed": b"[" * 1_000_000,
    "deep content": GOOD.replace(b'"hi"', b"[" * 100_000),
    "null bytes": b"\x00" * 100,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_json_is_refused_and_survived(
    client: httpx.AsyncClient, core: Any, body: bytes
) -> None:
    """What is not JSON in UTF-8 is a 400 `invalid_json`, and the next request is served."""
    answer = await client.post(URL, content=body)
    after = await client.post(URL, content=GOOD)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert answer.json()["error"]["param"] is None
    assert after.status_code == 200
    assert len(core.asked("create")) == 1


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"[" + GOOD + b"]"])
async def test_json_that_is_no_object_is_an_invalid_value(
    client: httpx.AsyncClient, body: bytes
) -> None:
    """JSON of another kind than an object is a 400 `invalid_value`."""
    answer = await client.post(URL, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


HUGE = {"digits": b"9" * 5000, "exponent": b"1e999", "many digits of a float": b"1" * 500 + b".5"}


@pytest.mark.parametrize("number", HUGE.values(), ids=HUGE)
async def test_numbers_out_of_range_are_invalid_values(
    client: httpx.AsyncClient, number: bytes
) -> None:
    """A number that no type can hold is a 400 that names the field."""
    answer = await client.post(URL, content=GOOD[:-1] + b',"temperature":' + number + b"}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temperature"


async def test_the_last_of_repeated_keys_counts_everywhere(
    client: httpx.AsyncClient, core: Any
) -> None:
    """A repeated key has one meaning in all that is read of a body: its last one."""
    body = (
        b'{"model":"a","messages":[],"model":"b","x":1,'
        b'"messages":[{"role":"user","content":"1","y":1,"y":2,"content":"2"}],"x":2}'
    )
    answer = await client.post(URL, content=body)
    params = core.asked("create")[0].params

    assert answer.status_code == 200
    assert (params.model, params.extra_json) == ("b", b'{"x":2}')
    assert [(m.text, m.extra_json) for m in params.messages] == [("2", b'{"y":2}')]


@pytest.mark.parametrize("content_type", [None, "text/plain", "multipart/form-data", "x", ""])
async def test_the_content_type_does_not_matter(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    """A JSON body is read whatever its Content-Type says."""
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await client.post(URL, content=GOOD, headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "identity, ZSTD"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/containers", "/v1/datasets", "/v1/files"]
)
async def test_a_compressed_body_is_refused_as_such(
    client: httpx.AsyncClient, core: Any, path: str, coding: str
) -> None:
    """A client that compresses its bodies is told so, not that its JSON is broken."""
    headers = {"content-encoding": coding, "content-type": "multipart/form-data; boundary=b"}
    answer = await client.post(path, content=b"\x1f\x8b\x08...", headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"
    assert "compressed" in answer.json()["error"]["message"]
    assert answer.headers.get_list("connection") == ["close"]
    assert core.asked("create") == []


@pytest.mark.parametrize("coding", ["identity", "", "utf-8"])
async def test_an_encoding_that_compresses_nothing_does_not_matter(
    client: httpx.AsyncClient, coding: str
) -> None:
    """A plain body is read, also where the header names a charset by mistake."""
    answer = await client.post(URL, content=GOOD, headers={"content-encoding": coding})

    assert answer.status_code == 200


async def test_an_announced_size_above_the_limit_is_refused(tight_edge: Any, core: Any) -> None:
    """A body whose Content-Length is above the limit is a 413, after the gates."""
    async with tight_edge.client() as client:
        answer = await client.post(URL, content=GOOD + b" " * 2000)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"
    assert [r.refused_code for r in core.asked("access")] == ["payload_too_large"]
    assert answer.headers["x-ratelimit-limit"] == "600"


async def test_a_body_at_the_limit_is_served(tight_edge: Any, core: Any) -> None:
    """The limit itself is allowed."""
    del core
    async with tight_edge.client() as client:
        answer = await client.post(URL, content=GOOD.ljust(2000))

    assert answer.status_code == 200


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(
    tight_edge: Any, core: Any
) -> None:
    """An endless chunked body is answered with 413 while the client still sends, and is not taken in for ever."""
    del core
    start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    async with tight_edge.connection(start + 3 * chunk) as (reader, _):
        head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head


MANAGEMENT = [
    ("POST", "/v1/containers"),
    ("PATCH", "/v1/containers/box"),
    ("POST", "/v1/containers/box/models"),
    ("POST", "/v1/models"),
    ("POST", "/v1/evaluators"),
    ("PATCH", "/v1/evaluators/judge"),
    ("POST", "/v1/datasets"),
]


@pytest.mark.parametrize(("verb", "path"), MANAGEMENT)
async def test_management_requests_have_the_same_limit(
    tight_edge: Any, client: httpx.AsyncClient, verb: str, path: str
) -> None:
    """Above it they are a 413 as well; below it a body is read, whatever the framework's own limit."""
    async with tight_edge.client() as tight:
        refused = await tight.request(verb, path, content=b"{}".ljust(2001))
    taken = await client.request(verb, path, content=b"[]".ljust(11_000_000))

    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "payload_too_large"
    assert taken.status_code == 422


async def test_a_client_that_waits_for_100_continue_is_told_no(tight_edge: Any, core: Any) -> None:
    """With `Expect: 100-continue` an oversized body is refused before any of it is sent."""
    del core
    start = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        b"content-length: 5000\r\n\r\n"
    )
    async with tight_edge.connection(start) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/containers"])
async def test_a_cut_upload_is_nobodys_error(edge: Any, core: Any, path: bytes) -> None:
    """A client that leaves in the middle of its body leaves one log line and no call."""
    request_id = b"cut-upload" + path.replace(b"/", b"-")
    start = (
        b"POST " + path + b" HTTP/1.1\r\nhost: x\r\nx-request-id: " + request_id + b"\r\n"
        b"content-length: 500\r\n\r\n{"
    )
    async with edge.connection(start):
        pass
    record = await edge.record(request_id.decode())

    assert record["status"] == 499
    assert core.calls == []


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n"],
)
async def test_what_is_not_http_gets_the_envelope(edge: Any, junk: bytes) -> None:
    """Bytes that are no HTTP request are answered with a 400 in the envelope, and the process lives."""
    async with edge.connection(junk) as (reader, _):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_value"' in answer
    assert b"x-request-id: req_" in answer
    async with edge.client() as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "resource",
    ["chat/completions", "containers", "files", "evaluators", "datasets", "traces", "usage"],
)
async def test_an_offset_beyond_64_bits_is_out_of_range_in_every_list(
    client: httpx.AsyncClient, resource: str
) -> None:
    """What no core can be asked for is the caller's mistake."""
    answer = await client.get(f"/v1/{resource}", params={"offset": 2**63})

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "offset"]
