"""Idempotency: a chat request repeated under the same `Idempotency-Key` is answered with the first one's result.

The key is claimed in the database before a provider is called, so that it holds for every core. What it stands for is
committed with the record of its request, so that nothing is paid for that a retry would not get. A failed or cancelled
request frees its key, because a retry is then wanted. Content of `store: false` requests is never written: their
results can be repeated by the core that made them, while it remembers.

A claim is a lease by the database's clock. A core that was held up for longer may find that another one has the key:
its answer is recorded and charged, but whoever waits for it gets the other one's. Within one core a key never changes
hands while its request runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import msgspec

from maniac_core.domain.chat import (
    ChatRequest,
    Choice,
    ChoiceDelta,
    Chunk,
    Completion,
    delta_of,
)
from maniac_core.domain.completions import CompletionRecord, StoredCompletion
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.completions import CompletionService
from maniac_core.services.chat.key_lease import KeyLease, is_superseded
from maniac_core.services.chat.remembered import RememberedAnswers
from maniac_core.services.limits.concurrency import Concurrency
from maniac_core.services.limits.quotas import Quotas, Room
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.idempotency import IdempotencyStore

_POLL_S = 0.05
_encode = msgspec.json.Encoder(order="deterministic").encode
_CHAT_ONLY = b',"wire":"chat","native":null}'
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
        concurrency: Concurrency,
        quotas: Quotas,
    ) -> None:
        """`is_optional`: whether a request is answered although the database takes no claim of its key."""
        self._concurrency = concurrency
        self._quotas = quotas
        # Without caps and quotas, requests do not pay for them.
        self._is_unbounded = concurrency.is_off and quotas.is_off
        self._is_optional = is_optional
        self._completions = completions
        self._keys = keys
        self._store = store
        self._remembered = RememberedAnswers()
        self._running: dict[tuple[int, str], KeyLease] = {}
        """The claims of this core, from before they are tried for until their requests are settled."""
        self._settling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait until no key is claimed any more by a request that has ended."""
        while self._settling:
            await asyncio.wait(self._settling)

    async def create(self, call: Call, request: ChatRequest) -> Completion:
        """Answer whole; see CompletionService.

        Raises:
            GatewayError: as CompletionService; IDEMPOTENCY_KEY_REUSED; CONFLICT when the first result is gone.
        """
        key = _key_of(call, request)
        if self._is_unbounded and key is None:
            return await self._completions.create(call, request)
        with self._concurrency.slot(call.caller):
            if key is None:
                return await self._create(call, request)
            return await self._create_once(call, key, request)

    async def _create(
        self, call: Call, request: ChatRequest, claim: KeyLease | None = None
    ) -> Completion:
        with await self._room(call, request):
            return await self._completions.create(call, request, claim)

    async def _room(self, call: Call, request: ChatRequest) -> Room:
        """Return the room of what is done; a repetition needs none."""
        return await self._quotas.room(call.caller, int(request.store))

    async def _create_once(self, call: Call, key: str, request: ChatRequest) -> Completion:
        claim = self._claim(call, key, _fingerprint(request, stream=False))
        first = await self._claim_or_find(claim, call)
        if first is not None:
            return first
        try:
            async with claim:
                return await self._create(call, request, claim)
        except GatewayError as error:
            if not is_superseded(error) or (other := await self._other(claim, call)) is None:
                raise
            return other

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[list[Chunk], None]:
        """Answer in chunks; a repeated answer comes in few. See CompletionService.

        Raises:
            GatewayError: as `create`.
        """
        key = _key_of(call, request)
        with self._concurrency.slot(call.caller), contextlib.ExitStack() as held:
            if key is None:
                held.enter_context(await self._room(call, request))
                inner = self._completions.stream(call, request)
            else:
                inner = self._stream_once(call, key, request)
            async with contextlib.aclosing(inner):
                async for batch in inner:
                    yield batch

    async def _stream_once(
        self, call: Call, key: str, request: ChatRequest
    ) -> AsyncGenerator[list[Chunk], None]:
        claim = self._claim(call, key, _fingerprint(request, stream=True))
        first = await self._claim_or_find(claim, call)
        if first is not None:
            yield _chunks_of(first, include_usage=request.include_usage)
            return
        has_begun = False
        try:
            async with claim:
                with await self._room(call, request):
                    inner = self._completions.stream(call, request, claim)
                    async with contextlib.aclosing(inner):
                        async for batch in inner:
                            if claim.is_doubtful:
                                await claim.confirm()
                            has_begun = True
                            yield batch
        except GatewayError as error:
            if has_begun or not is_superseded(error):
                raise
            other = await self._other(claim, call)
            if other is None:
                raise
            yield _chunks_of(other, include_usage=request.include_usage)

    def _claim(self, call: Call, key: str, fingerprint: bytes) -> KeyLease:
        return KeyLease(
            self._keys,
            call,
            key,
            fingerprint,
            is_optional=self._is_optional,
            remember=self._remember,
            start=self._start,
            running=self._running,
        )

    async def _claim_or_find(self, claim: KeyLease, call: Call) -> Completion | None:
        """Claim the key and return None, or wait for the request that has it and return its result."""
        while True:
            running = self._running.get(claim.place)
            if running is None:
                if await claim.take():
                    return None
            else:
                _check_fingerprint(running.fingerprint, claim)
                await running.ended.wait()
            # Only read meanwhile: to try for the claim would lock its row, which the first request's record needs.
            while (state := await claim.find()) is not None:
                _check_fingerprint(state.fingerprint, claim)
                if state.completion is not None:
                    return await self._result(call, state.completion)
                if claim.place in self._running:
                    break
                await asyncio.sleep(_POLL_S)

    async def _other(self, claim: KeyLease, call: Call) -> Completion | None:
        """Wait for the request that took a key over and return its result; None: it failed."""
        while (state := await claim.find()) is not None:
            if state.completion is not None:
                return await self._result(call, state.completion)
            await asyncio.sleep(_POLL_S)
        return None

    async def _result(self, call: Call, completion_id: str) -> Completion:
        remembered = self._remembered.get(completion_id)
        if remembered is not None:
            return remembered
        stored = await self._store.get(call.caller.project, completion_id)
        if stored is None or stored.output is None:
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                "A request with this Idempotency-Key was answered, but its result is not stored.",
            )
        return _completion_of(stored, _decode_choices(stored.output))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    def _remember(self, record: CompletionRecord, choices: list[Choice]) -> None:
        self._remembered.add(_completion_of(record, choices))


def _key_of(call: Call, request: ChatRequest) -> str | None:
    # To embed once more changes nothing, and a repeated answer would have to be kept.
    return None if request.wire == "embeddings" else call.idempotency_key


def _check_fingerprint(fingerprint: bytes, claim: KeyLease) -> None:
    if fingerprint != claim.fingerprint:
        raise GatewayError(
            Reason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key was used with a different request.",
        )


def _fingerprint(request: ChatRequest, *, stream: bool) -> bytes:
    # As it was before there were other wires: a key stands across an upgrade.
    text = _encode([request, stream]).replace(_CHAT_ONLY, b"}")
    return hashlib.sha256(text).digest()


def _completion_of(
    record: CompletionRecord | StoredCompletion, choices: list[Choice]
) -> Completion:
    return Completion(
        id=record.id,
        created=record.created,
        model=record.model or "",
        provider=record.provider or "",
        container=record.container_label,
        choices=choices,
        usage=record.usage,
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
