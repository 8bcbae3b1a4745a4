"""Whatever comes over a socket ends in a proper answer or a closed connection, and the next request is served."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
PATHS = [b"/v1/chat/completions", b"/v1/files", b"/v1/containers", b"/", b"/healthz", b"/v1/x"]
METHODS = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"BREW",
    b"",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9", b"", b"h"]
HEADERS = [
    b"host: x",
    b"Host: y",
    b"content-length: 57",
    b"content-length: 0",
    b"content-length: 99999999999",
    b"content-length: -5",
    b"content-length: 1e3",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"connection: close",
    b"connection: keep-alive, upgrade",
    b"upgrade: h2c",
    b"expect: 100-continue",
    b"expect: something",
    b"content-type: multipart/form-data; boundary=",
    b"content-encoding: gzip",
    b"authorization: Bearer mk-test",
    b"authorization: " + b"x" * 9000,
    b"x-request-id: " + b"\xff" * 20,
    b"x-a: " + b"b" * 30_000,
    b"traceparent: nonsense",
    b"x-forwarded-for: 1.2.3.4, , ::, [::1]:80, unknown",
    b": no name",
    b"no colon",
    b"\x00: \x00",
    b" folded",
    b"x" * 300 + b": 1",
]
TARGETS = [
    b"*", b"http://[::1", b"//", b"/%", b"/%zz", b"/v1/models/%2e%2e/%2f", b"/\xc3\xa9", b"?", b"#",
    b"/" + b"a/" * 3000, b"/v1/containers/" + b"l" * 50_000, b"http://x/healthz", b"/v1/files?limit=" + b"9" * 400,
]  # fmt: skip
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
PROPER = {b"100", b"200", b"204", b"400", b"401", b"404", b"405", b"408", b"413", b"422", b"429", b"501"}  # fmt: skip
CASES = 240


def chunked(rng: random.Random) -> bytes:
    """Return a chunked body, well-formed or not."""
    pieces = [
        b"%x\r\n%s\r\n" % (len(BODY), BODY),
        b"0\r\n\r\n",
        b"zz\r\n",
        b"ffffffffffffffffff\r\n",
    ]
    pieces += [b"5;ext=1\r\nabcde\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"5\r\nabc", b"\r\n"]
    return b"".join(rng.choices(pieces, k=rng.randint(1, 4)))


def request(rng: random.Random) -> bytes:
    """Return one request, well-formed in most of its parts."""
    line = b" ".join(
        [rng.choice(METHODS), rng.choice(PATHS if rng.random() < 0.7 else TARGETS), rng.choice(VERSIONS)]
    )  # fmt: skip
    headers = rng.sample(HEADERS, k=rng.randint(0, 5))
    if rng.random() < 0.7:
        headers.append(b"host: x")
    body = rng.choice([b"", BODY, BODY[:20], chunked(rng), b"\xff" * 200, b"[" * 5000])
    end = rng.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"])
    return end.join([line, *headers, b"", b""]) + body


def conversation(seed: int) -> list[bytes]:
    """Return what one client sends, in pieces."""
    rng = random.Random(seed)
    sent = b"".join(request(rng) for _ in range(rng.choice([1, 1, 1, 2, 5])))
    if rng.random() < 0.3:
        at = rng.randrange(len(sent))
        sent = sent[:at] + rng.randbytes(rng.randint(1, 8)) + sent[at:]
    if rng.random() < 0.3:
        sent = sent[: rng.randrange(len(sent))]
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.randint(0, 3)))
    return [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


async def talk(edge: Any, pieces: list[bytes]) -> bytes:
    """Send the pieces, then the end, and return what came back."""
    answer = b""
    async with edge.connection() as (reader, writer):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            async with asyncio.timeout(30):
                answer = await reader.read()
        except OSError:
            pass
    return answer


@pytest.mark.parametrize("start", range(0, CASES, 40))
async def test_no_bytes_are_too_strange(edge: Any, core: Any, start: int) -> None:
    """Forty conversations at once, each from a seed of its own; the log has no traceback."""
    del core
    logged = len(edge.lines)
    seeds = range(start, start + 40)
    answers = await asyncio.gather(*(talk(edge, conversation(seed)) for seed in seeds))
    async with edge.client() as client:
        after = await client.get("/healthz")

    assert after.status_code == 200
    for seed, answer in zip(seeds, answers, strict=True):
        statuses = STATUS.findall(answer)
        assert set(statuses) <= PROPER, (seed, answer[:300])
        assert not answer or answer.startswith(b"HTTP/1.1 "), (seed, answer[:300])
    assert not [line for line in edge.lines[logged:] if "Traceback" in line or '"error",' in line]


NESTED = [b"[" * 200_000, b'{"a":' * 50_000, b'{"model":"m","messages":[' + b"{}," * 60_000]
# JSON all the same, which is passed on where an unknown key has it.
PASSED_ON = [b"1e999999", b"9" * 100_000]
NUMBERS = [*PASSED_ON, b"-" * 5000, b"0x10", b"1.", b".5", b"Infinity"]
STRINGS = [b'"\\u12"', b'"\\ud800"', b'"' + b"\\" * 99_999, b'"\xf0\x9f"', b'"\x00"']


@pytest.mark.parametrize("value", [*NESTED, *NUMBERS, *STRINGS], ids=lambda value: repr(value[:12]))
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/containers", b"/v1/datasets"])
async def test_no_json_is_too_strange(edge: Any, core: Any, path: bytes, value: bytes) -> None:
    """As a whole body or inside one it is a refusal in the envelope, never a fault."""
    for body in (value, b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":%s}' % value):
        head = b"POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        async with edge.connection(head % (path, len(body)) + body) as (reader, _):
            answer = await reader.read()

        assert STATUS.match(answer), answer[:200]
        if answer.startswith(b"HTTP/1.1 200 "):
            assert value in PASSED_ON
            continue
        assert answer[9:12] in {b"400", b"413", b"422"}, answer[:300]
        assert b'"error":{' in answer
    assert len(core.asked("create")) <= (value in PASSED_ON)
