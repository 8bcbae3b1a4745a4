"""Chat completions: resolve, call, normalise, capture, answer. Both fronts, RPC and relay, end up here."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncGenerator, Callable

from maniac_common.turns import large_turn

from maniac_core.domain.chat import (
    Answer,
    ChatRequest,
    Choice,
    ChoiceDelta,
    Chunk,
    Completion,
    Usage,
)
from maniac_core.domain.completions import UsageSource
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.base import StreamItem, UpstreamFailure
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.renaming import renamed_answer
from maniac_core.providers.upstream.stream import UpstreamStream
from maniac_core.providers.upstream.upstream import Upstream
from maniac_core.services.billing.spending import Spending
from maniac_core.services.billing.tokens import TokenGate
from maniac_core.services.capture.accounting import Accountant, usage_of
from maniac_core.services.capture.attempt_log import Spans
from maniac_core.services.capture.capture import Call, Capture, Claim
from maniac_core.services.capture.running_calls import RunningCalls
from maniac_core.services.capture.spool import Recorder
from maniac_core.services.chat.attempts import Runner, gateway_error
from maniac_core.services.chat.chunks import Emitter
from maniac_core.services.routing.planner import Planner, Step

_log = logging.getLogger(__name__)
SpanFactory = Callable[[Call, ChatRequest], Spans]
"""Begins the trace of a completion."""


class CompletionService:
    """Answers chat requests of admitted callers."""

    def __init__(
        self,
        planner: Planner,
        runner: Runner,
        catalogue: Catalogue,
        store: Recorder,
        *,
        spending: Spending,
        tokens: TokenGate,
        calls: RunningCalls,
        spans: SpanFactory | None = None,
    ) -> None:
        """`spans`: makes the trace of each completion; None: there are none."""
        self._planner = planner
        self._runner = runner
        self._accountant = Accountant(catalogue)
        self._store = store
        self._spending = spending
        self._tokens = tokens
        self._calls = calls
        self._spans = spans

    async def create(
        self, call: Call, request: ChatRequest, claim: Claim | None = None
    ) -> Completion:
        """Answer whole; returns after the record is committed. `claim`: on the request's key, if it has one.

        Raises:
            GatewayError: the failure, with its reason of the error table.
        """
        capture = self._begin(call, request, claim, streamed=False)
        try:
            answer, dropped = await self._runner.run(
                await self._plan(capture),
                capture.trail,
                call.deadline,
                functools.partial(self._answer, capture),
            )
        except GatewayError as error:
            await _finish_failed(capture, error)
            raise
        except asyncio.CancelledError:
            self._submit_cancelled(capture)
            raise
        except Exception as error:
            await _finish_failed(capture, _internal(capture, error))
            raise
        capture.first_content(dropped)
        usage, source = self._bill_whole(capture, answer.choices, answer.usage)
        call.whole(capture.trail.upstream_us)
        native = answer.native
        await capture.finish(
            "completed", choices=answer.choices, usage=usage, usage_source=source, native=native
        )
        step = capture.trail.step
        assert step is not None
        if native is not None:
            native = renamed_answer(request.wire, native, capture.id, step.candidate.slug)
        return Completion(
            id=capture.id,
            created=capture.created,
            model=step.candidate.slug,
            provider=step.candidate.provider,
            container=step.container.label if step.container else None,
            choices=answer.choices,
            usage=usage,
            native=native,
            vectors=answer.vectors,
        )

    async def stream(
        self, call: Call, request: ChatRequest, claim: Claim | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        """Answer in chunks, those that are ready together in one list. Ends after the record is committed.

        Nothing is yielded before the first content, so an error before that is the whole answer.

        Raises:
            GatewayError: the failure, with its reason of the error table.
        """
        capture = self._begin(call, request, claim, streamed=True)
        stream: UpstreamStream | None = None
        try:
            opened, items = await self._runner.run(
                await self._plan(capture),
                capture.trail,
                call.deadline,
                functools.partial(self._open, capture),
            )
            stream = opened
            capture.first_content(opened.dropped)
            step, folded = capture.trail.step, capture.folded
            assert step is not None
            last: list[Chunk] = []
            emit = Emitter(capture.id, capture.created, step, request.wire)
            while items:
                chunks = emit.chunks(items)
                if opened.is_complete and emit.is_native:
                    # The last event says that the answer is whole, which it is once it is captured.
                    last = chunks
                elif chunks:
                    yield chunks
                items = await opened.next()
                folded.add_all(items)
            choices = folded.choices()
            usage, source = self._bill_whole(capture, choices, folded.usage)
            await capture.finish(
                "completed",
                choices=choices,
                usage=usage,
                usage_source=source,
                native=folded.native,
            )
            if last:
                yield last
            elif request.include_usage and not emit.is_native:
                yield [emit.usage(usage)]
        except UpstreamFailure as failure:
            error = gateway_error(failure)
            await self._finish_truncated(capture, failure, error)
            raise error from failure
        except GatewayError as error:
            await _finish_failed(capture, error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._submit_cancelled(capture)
            raise
        except Exception as error:
            await _finish_failed(capture, _internal(capture, error))
            raise
        finally:
            if stream is not None:
                stream.close()

    def _begin(
        self, call: Call, request: ChatRequest, claim: Claim | None, *, streamed: bool
    ) -> Capture:
        spans = self._spans(call, request) if self._spans is not None else None
        return Capture(self._store, call, request, streamed=streamed, claim=claim, spans=spans)

    async def _plan(self, capture: Capture) -> list[Step]:
        """Return the steps to try, once the first of them is admitted and covered."""
        call = capture.call
        steps = await self._planner.plan(
            call.caller, capture.request, call.headers, stream=capture.streamed
        )
        capture.planned(steps)
        tokens = await self._tokens.admit(call.caller, steps[0])
        if tokens is not None:
            capture.admitted(tokens)
        holds = await self._spending.cover(call.caller, steps[0], capture.trail, None)
        if holds is not None:
            capture.covered(holds)
        call.let_through()
        return steps

    async def _answer(
        self, capture: Capture, upstream: Upstream, step: Step, deadline: float | None
    ) -> tuple[Answer, tuple[str, ...]]:
        await self._cover(capture, step)
        try:
            if step.prompt.is_embedding:
                return await upstream.embed(
                    step.candidate.model,
                    step.prompt,
                    _total_s(upstream, deadline),
                    on_send=capture.trail.sent,
                )
            return await upstream.answer(
                step.candidate.model,
                step.max_output_tokens,
                step.prompt,
                _total_s(upstream, deadline),
                on_send=capture.trail.sent,
            )
        except UpstreamFailure as failure:
            if failure.may_be_billed and capture.trail.was_sent:
                self._bill(capture, [], failure.usage)
            raise

    async def _open(
        self, capture: Capture, upstream: Upstream, step: Step, deadline: float | None
    ) -> tuple[UpstreamStream, list[StreamItem]]:
        """Open a stream and read it up to its first content: until then another upstream can still take over."""
        await self._cover(capture, step)
        folded = capture.fold()
        stream: UpstreamStream | None = None
        held: list[StreamItem] = []
        total_s = _total_s(upstream, deadline)
        capture.call.read_within(total_s)
        try:
            stream = await upstream.stream(
                step.candidate.model,
                step.max_output_tokens,
                step.prompt,
                upstream.config.timeouts.first_token_s,
                total_s,
                on_send=capture.trail.sent,
            )
            while items := await stream.next():
                held += items
                folded.add_all(items)
                if any(_is_content(item) for item in items):
                    break
        except UpstreamFailure as failure:
            if failure.may_be_billed and capture.trail.was_sent:
                self._bill(capture, folded.choices(), folded.usage or failure.usage)
            raise
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        stream.first_content_came()
        return stream, held

    async def _cover(self, capture: Capture, step: Step) -> None:
        call, trail = capture.call, capture.trail
        try:
            holds = await self._spending.cover(call.caller, step, trail, capture.holds)
            if holds is not None:
                capture.covered(holds)
            if call.is_large:
                await large_turn()
        except asyncio.CancelledError:
            # Nothing was sent, so there was no attempt.
            trail.abandon()
            raise
        note = self._calls.note(capture, step)
        if note is not None:
            capture.noted(note)

    def _bill_whole(
        self, capture: Capture, choices: list[Choice], reported: Usage | None
    ) -> tuple[Usage, UsageSource]:
        """Bill an answer that is complete, and learn from it; that ends its attempt."""
        usage, source = self._bill(capture, choices, reported)
        trail, step = capture.trail, capture.trail.step
        assert step is not None
        if trail.was_sent:
            self._accountant.learn(step.candidate, usage, trail.since_sent_s)
        trail.end("ok")
        return usage, source

    def _bill(
        self,
        capture: Capture,
        choices: list[Choice],
        reported: Usage | None,
        *,
        may_go_on: bool = False,
    ) -> tuple[Usage, UsageSource]:
        """Bill the running attempt; return its usage and where that is from.

        `may_go_on`: the provider may have generated, since the request was sent, what did not come.
        """
        trail, step = capture.trail, capture.trail.step
        assert step is not None
        # Of what was received, digits and the like are more tokens than their letters let expect.
        generated = capture.folded.pieces
        if may_go_on:
            generated = self._accountant.generated(step, trail.since_sent_s, generated)
        usage, source = usage_of(step, choices, reported, generated)
        if usage.cost_nano_usd:
            self._spending.learn(step, usage.cost_nano_usd)
        capture.bill(*self._accountant.bill(step.candidate, usage, source))
        return usage, source

    async def _finish_truncated(
        self, capture: Capture, failure: UpstreamFailure, error: GatewayError
    ) -> None:
        choices = capture.folded.choices()
        usage, source = self._bill(capture, choices, capture.folded.usage)
        capture.trail.end("truncated", failure)
        await capture.finish(
            "truncated", choices=choices, usage=usage, usage_source=source, error=error
        )

    def _submit_cancelled(self, capture: Capture) -> None:
        choices = capture.folded.choices()
        trail = capture.trail
        is_billed = trail.is_open and trail.was_sent
        if is_billed:
            usage, source = self._bill(capture, choices, capture.folded.usage, may_go_on=True)
        trail.end("cancelled")
        if not is_billed:
            # Cancelled before anything was sent, or between two attempts.
            usage, source = trail.total()
        capture.submit("cancelled", choices=choices, usage=usage, usage_source=source)


def _is_content(item: StreamItem) -> bool:
    return type(item) is ChoiceDelta and (item.has_content or item.finish_reason is not None)


def _total_s(upstream: Upstream, deadline: float | None) -> float:
    total_s = upstream.config.timeouts.total_s
    if deadline is None:
        return total_s
    return max(0.001, min(total_s, deadline - time.monotonic()))


async def _finish_failed(capture: Capture, error: GatewayError) -> None:
    """Record a request that got no answer; a store that is down must not hide the reason."""
    trail = capture.trail
    trail.end("failed", error)
    usage, source = trail.total()
    try:
        await capture.finish(
            "failed" if trail.was_called else "rejected",
            usage=usage,
            usage_source=source,
            error=error,
        )
    except GatewayError as lost:
        _log.error("the record of a failed request is lost: %s", lost.message)


def _internal(capture: Capture, error: Exception) -> GatewayError:
    _log.error("request %s failed", capture.call.request_id, exc_info=error)
    return GatewayError(
        Reason.ERROR_REASON_INTERNAL_ERROR, "The gateway failed to handle the request."
    )
