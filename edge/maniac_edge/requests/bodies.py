"""Reads request bodies: who may send one is asked before it is taken in, and what is in it is bounded while it arrives.

A body that has arrived with its head costs nothing more. For any other the core is asked about key and rate limit as
soon as it is large or slow; until then at most 64 KiB are held, and what one read of the socket brings beyond them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from litestar.types import Receive, Scope

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.errors import ClientGoneError, EdgeError
from maniac_edge.http.client_connection import (
    CLIENT_WATCH,
    ClientWatch,
    check_declared,
    too_large,
)
from maniac_edge.requests.json_structure import JsonStructure

_UNASKED_BYTES = 64 * 1024
_UNASKED_S = 5.0
# What is measured in one go, a millisecond at most: others are served in between.
_SLICE_BYTES = 256 * 1024


class Access(Protocol):
    """The core's gates."""

    async def check_access(
        self, context: RequestContext, *, refused_code: str = "", body_follows: bool = False
    ) -> None:
        """Pass key and rate limit: for a request that the edge refuses, or, uncounted, for one whose body follows.

        Raises:
            EdgeError: the caller may not.
        """


class BodyReader:
    """Reads the JSON bodies of all routes."""

    def __init__(self, access: Access, config: EdgeConfig) -> None:
        self._access = access
        self._limit = config.max_body_bytes
        self._timeout_s = config.body_timeout_s
        self._max_values = config.max_json_values
        self._max_depth = config.max_json_depth

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body.

        Raises:
            EdgeError: PAYLOAD_TOO_LARGE, before anything is read if the client announced the size; INVALID_VALUE if it
                is compressed; INVALID_JSON if it is nested too deeply; REQUEST_TIMEOUT; or what the core says.
            ClientGoneError: the client went away before its end.
        """
        declared = check_declared(scope, self._limit)
        if declared <= _UNASKED_BYTES and not _waits_for_us(scope):
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGoneError
            body = message["body"]
            if not message["more_body"] and len(body) <= self._limit:
                structure = JsonStructure(self._max_values, self._max_depth)
                if not structure.is_within(body):
                    await _measure(structure, body)
                return body
            return await self._read_on(scope, receive, [body])
        return await self._read_on(scope, receive, [])

    async def problem(self, text: bytes) -> EdgeError | None:
        """Return what is wrong with the structure of a JSON text that has been read."""
        structure = JsonStructure(self._max_values, self._max_depth)
        if structure.is_within(text):
            return None
        try:
            await _measure(structure, text)
        except EdgeError as err:
            return err
        return None

    async def _read_on(self, scope: Scope, receive: Receive, parts: list[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._gather(scope, receive, parts)
        except TimeoutError:
            raise EdgeError(
                "REQUEST_TIMEOUT",
                f"The request body did not arrive within {self._timeout_s:g} seconds.",
            ) from None

    async def _gather(self, scope: Scope, receive: Receive, parts: list[bytes]) -> bytes:
        unasked_until = asyncio.get_running_loop().time() + _UNASKED_S
        # Nothing was read where the head alone says that it will be large, or that the client waits.
        is_admitted = not parts and await self._admit(scope)
        structure = JsonStructure(self._max_values, self._max_depth)
        size = sum(map(len, parts))
        for part in parts:
            await _measure(structure, part)
        more = True
        while more:
            if size > self._limit:
                raise too_large(self._limit)
            if size > _UNASKED_BYTES and not is_admitted:
                is_admitted = await self._admit(scope)
            try:
                async with asyncio.timeout_at(None if is_admitted else unasked_until):
                    message = await receive()
            except TimeoutError:
                is_admitted = await self._admit(scope)
                continue
            if message["type"] != "http.request":
                raise ClientGoneError
            more = message["more_body"]
            parts.append(message["body"])
            size += len(message["body"])
            await _measure(structure, message["body"])
        if size > self._limit:
            raise too_large(self._limit)
        return b"".join(parts)

    async def _admit(self, scope: Scope) -> bool:
        context: RequestContext = scope["state"]["context"]
        watch: ClientWatch = scope["extensions"][CLIENT_WATCH]  # type: ignore[index,assignment]
        watch.pause_reading()
        await self._access.check_access(context, body_follows=True)
        return True


async def _measure(structure: JsonStructure, text: bytes) -> None:
    for start in range(0, len(text), _SLICE_BYTES):
        structure.feed(text[start : start + _SLICE_BYTES])
        await asyncio.sleep(0)


def _waits_for_us(scope: Scope) -> bool:
    """Whether the client sends its body only once it is asked to."""
    return b"expect" in dict(scope["headers"])
