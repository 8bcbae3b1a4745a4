"""Credentials that expire: who waits for them, when they are renewed, and what is told when there are none."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers import signing
from maniac_core.providers.base import HttpCall
from maniac_core.providers.registry import signer_of
from maniac_core.providers.signing import CredentialsError, Renewed


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


@pytest.mark.parametrize(
    ("kind", "place", "module", "extra"),
    [("vertex", {"project": "p", "location": "global"}, "google.auth", "gcp")],
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
