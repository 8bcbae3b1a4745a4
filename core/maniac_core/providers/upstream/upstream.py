"""One configured provider at work: its dialect over the transport, with every failure as an UpstreamFailure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from maniac_common.turns import LARGE_BYTES, large_turn

from maniac_core.config.provider import ProviderConfig, variables_of
from maniac_core.domain.chat import Answer, Usage
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.base import (
    Codec,
    Dialect,
    DialectChoice,
    Embedder,
    HttpCall,
    Prompt,
    Target,
    UpstreamFailure,
)
from maniac_core.providers.base_url import base_url_hint
from maniac_core.providers.redaction import Redactor
from maniac_core.providers.signing import CredentialsError, Signer
from maniac_core.providers.translation.foreign_json import check_values
from maniac_core.providers.transport import (
    Deadlines,
    Transport,
    TransportError,
    UpstreamRequest,
    UpstreamResponse,
)
from maniac_core.providers.upstream.keyring import KeyRing
from maniac_core.providers.upstream.stream import UpstreamStream
from maniac_core.providers.upstream.transport_failure import deadline_failure, transport_failure

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 256 * 1024
# How long the explanation of an error may take; its status has said enough.
_ERROR_BODY_S = 5.0
_BRIEF_S = 1.0
# Answers of a wrong address: nothing is there, something else is, or it has moved.
_NOT_THERE = frozenset({301, 302, 307, 308, 404, 405})


class _Exchange(msgspec.Struct, frozen=True):
    """A request whose answer begins well."""

    dialect: Dialect
    codec: Codec
    call: HttpCall
    response: UpstreamResponse
    key_slot: int


class Upstream:
    """A provider that can be called."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        dialect: Dialect,
        transport: Transport,
        keys: tuple[str, ...],
        *,
        signer: Signer | None = None,
        choice: DialectChoice | None = None,
    ) -> None:
        """`choice`: None: the provider speaks one dialect."""
        self.name = name
        self.config = config
        self.dialect = dialect
        self._transport = transport
        self._signer = signer
        self._choice = choice
        self._keys = KeyRing(keys)
        self._redactor = Redactor(keys)
        self.key_count = len(keys)
        self.needs_key = bool(config.api_key_env) and not keys
        self._hint = base_url_hint(config.kind, config.base_url)

    async def answer(
        self,
        model: str,
        max_output_tokens: int | None,
        prompt: Prompt,
        timeout_s: float,
        *,
        on_send: Callable[[], None] | None = None,
    ) -> tuple[Answer, tuple[str, ...]]:
        """Get a whole answer; return it with the names of dropped parameters.

        `on_send` is called right before the first byte of the request is sent.

        A whole answer shows nothing until it is generated, so only the total deadline bounds the wait for its head.

        Raises:
            UpstreamFailure: anything the provider or the network did wrong.
            GatewayError: the dialect cannot carry the request.
        """
        try:
            async with asyncio.timeout(timeout_s):
                exchange = await self._send(model, max_output_tokens, prompt, timeout_s, on_send)
                return await self._whole(exchange), exchange.call.dropped
        except TimeoutError:
            raise deadline_failure(self.name, "did not answer within", timeout_s) from None

    def counts(self, model: str, prompt: Prompt) -> bool:
        """Whether the provider counts the tokens of a prompt without answering it."""
        return self._dialect(model, prompt).counter() is not None

    async def embed(
        self,
        model: str,
        prompt: Prompt,
        timeout_s: float,
        *,
        on_send: Callable[[], None] | None = None,
    ) -> tuple[Answer, tuple[str, ...]]:
        """Get a vector for each message, in as many requests as the provider needs; see `answer`."""
        most = _embedder(self.name, self.dialect.of(model)).most_texts
        until = time.monotonic() + timeout_s
        vectors: list[list[float]] = []
        usages: list[Usage] = []
        dropped: tuple[str, ...] = ()
        for start in range(0, len(prompt.messages), most):
            texts = prompt.messages[start : start + most]
            part = msgspec.structs.replace(prompt, messages=texts)
            left_s = max(0.001, until - time.monotonic())
            answer, dropped = await self.answer(model, None, part, left_s, on_send=on_send)
            if answer.vectors is None or len(answer.vectors) != len(texts):
                raise UpstreamFailure(
                    Reason.ERROR_REASON_UPSTREAM_ERROR,
                    f"{self.name} did not return one vector for each text.",
                    fall_back=True,
                    http_status=200,
                )
            vectors += answer.vectors
            if answer.usage is not None:
                usages.append(answer.usage)
        counted = sum(usage.input_tokens for usage in usages)
        usage = Usage(input_tokens=counted) if usages else None
        return Answer(choices=[], usage=usage, vectors=vectors), dropped

    async def stream(
        self,
        model: str,
        max_output_tokens: int | None,
        prompt: Prompt,
        first_token_s: float,
        total_s: float,
        *,
        on_send: Callable[[], None] | None = None,
    ) -> UpstreamStream:
        """Open a stream; the head of the answer has arrived and is good.

        `on_send` is called right before the first byte of the request is sent.

        Both deadlines count from now on. A provider that answers whole instead is held to that of the first token.

        Raises:
            UpstreamFailure: anything the provider or the network did wrong.
            GatewayError: the dialect cannot carry the request.
        """
        started = time.monotonic()
        first_token_s = min(first_token_s, total_s)
        try:
            async with asyncio.timeout(first_token_s):
                exchange = await self._send(
                    model, max_output_tokens, prompt, first_token_s, on_send
                )
                kind = exchange.response.headers.get("content-type", "").partition(";")[0]
                if "json" in kind:
                    # A server that does not stream, or an error in a 200.
                    answer = await self._whole(exchange)
                    return UpstreamStream.of_answer(self.name, answer, exchange.call.dropped)
        except TimeoutError:
            raise deadline_failure(self.name, "sent no content within", first_token_s) from None
        if "html" in kind:
            exchange.response.close()
            failure = UpstreamFailure(
                Reason.ERROR_REASON_UPSTREAM_ERROR,
                f"{self.name} answered with a web page instead of a stream.",
                retry=True,
                fall_back=True,
                http_status=exchange.response.status,
            )
            self._note_failure(exchange.key_slot, failure)
            raise failure
        return UpstreamStream(
            self.name,
            exchange.response,
            exchange.dialect.stream_decoder(prompt),
            exchange.call.dropped,
            started=started,
            first_token_s=first_token_s,
            idle_s=self.config.timeouts.idle_s,
            total_s=total_s,
            is_native=exchange.call.is_native,
            framing=exchange.dialect.framing(),
            on_error=lambda failure: self._note_failure(exchange.key_slot, failure),
        )

    async def _send(
        self,
        model: str,
        max_output_tokens: int | None,
        prompt: Prompt,
        timeout_s: float,
        on_send: Callable[[], None] | None,
    ) -> _Exchange:
        slot, key = self._keys.take()
        target = Target(
            provider=self.name,
            config=self.config,
            model=model,
            api_key=key,
            max_output_tokens=max_output_tokens,
        )
        dialect = self._dialect(model, prompt)
        codec: Codec = dialect
        if prompt.is_embedding:
            codec = _embedder(self.name, dialect)
        elif prompt.is_count:
            codec = dialect.counter() or dialect
        call = codec.encode(target, prompt)
        if prompt.untranslated:
            call = msgspec.structs.replace(call, dropped=(*call.dropped, *prompt.untranslated))
        if self._signer is not None:
            call = await self._signed(self._signer, call)
        timeouts = self.config.timeouts
        deadlines = Deadlines(
            connect_s=min(timeouts.connect_s, timeout_s),
            # The caller's deadline covers connecting and sending, too.
            headers_s=None,
            idle_s=min(timeouts.idle_s, timeout_s),
        )
        request = UpstreamRequest(
            method="POST", url=call.url, headers=call.headers, body=call.body, on_send=on_send
        )
        try:
            response = await self._transport.send(request, deadlines)
        except TransportError as err:
            raise transport_failure(err, self.name) from err
        if 200 <= response.status < 300:
            return _Exchange(dialect, codec, call, response, slot)
        body = await _explanation(response)
        failure = dialect.failure(response.status, response.headers, body)
        if self._choice is not None and codec is dialect:
            if dialect is self.dialect:
                failure.other_api = self._choice.note_refusal(model, response.status, body)
            else:
                self._choice.note_failure(model, failure)
        self._note_failure(slot, failure)
        raise failure

    def _dialect(self, model: str, prompt: Prompt) -> Dialect:
        if self._choice is not None and (other := self._choice.other(model, prompt)) is not None:
            return other
        return self.dialect.of(model)

    async def _signed(self, signer: Signer, call: HttpCall) -> HttpCall:
        try:
            return await signer.sign(call)
        except CredentialsError as err:
            raise UpstreamFailure(
                Reason.ERROR_REASON_PROVIDER_KEY_MISSING,
                f"{self.name} has no credentials: {err}.",
                fall_back=True,
            ) from None

    async def _whole(self, exchange: _Exchange) -> Answer:
        response = exchange.response
        try:
            body = await response.read_all(MAX_ANSWER_BYTES)
        except TransportError as err:
            raise transport_failure(err, self.name, response.status) from err
        finally:
            response.close()
        try:
            is_large = len(body) > LARGE_BYTES
            if is_large:
                await large_turn()
            if exchange.codec is exchange.dialect:
                # Vectors are many values, and decoded as no more than numbers.
                check_values(body)
            if is_large:
                await large_turn()
            answer = exchange.codec.decode(body)
        except UpstreamFailure as failure:
            self._note_failure(exchange.key_slot, failure)
            raise
        if exchange.call.is_native:
            return msgspec.structs.replace(answer, native=body)
        return answer

    def _note_failure(self, slot: int, failure: UpstreamFailure) -> None:
        """Leave a key out that the provider refused, that has no credit left, or that is limited; tell none.

        What the operator has to mend is said: a wrong key by its variable, a base_url by what is wrong with it.
        """
        self._redactor.clean(failure)
        self._say_what_to_mend(slot, failure)
        if failure.reason == Reason.ERROR_REASON_UPSTREAM_AUTH and self._signer is not None:
            self._signer.refused()
        elif failure.reason == Reason.ERROR_REASON_UPSTREAM_AUTH or failure.http_status == 402:
            failure.other_key = self._keys.block(slot, None)
        elif failure.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED:
            # Not to be tried again: its quota is used up.
            pause_s = failure.retry_after_s
            if pause_s is None and failure.retry:
                pause_s = _BRIEF_S
            failure.other_key = self._keys.block(slot, pause_s)

    def _say_what_to_mend(self, slot: int, failure: UpstreamFailure) -> None:
        reason = failure.reason
        if reason == Reason.ERROR_REASON_UPSTREAM_AUTH:
            failure.message = f"{self.name} refused the gateway's key; {self._key_advice(slot)}."
        elif failure.http_status in _NOT_THERE and reason == Reason.ERROR_REASON_UPSTREAM_ERROR:
            advice = self._hint or "check base_url"
            failure.message = (
                f"{self.name} has no chat endpoint at its base_url (HTTP {failure.http_status});"
                f" {advice} in [providers.{self.name}]."
            )
        elif self._hint is not None and (
            failure.http_status in _NOT_THERE or "a web page" in failure.message
        ):
            what = failure.message.removesuffix(".")
            failure.message = f"{what}; {self._hint} in [providers.{self.name}]."

    def _key_advice(self, slot: int) -> str:
        names = self.config.api_key_env
        if self._signer is not None:
            return f"check what the credentials of [providers.{self.name}] may do"
        if not names:
            return (
                f"none is configured: name its variable as api_key_env in [providers.{self.name}]"
            )
        if not isinstance(names, str) and len(names) == self.key_count:
            return f"check {names[slot]}"
        return f"check {variables_of(self.config)}"


def _embedder(name: str, dialect: Dialect) -> Embedder:
    embedder = dialect.embedder()
    if embedder is None:
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE,
            f"The gateway has no embeddings of the provider {name!r}; name a model of another one.",
            param="model",
        )
    return embedder


async def _explanation(response: UpstreamResponse) -> bytes:
    """Return the body of an error; nothing if it gets lost, since the status alone says enough."""
    try:
        async with asyncio.timeout(_ERROR_BODY_S):
            return await response.read_all(_MAX_ERROR_BYTES)
    except (TransportError, TimeoutError):
        return b""
    finally:
        response.close()
