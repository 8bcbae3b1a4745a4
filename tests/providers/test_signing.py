"""Credentials that expire: who waits for them, when they are renewed, and what is told when there are none."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.server
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlsplit

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers import signing
from maniac_core.providers.base import HttpCall
from maniac_core.providers.registry import signer_of
from maniac_core.providers.signing import CredentialsError, Renewed, Signer


class Source:
    """Gives numbers that are valid for so long, or fails."""

    def __init__(self, valid_s: float = 3600.0) -> None:
        self.valid_s = valid_s
        self.calls = 0
        self.fails = False
        self.go_on = threading.Event()
        self.go_on.set()

    def fetch(self) -> tuple[int, float]:
        """Block until it may go on."""
        self.calls += 1
        self.go_on.wait(10)
        if self.fails:
            raise CredentialsError("none today")
        return self.calls, self.valid_s


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it is another thread that makes it hold
            await asyncio.sleep(0)


async def test_all_who_wait_get_the_one_that_comes() -> None:
    """One call, however many ask; who goes away stops nobody else."""
    source = Source()
    source.go_on.clear()
    renewed = Renewed("p", source.fetch)

    waiting = [asyncio.ensure_future(renewed.get()) for _ in range(9)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    source.go_on.set()

    assert await asyncio.gather(*waiting) == [1] * 8
    assert await renewed.get() == 1
    assert source.calls == 1


def test_a_source_that_hangs_keeps_nobody_from_stopping() -> None:
    """As a server of tokens does that answers nothing: the loop ends all the same."""
    source = Source()
    source.go_on.clear()

    async def ask_and_leave() -> None:
        asking = asyncio.ensure_future(Renewed("p", source.fetch).get())
        await until(lambda: source.calls == 1)
        asking.cancel()

    loop = threading.Thread(target=asyncio.run, args=(ask_and_leave(),))
    loop.start()
    loop.join(5)
    has_stopped = not loop.is_alive()
    source.go_on.set()
    loop.join()
    assert has_stopped


async def test_they_are_renewed_before_they_expire_while_nobody_waits() -> None:
    """The old ones serve until the new ones are there."""
    source = Source()
    renewed = Renewed("p", source.fetch)
    assert await renewed.get() == 1
    source.go_on.clear()

    fresh = asyncio.create_task(renewed.keep_fresh())
    await until(lambda: source.calls == 2)
    assert await renewed.get() == 1
    source.go_on.set()
    await until(lambda: renewed._value == 2)

    assert await renewed.get() == 2
    fresh.cancel()


async def test_expired_ones_are_not_given_out() -> None:
    """Whoever asks then waits for new ones."""
    source = Source(valid_s=0.0)
    renewed = Renewed("p", source.fetch)
    assert [await renewed.get(), await renewed.get()] == [1, 2]


async def test_refused_ones_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are new: then something else is wrong, and nobody is asked again for every request."""
    renewed = Renewed("p", Source().fetch)
    assert await renewed.get() == 1
    renewed.forget()
    assert await renewed.get() == 1
    monkeypatch.setattr(signing, "_YOUNG_S", 0.0)
    renewed.forget()
    assert await renewed.get() == 2


async def test_a_failure_is_told_to_all_and_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The background says it in the log and tries again."""
    source = Source()
    source.fails = True
    renewed = Renewed("p", source.fetch)
    for _ in range(3):
        with pytest.raises(CredentialsError, match="none today"):
            await renewed.get()
    assert source.calls == 1

    monkeypatch.setattr(signing, "_PAUSE_S", 0.0)
    with caplog.at_level(logging.WARNING):
        fresh = asyncio.create_task(renewed.keep_fresh())
        await until(lambda: source.calls > 2)
    source.fails = False
    await until(lambda: renewed._value is not None)
    assert await renewed.get() == source.calls
    assert "provider p has no credentials: none today" in caplog.messages
    fresh.cancel()


async def test_whatever_goes_wrong_is_told_as_missing_credentials(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the rest in the log only."""

    def fetch() -> tuple[int, float]:
        raise OSError("secret")

    with pytest.raises(CredentialsError) as told:
        await Renewed("p", fetch).get()
    assert "secret" not in str(told.value)
    assert "getting the credentials of provider p failed" in caplog.text


@pytest.mark.parametrize(
    ("kind", "place", "module", "extra"),
    [
        ("vertex", {"project": "p", "location": "global"}, "google.auth", "gcp"),
        ("bedrock", {"region": "eu-west-1"}, "botocore.auth", "aws"),
    ],
)
async def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, place: dict[str, str], module: str, extra: str
) -> None:
    """In one line, with what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    signer = signer_of(kind, msgspec.convert({"kind": kind, **place}, ProviderConfig))
    assert signer is not None
    with pytest.raises(CredentialsError) as told:
        await signer.sign(HttpCall(url="https://h/", headers=(), body=b""))
    assert f"pip install '.[{extra}]'" in str(told.value)


CALL = HttpCall(
    url="https://bedrock-runtime.eu-west-1.amazonaws.com/model/a.b-v1%3A0/converse",
    headers=(("content-type", "application/json"), ("traceparent", "t")),
    body=b'{"messages":[]}',
)


def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environ: str) -> None:
    """Leave nothing of the machine's own credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def aws_signer(**fields: object) -> Signer:
    table = {"kind": "bedrock", "region": "eu-west-1", **fields}
    signer = signer_of("bedrock", msgspec.convert(table, ProviderConfig))
    assert signer is not None
    return signer


def signature(call: HttpCall, secret: str, names: list[str]) -> str:
    """Return the signature of a request as AWS's documentation computes it."""
    parts = urlsplit(call.url)
    given = {"host": parts.netloc, **dict(call.headers)}
    canonical = "\n".join(
        [
            "POST",
            quote(parts.path, safe="/"),
            "",
            *(f"{name}:{given[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(call.body).hexdigest(),
        ]
    )
    moment = given["x-amz-date"]
    scope = [moment[:8], "eu-west-1", "bedrock", "aws4_request"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    wanted = "\n".join(["AWS4-HMAC-SHA256", moment, "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for part in [*scope, wanted]:
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


@pytest.mark.parametrize("size", [0, 2_000_000])
@pytest.mark.parametrize("token", [None, "session-token"])
async def test_a_request_is_signed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None, size: int
) -> None:
    """Over its path, its body, its date and the session's token; large ones as well."""
    session = {"AWS_SESSION_TOKEN": token} if token else {}
    aws(monkeypatch, tmp_path, AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="secret", **session)
    call = msgspec.structs.replace(CALL, body=CALL.body + b" " * size)

    signed = await aws_signer().sign(call)

    headers = dict(signed.headers)
    names = ["content-type", "host", "x-amz-date", *(["x-amz-security-token"] if token else [])]
    assert signed.headers[:2] == CALL.headers
    assert headers.get("x-amz-security-token") == token
    assert headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKID/{headers['x-amz-date'][:8]}/eu-west-1/bedrock/aws4_request, "
        f"SignedHeaders={';'.join(names)}, Signature={signature(signed, 'secret', names)}"
    )


async def test_credentials_come_from_a_profile_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The usual chain."""
    aws(monkeypatch, tmp_path, AWS_PROFILE="mine")
    (tmp_path / "credentials").write_text(
        "[mine]\naws_access_key_id = OTHER\naws_secret_access_key = s\n"
    )
    signed = await aws_signer().sign(CALL)
    assert "Credential=OTHER/" in dict(signed.headers)["authorization"]


class _Metadata(http.server.BaseHTTPRequestHandler):
    """AWS's metadata service of a machine with a role."""

    seen: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        """Give a session."""
        self._answer(b"session")

    def do_GET(self) -> None:
        """Give the role's name, then its credentials."""
        if not self.path.endswith("/role"):
            self._answer(b"role")
            return
        until = datetime.now(UTC) + timedelta(hours=6)
        given = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": "ROLE",
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "LastUpdated": "2026-01-01T00:00:00Z",
        }
        self._answer(json.dumps(given).encode())

    def _answer(self, body: bytes) -> None:
        self.seen.append(self.path)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.mark.parametrize("may_ask", [False, True])
async def test_the_machine_is_asked_only_where_it_may_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, may_ask: bool
) -> None:
    """Elsewhere there is nobody who answers, and it takes seconds to find out."""
    _Metadata.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        aws(
            monkeypatch,
            tmp_path,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        )
        signer = aws_signer(instance_role=may_ask)
        if may_ask:
            headers = dict((await signer.sign(CALL)).headers)
            assert "Credential=ROLE/" in headers["authorization"]
            assert headers["x-amz-security-token"] == "t"
        else:
            with pytest.raises(CredentialsError, match="no AWS credentials are found"):
                await signer.sign(CALL)
        server.shutdown()
        thread.join()
    assert bool(_Metadata.seen) == may_ask


def test_a_key_needs_no_signature() -> None:
    """It is sent as it is."""
    table = {"kind": "bedrock", "region": "eu-west-1", "api_key_env": "AWS_BEARER_TOKEN_BEDROCK"}
    assert signer_of("bedrock", msgspec.convert(table, ProviderConfig)) is None
