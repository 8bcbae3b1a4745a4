"""Background work that fails is logged and starts again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from maniac_common import supervised as module
from maniac_common.supervised import supervised


async def test_work_that_raises_is_logged_and_done_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it returns by itself; each failure leaves a line with the traceback."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise AttributeError("odd")

    await supervised("trying", work)

    assert runs == 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert all(record.exc_info and "trying failed" in record.message for record in caplog.records)


async def test_it_can_be_cancelled() -> None:
    """Also while the work runs."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervised("waiting", work))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
