"""Idempotency: a chat request repeated under the same `Idempotency-Key` is answered with the first one's result.

The key is claimed in the database before a provider is called, so that it holds for every core. A failed or cancelled
request frees its key, because a retry is then wanted. Content of `store: false` requests is never written: their
results can be repeated by the core that made them, while it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator

import msgspec

from maniac_core.domain.chat import (
    ChatRequest,
    Choice,
    ChoiceDelta,
    Chunk,
    Completion,
    delta_of,
)
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.records import StoredCompletion
from maniac_core.services.capture import Call
from maniac_core.services.completions import CompletionService
from maniac_core.services.outage import unavailable
from maniac_core.storage.base import StorageError
from maniac_core.storage.completions import CompletionStore
from maniac_core.storage.idempotency import IdempotencyStore, KeyState

_log = logging.getLogger(__name__)
_KEPT_S = 24 * 3600
_LEASE_S = 30
_RENEW_S = 10
_POLL_S = 0.05
_MAX_REMEMBERED = 1000
_MAX_KEY_LENGTH = 256
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_choices = msgspec.json.Decoder(list[Choice]).decode


class IdempotentCompletions:
    """Chat completions, where requests that bring a key are done once."""

    def __init__(
        self,
        completions: CompletionService,
        keys: IdempotencyStore,
        store: CompletionStore,
        *,
        is_optional: bool,
    ) -> None:
        """`is_optional`: whether a request is answered although the database takes no claim of its key."""
        self._is_optional = is_optional
        self._completions = completions
        self._keys = keys
        self._store = store
        self._remembered: OrderedDict[str, Completion] = OrderedDict()

    async def create(self, call: Call, request: ChatRequest) -> Completion:
        """Answer whole; see CompletionService.

        Raises:
            GatewayError: as CompletionService; IDEMPOTENCY_KEY_REUSED; CONFLICT when the first result is gone.
        """
        if call.idempotency_key is None:
            return await self._completions.create(call, request)
        claim = self._claim(call, call.idempotency_key, _fingerprint(request, stream=False))
        first = await self._claim_or_find(claim, call)
        if first is not None:
            return first
        async with claim:
            completion = await self._completions.create(call, request)
            await claim.finish(completion.id)
            if not request.store:
                self._remember(completion)
        return completion

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[list[Chunk], None]:
        """Answer in chunks; a repeated answer comes in few. See CompletionService.

        Raises:
            GatewayError: as `create`.
        """
        if call.idempotency_key is None:
            inner = self._completions.stream(call, request)
            async with contextlib.aclosing(inner):
                async for batch in inner:
                    yield batch
            return
        claim = self._claim(call, call.idempotency_key, _fingerprint(request, stream=True))
        first = await self._claim_or_find(claim, call)
        if first is not None:
            yield _chunks_of(first, include_usage=request.include_usage)
            return
        async with claim:
            completion_id = ""
            inner = self._completions.stream(call, request)
            async with contextlib.aclosing(inner):
                async for batch in inner:
                    completion_id = batch[0].id
                    yield batch
            await claim.finish(completion_id)

    def _claim(self, call: Call, key: str, fingerprint: bytes) -> _Claim:
        return _Claim(self._keys, call, key, fingerprint, is_optional=self._is_optional)

    async def _claim_or_find(self, claim: _Claim, call: Call) -> Completion | None:
        """Claim the key and return None, or wait for the request that has it and return its result."""
        while not await claim.take():
            state = await claim.find()
            if state is None:
                continue
            if state.fingerprint != claim.fingerprint:
                raise GatewayError(
                    Reason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
                    "This Idempotency-Key was used with a different request.",
                )
            if state.completion is not None:
                return await self._result(call, state.completion)
            await asyncio.sleep(_POLL_S)
        return None

    async def _result(self, call: Call, completion_id: str) -> Completion:
        remembered = self._remembered.get(completion_id)
        if remembered is not None:
            return remembered
        try:
            stored = await self._store.get(call.caller.project, completion_id)
        except StorageError as err:
            raise unavailable() from err
        if stored is None or stored.output is None:
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                "A request with this Idempotency-Key was answered, but its result is not stored.",
            )
        return _completion_of(stored)

    def _remember(self, completion: Completion) -> None:
        self._remembered[completion.id] = completion
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)


class _Claim:
    """The claim of one key by one request; as a context it is renewed, and released unless it was finished."""

    def __init__(
        self,
        keys: IdempotencyStore,
        call: Call,
        key: str,
        fingerprint: bytes,
        *,
        is_optional: bool,
    ) -> None:
        if len(key) > _MAX_KEY_LENGTH:
            raise GatewayError(
                Reason.ERROR_REASON_INVALID_VALUE,
                f"The Idempotency-Key is longer than {_MAX_KEY_LENGTH} characters.",
            )
        self.fingerprint = fingerprint
        self._keys = keys
        self._project = call.caller.project
        self._key = key
        self._owner = uuid_id()
        self._is_optional = is_optional
        self._is_finished = False

    async def take(self) -> bool:
        """Try to claim the key; also True when there is none to be had, and the request is done all the same."""
        now = now_s()
        try:
            return await self._keys.claim(
                self._project,
                self._key,
                fingerprint=self.fingerprint,
                owner=self._owner,
                now=now,
                until=now + _LEASE_S,
            )
        except StorageError as err:
            self._do_without(err)
            self._is_finished = True
            return True

    async def find(self) -> KeyState | None:
        """Return what the key stands for."""
        try:
            return await self._keys.find(self._project, self._key)
        except StorageError as err:
            raise unavailable() from err

    async def finish(self, completion_id: str) -> None:
        """The request is answered and recorded."""
        now = now_s()
        try:
            await self._keys.finish(
                self._project,
                self._key,
                owner=self._owner,
                completion=completion_id,
                now=now,
                until=now + _KEPT_S,
            )
        except StorageError as err:
            self._do_without(err)
        self._is_finished = True

    def _do_without(self, err: StorageError) -> None:
        if not self._is_optional:
            raise unavailable() from err
        _log.warning("a request is answered although its idempotency key is not kept: %s", err)

    async def __aenter__(self) -> None:
        self._renewer = asyncio.create_task(self._renew())

    async def __aexit__(self, *_: object) -> None:
        self._renewer.cancel()
        if not self._is_finished:
            # The caller may be gone; the key is to be free for its retry all the same.
            release = asyncio.ensure_future(self._release())
            await asyncio.shield(release)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(StorageError):
                await self._keys.renew(
                    self._project, self._key, owner=self._owner, until=now_s() + _LEASE_S
                )

    async def _release(self) -> None:
        try:
            await self._keys.release(self._project, self._key, owner=self._owner)
        except StorageError as err:
            # The claim runs out by itself.
            _log.warning("an idempotency key could not be released: %s", err)


def _fingerprint(request: ChatRequest, *, stream: bool) -> bytes:
    return hashlib.sha256(_encode([request, stream])).digest()


def _completion_of(stored: StoredCompletion) -> Completion:
    assert stored.output is not None
    return Completion(
        id=stored.id,
        created=stored.created,
        model=stored.model or "",
        provider=stored.provider or "",
        container=stored.container_label,
        choices=_decode_choices(stored.output),
        usage=stored.usage,
    )


def _chunks_of(completion: Completion, *, include_usage: bool) -> list[Chunk]:
    base = Chunk(
        id=completion.id,
        created=completion.created,
        model=completion.model,
        provider=completion.provider,
        container=completion.container,
    )
    deltas: list[ChoiceDelta] = []
    for choice in completion.choices:
        deltas.append(ChoiceDelta(index=choice.index, role="assistant", content=""))
        deltas.append(delta_of(choice))
    chunks = [msgspec.structs.replace(base, choices=(delta,)) for delta in deltas]
    if include_usage:
        chunks.append(msgspec.structs.replace(base, usage=completion.usage))
    return chunks
