"""The offline fault provider: a transport that answers by rules in the configuration and calls nobody.

It speaks OpenAI's wire, so that dialect, retries, fallback and capture above it are the real ones.
docs/scripted.md describes the rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase

import msgspec

from maniac_core.config.scripted import ScriptedError, ScriptedRule, call_range
from maniac_core.providers.scripted.answer import WireRequest, script_of
from maniac_core.providers.scripted.response import ScriptedResponse
from maniac_core.providers.transport import (
    Deadlines,
    TransportError,
    TransportErrorKind,
    UpstreamRequest,
)

_DEFAULT_RULE = ScriptedRule()

_decode = msgspec.json.Decoder(WireRequest).decode


class ScriptedTransport:
    """Implements `Transport` for one provider of kind `scripted`.

    Calls are counted from 1 in the order they arrive, per instance: a restart begins anew.
    The bytes of an answer depend on the rule, the request's body and the number of the call only.
    """

    def __init__(self, name: str, rules: tuple[ScriptedRule, ...] = ()) -> None:
        self._origin = f"scripted provider {name}"
        self._rules = [_Rule(rule) for rule in rules]
        self._calls = 0
        self._open: set[ScriptedResponse] = set()
        self._closed = asyncio.Event()

    async def send(self, request: UpstreamRequest, deadlines: Deadlines) -> ScriptedResponse:
        """See `Transport.send`; URL and headers do not matter."""
        if self._closed.is_set():
            raise self._failure(TransportErrorKind.CLOSED, "transport is closed", sent=False)
        self._calls += 1
        number = self._calls
        try:
            chat = _decode(request.body)
        except (msgspec.DecodeError, RecursionError) as error:
            chat = WireRequest(model="", messages=[])
            message = f"The body is not a chat request: {error}"
            rule = ScriptedRule(status=400, error=ScriptedError(message=message))
        else:
            rule = self._pick(chat, number)
        await self._reach_head(rule, deadlines, request.on_send)
        key = b"%d/%d/%b" % (rule.seed, number, request.body)
        response = ScriptedResponse(
            script_of(rule, chat, key), self._origin, deadlines.idle_s, self._open.discard
        )
        self._open.add(response)
        return response

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed.set()
        for response in list(self._open):
            response.close()

    def _pick(self, chat: WireRequest, number: int) -> ScriptedRule:
        for rule in self._rules:
            if rule.take(chat, number):
                return rule.rule
        return _DEFAULT_RULE

    async def _reach_head(
        self, rule: ScriptedRule, deadlines: Deadlines, on_send: Callable[[], None] | None
    ) -> None:
        """Go through everything that comes before the head of the answer."""
        if rule.hang == "connect":
            await self._wait(None, deadlines.connect_s)
            raise self._failure(
                TransportErrorKind.CONNECT_TIMEOUT,
                f"no connection within {deadlines.connect_s} s",
                sent=False,
            )
        if on_send is not None and not rule.refuse:
            on_send()
        delay_s = None if rule.hang == "headers" else rule.delay_s
        if delay_s != 0 and not await self._wait(delay_s, deadlines.headers_s):
            raise self._failure(
                TransportErrorKind.HEADERS_TIMEOUT,
                f"no response head within {deadlines.headers_s} s",
                sent=True,
            )
        if rule.refuse:
            raise self._failure(TransportErrorKind.CONNECT, "connection refused", sent=False)
        if rule.reset:
            raise self._failure(
                TransportErrorKind.RESET, "connection reset before a response", sent=True
            )

    async def _wait(self, delay_s: float | None, limit_s: float | None) -> bool:
        """Wait, forever if `delay_s` is None; False if the limit came first.

        Raises:
            TransportError: CLOSED, when the transport is closed meanwhile.

        """
        is_in_time = delay_s is not None and (limit_s is None or delay_s <= limit_s)
        try:
            async with asyncio.timeout(delay_s if is_in_time else limit_s):
                await self._closed.wait()
        except TimeoutError:
            return is_in_time
        raise self._failure(TransportErrorKind.CLOSED, "transport is closed", sent=True)

    def _failure(self, kind: TransportErrorKind, what: str, *, sent: bool) -> TransportError:
        return TransportError(kind, f"{self._origin}: {what}", sent=sent)


class _Rule:
    """A rule with how often it may still be used."""

    def __init__(self, rule: ScriptedRule) -> None:
        self.rule = rule
        self._left = rule.times
        self._covers = _calls_of(rule.call)

    def take(self, chat: WireRequest, number: int) -> bool:
        """Tell whether the rule answers the request, and count it if so."""
        rule = self.rule
        if (
            self._left == 0
            or not self._covers(number)
            or (rule.stream is not None and rule.stream is not bool(chat.stream))
            or (rule.model is not None and not fnmatchcase(chat.model, rule.model))
            or (rule.contains is not None and rule.contains not in chat.last_user_text())
        ):
            return False
        if self._left is not None:
            self._left -= 1
        return True


def _calls_of(call: int | tuple[int, ...] | str | None) -> Callable[[int], bool]:
    """Return the test for the numbers of calls that a rule's `call` names."""
    if call is None:
        return lambda _number: True
    if isinstance(call, str):
        first, last = call_range(call)
        return lambda number: first <= number and (last is None or number <= last)
    numbers = {call} if isinstance(call, int) else set(call)
    return lambda number: number in numbers
