"""Many scripted providers on one real socket: the first part of the path names the provider."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from upstream import Exchange, Handler, Upstream, answer_or_stream, chunk

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Providers(Upstream):
    """Each provider answers as its handler says; those without one behave well."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[str, Handler] = {}
        self.handler = self._dispatch

    def reset(self) -> None:
        """Forget requests, and answer normally again."""
        super().reset()
        self.handlers = {}
        self.handler = self._dispatch

    def requests(self, name: str) -> list[Exchange]:
        """Return what reached a provider."""
        return [exchange for exchange in self.exchanges if provider_of(exchange) == name]

    @property
    def good(self) -> Handler:
        """How a well-behaved provider answers."""
        return answer_or_stream

    def flag(self) -> threading.Event:
        """Return an event for a handler to set and for the test's thread to wait on."""
        return threading.Event()

    async def _dispatch(self, exchange: Exchange) -> None:
        name = provider_of(exchange)
        usual = token if name == "google" else answer_or_stream
        await self.handlers.get(name, usual)(exchange)


async def token(exchange: Exchange) -> None:
    """Give a token, as Google's server for service accounts does."""
    await exchange.respond(
        200, b'{"access_token": "token-of-google", "expires_in": 3600, "token_type": "Bearer"}'
    )


def service_account(port: int) -> dict[str, str]:
    """Return the credentials of a service account that gets its tokens from these providers."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "client_email": "gateway@p-1.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "token_uri": f"http://127.0.0.1:{port}/google/token",
    }


def provider_of(exchange: Exchange) -> str:
    """Return the name of the provider a request is for."""
    return exchange.path.split("/")[1]


def in_turn(*handlers: Handler) -> Handler:
    """Handle the first request by the first handler, and so on; the last one handles the rest."""
    left = list(handlers)

    async def handle(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return handle


def status(
    http_status: int,
    message: str = "It failed.",
    *,
    headers: dict[str, str] | None = None,
    **error: Any,
) -> Handler:
    """Answer with an error in OpenAI's form."""

    async def handle(exchange: Exchange) -> None:
        body = json.dumps({"error": {"message": message, **error}}).encode()
        await exchange.respond(http_status, body, **(headers or {}))

    return handle


def body(data: bytes, content_type: str = "application/json") -> Handler:
    """Answer 200 with a body."""

    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, data, content_type)

    return handle


def events(*data: Any, end: bool = True) -> Handler:
    """Stream events as they are given; `end` closes the body well."""

    async def handle(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in data:
            await exchange.event(event)
        if end:
            await exchange.chunk(b"")

    return handle


def then(first: Handler, last: Callable[[Exchange], Awaitable[None] | None]) -> Handler:
    """Handle, then do something with the connection."""

    async def handle(exchange: Exchange) -> None:
        await first(exchange)
        done = last(exchange)
        if done is not None:
            await done

    return handle


async def reset(exchange: Exchange) -> None:
    """Break the connection before anything is sent."""
    exchange.reset()


async def hang(exchange: Exchange) -> None:
    """Send nothing until the gateway goes."""
    await exchange.wait_until_gone()


def text(*pieces: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream: a role, then text."""
    return [chunk(None, role="assistant"), *(chunk(piece) for piece in pieces)]


def after(seconds: float, handler: Handler) -> Handler:
    """Be slow."""

    async def handle(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await handler(exchange)

    return handle
