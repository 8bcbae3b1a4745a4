"""Idempotency: a chat request repeated under the same `Idempotency-Key` is answered with the first one's result.

The key is claimed in the database before a provider is called, so that it holds for every core. What it stands for is
committed with the record of its request, so that nothing is paid for that a retry would not get. A failed or cancelled
request frees its key, because a retry is then wanted. Content of `store: false` requests is never written: their
results can be repeated by the core that made them, while it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine
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
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.records import CompletionRecord, KeyClaim, StoredCompletion
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
        if call.idempotency_key is None:
            return await self._completions.create(call, request)
        claim = self._claim(call, call.idempotency_key, _fingerprint(request, stream=False))
        first = await self._claim_or_find(claim, call)
        if first is not None:
            return first
        async with claim:
            return await self._completions.create(call, request)

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
            inner = self._completions.stream(call, request)
            async with contextlib.aclosing(inner):
                async for batch in inner:
                    yield batch

    def _claim(self, call: Call, key: str, fingerprint: bytes) -> _Claim:
        return _Claim(
            self._keys,
            call,
            key,
            fingerprint,
            is_optional=self._is_optional,
            remember=self._remember,
            start=self._start,
        )

    async def _claim_or_find(self, claim: _Claim, call: Call) -> Completion | None:
        """Claim the key and return None, or wait for the request that has it and return its result."""
        while not await claim.take():
            # Only read meanwhile: to try for the claim would lock its row, which the first request's record needs.
            while (state := await claim.find()) is not None:
                if state.fingerprint != claim.fingerprint:
                    raise GatewayError(
                        Reason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
                        "This Idempotency-Key was used with a different request.",
                    )
                if state.completion is not None:
                    return await self._result(call, state.completion)
                await asyncio.sleep(_POLL_S)
        call.claim = claim
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
        return _completion_of(stored, _decode_choices(stored.output))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    def _remember(self, completion: Completion) -> None:
        self._remembered[completion.id] = completion
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)


class _Claim:
    """The claim of one key by one request.

    As a context it is renewed, and released at the end unless the request was completed. Nobody who is cancelled waits
    for that: it is done in tasks that `start` begins.
    """

    def __init__(
        self,
        keys: IdempotencyStore,
        call: Call,
        key: str,
        fingerprint: bytes,
        *,
        is_optional: bool,
        remember: Callable[[Completion], None],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
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
        self._remember = remember
        self._start = start
        self._is_taken = False
        self._recorded: asyncio.Future[None] | None = None

    @property
    def given(self) -> KeyClaim:
        """What the record of the request carries."""
        return KeyClaim(key=self._key, owner=self._owner, until=now_s() + _KEPT_S)

    def answered(
        self, record: CompletionRecord, choices: list[Choice], pending: asyncio.Future[None]
    ) -> None:
        """The request is completed; its key is not to be released unless the record cannot be kept."""
        self._recorded = pending
        if not record.store:
            # Before it is committed, because who waits for it may read that sooner than the writer's loop hears of it.
            self._remember(_completion_of(record, choices))

    async def take(self) -> bool:
        """Try to claim the key; also True when there is none to be had, and the request is done all the same."""
        now = now_s()
        claiming = asyncio.ensure_future(
            self._keys.claim(
                self._project,
                self._key,
                fingerprint=self.fingerprint,
                owner=self._owner,
                now=now,
                until=now + _LEASE_S,
            )
        )
        try:
            self._is_taken = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The database takes the claim all the same.
            self._start(self._give_up(claiming))
            raise
        except StorageError as err:
            if not self._is_optional:
                raise unavailable() from err
            _log.warning(
                "a request is answered although its idempotency key is not claimed: %s", err
            )
            return True
        return self._is_taken

    async def find(self) -> KeyState | None:
        """Return what the key stands for."""
        try:
            return await self._keys.find(self._project, self._key, now=now_s())
        except StorageError as err:
            raise unavailable() from err

    async def __aenter__(self) -> None:
        self._renewer = asyncio.create_task(self._renew())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        settling = self._start(self._settle())
        if kind is None or issubclass(kind, Exception):
            # Who is told of a failure may repeat the request at once.
            await asyncio.shield(settling)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(StorageError):
                await self._keys.renew(
                    self._project, self._key, owner=self._owner, until=now_s() + _LEASE_S
                )

    async def _settle(self) -> None:
        try:
            if not await self._is_recorded() and self._is_taken:
                await self._release()
        finally:
            self._renewer.cancel()

    async def _is_recorded(self) -> bool:
        if self._recorded is None:
            return False
        await asyncio.wait([self._recorded])
        return not self._recorded.cancelled() and self._recorded.exception() is None

    async def _give_up(self, claiming: asyncio.Future[bool]) -> None:
        await asyncio.wait([claiming])
        if claiming.exception() is None and claiming.result():
            await self._release()

    async def _release(self) -> None:
        try:
            await self._keys.release(self._project, self._key, owner=self._owner)
        except StorageError as err:
            # The claim runs out by itself.
            _log.warning("an idempotency key could not be released: %s", err)


def _fingerprint(request: ChatRequest, *, stream: bool) -> bytes:
    return hashlib.sha256(_encode([request, stream])).digest()


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
