"""Windows counted in Redis or Valkey, so that several cores share them; without it nothing is limited.

One script per request, and all that wait together in one round trip over one connection. (The `limits` library needs a
round trip per scope and another for the headers, counts refused requests, and took 230 us of CPU a request to 33.)
A Redis that does not answer in time is not asked again for a moment: requests go on, uncounted. Its time runs from when
it is asked until its answer is at the socket: what keeps this process from looking there opens no gate.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.services.limits.rate_limiter import Charge

_log = logging.getLogger(__name__)
_PREFIX = "maniac:limits"
_MAX_BATCH = 512
_MAX_ADJUSTMENTS = 10_000
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 1.0
_LOOKS = 10
"""How often the loop looks for an answer before there is none. An answer that came while it was busy elsewhere is read
within three turns; a timer alone would be late as well, and be served first."""
_CONNECT_FACTOR = 4
"""A new connection takes several exchanges."""
_EXTRA_TTL_S = 60
"""Clocks of cores differ, and answers settle their tokens late."""
# KEYS: the scopes. ARGV: seconds to live, then limit and units of each scope.
_ADD = """
local used, fits = {}, 1
for i, key in ipairs(KEYS) do
  used[i] = tonumber(redis.call('GET', key) or '0')
  if used[i] + tonumber(ARGV[2 * i + 1]) > tonumber(ARGV[2 * i]) then fits = 0 end
end
if fits == 1 then
  for i, key in ipairs(KEYS) do
    used[i] = redis.call('INCRBY', key, ARGV[2 * i + 1])
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return {fits, unpack(used)}
"""
_ADJUST = """
redis.call('INCRBY', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
_Reply = list[int] | None
_Command = tuple[tuple[Any, ...], "asyncio.Future[_Reply] | None"]


class RedisWindows:
    """Counts in Redis, which has `timeout_s` for each answer."""

    def __init__(self, url: str, *, window_s: int, timeout_s: float, prefix: str = _PREFIX) -> None:
        """Connects with the first request.

        Raises:
            ConfigError: the client is not installed, or the URL is not a Redis URL.
        """
        try:
            from redis import asyncio as client  # noqa: PLC0415 - an extra
            from redis.exceptions import RedisError  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigError(
                "[core] redis_url: the client is missing; .venv/bin/pip install '.[redis]'"
            ) from None
        self.uncounted = 0
        """Requests that were let through because Redis could not be asked."""
        self._failures: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        self._connect: Callable[[], Any] = functools.partial(
            client.Redis.from_url,
            url,
            socket_connect_timeout=None,
            retry=None,
            protocol=2,
        )
        self._ttl_s = window_s + _EXTRA_TTL_S
        self._timeout_s = timeout_s
        self._prefix = prefix
        self._client: Any = None
        try:
            self._client = self._connect()
        except ValueError as err:
            raise ConfigError(f"[core] redis_url: {err}") from None
        self._waiting: list[_Command] = []
        self._sending: asyncio.Task[None] | None = None
        self._pause_s = 0.0
        self._closed_until = 0.0
        self._is_trying = False
        self._is_new = True
        """Whether the connection may still have to be made."""

    @property
    def is_paused(self) -> bool:
        """Whether Redis has failed and is not asked at present."""
        return self._pause_s > 0

    async def add(self, window: int, charges: Sequence[Charge]) -> tuple[bool, list[int]] | None:
        """Count all charges, or none; None: Redis did not answer in time, or is not asked at present."""
        if not self._may_ask():
            self.uncounted += 1
            return None
        keys = [self._key(window, charge.scope) for charge in charges]
        numbers = [number for charge in charges for number in (charge.limit, charge.units)]
        future: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._send((("EVAL", _ADD, len(keys), *keys, self._ttl_s, *numbers), future))
        reply = await future
        if reply is None:
            self.uncounted += 1
            return None
        return bool(reply[0]), reply[1:]

    def adjust(self, window: int, scope: str, units: int) -> None:
        """Add units to a scope, with what is sent next."""
        if self._may_ask() and len(self._waiting) < _MAX_ADJUSTMENTS:
            key = self._key(window, scope)
            self._send((("EVAL", _ADJUST, 1, key, self._ttl_s, units), None))

    async def aclose(self) -> None:
        """Send what waits, and disconnect."""
        if self._sending is not None:
            await self._sending
        await self._disconnect()

    def _key(self, window: int, scope: str) -> str:
        return f"{self._prefix}:{window}:{scope}"

    def _may_ask(self) -> bool:
        if not self._pause_s:
            return True
        if not self._is_trying and time.monotonic() >= self._closed_until:
            # No request waits for one that may still be down.
            self._is_trying = True
            self._send((("PING",), None))
        return False

    def _send(self, command: _Command) -> None:
        self._waiting.append(command)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                try:
                    replies = await self._exchange([command for command, _ in batch])
                except Exception as err:  # noqa: BLE001 - whatever it is, nobody waits for ever
                    if not isinstance(err, self._failures):
                        _log.exception("redis: rate limits could not be counted")
                    self._failed(err)
                    # Nobody waits for one that is known to be down.
                    batch, self._waiting = batch + self._waiting, []
                    replies = [None] * len(batch)
                    _tell(batch, replies)
                    # The connection may still hold half an answer.
                    await self._disconnect()
                else:
                    self._succeeded()
                    _tell(batch, replies)
        finally:
            self._sending = None

    async def _exchange(self, commands: list[tuple[Any, ...]]) -> list[_Reply]:
        if self._client is None:
            self._client = self._connect()
            self._is_new = True
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        timeout_s = self._timeout_s * (_CONNECT_FACTOR if self._is_new else 1)
        replies: list[_Reply] = await _patiently(pipeline.execute(), timeout_s)
        self._is_new = False
        return replies

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await _patiently(client.aclose(), self._timeout_s)
            except self._failures as err:
                _log.debug("redis: the connection could not be closed: %s", err)

    def _failed(self, error: Exception) -> None:
        if self._pause_s and not self._is_trying:
            # Another one of those that waited when it failed.
            return
        self._is_trying = False
        if not self._pause_s:
            _log.warning("redis: rate limits are not enforced until it answers again: %s", error)
        self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
        self._closed_until = time.monotonic() + self._pause_s

    def _succeeded(self) -> None:
        if self._pause_s:
            _log.warning(
                "redis: rate limits are enforced again; so far %d requests passed uncounted",
                self.uncounted,
            )
        self._pause_s = 0.0
        self._is_trying = False


def _tell(batch: list[_Command], replies: list[_Reply]) -> None:
    for (_, future), reply in zip(batch, replies, strict=True):
        if future is not None and not future.done():
            future.set_result(reply)


async def _patiently(work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
    """Return the result of work that waits for the network alone.

    Raises:
        TimeoutError: no answer in time; time that this process was busy elsewhere does not count.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(_LOOKS):
            done, _ = await asyncio.wait((task,), timeout=timeout_s / _LOOKS)
            if done:
                return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=timeout_s)
    raise TimeoutError(f"no answer within {timeout_s:g} s")


def redis_windows(config: CoreConfig) -> RedisWindows:
    """Return the windows in the configured Redis.

    Raises:
        ConfigError: `redis_url` cannot be used.
    """
    return RedisWindows(
        config.redis_url,
        window_s=config.rate_window_s,
        timeout_s=config.redis_timeout_ms / 1000,
    )
