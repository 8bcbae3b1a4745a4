"""The supervisor of `serve`: stopping in order, restarting what dies, leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest


@contextlib.contextmanager
def _slow_stream(serve: Any, pace: str = "slowly") -> Iterator[Iterator[str]]:
    """Yield the lines of an answer that takes one second or several, once the first has come."""
    body = {
        "model": "demo/echo",
        "stream": True,
        "messages": [{"role": "user", "content": pace}],
    }
    headers = {"authorization": f"Bearer {serve.key}"}
    with httpx.stream(
        "POST", f"{serve.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: {")
        yield lines


def _wait_for_end(pids: list[int]) -> list[int]:
    """Return those that did not end within a minute."""
    waiting = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            waiting.append((pid, os.pidfd_open(pid)))
    left = []
    for pid, descriptor in waiting:
        if not select.select([descriptor], [], [], 60)[0]:
            left.append(pid)
        os.close(descriptor)
    return left


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        # There is no event across processes to wait for.
        time.sleep(0.02)
    pytest.fail("not ready again")


def test_running_answer_is_finished_on_sigterm(serve: Callable[..., Any]) -> None:
    """After SIGTERM a stream still gets its end, the status is 0, and no process is left."""
    started = serve()
    pids = list(started.children())
    assert len(pids) == 2
    with _slow_stream(started) as lines:
        started.process.terminate()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert started.process.wait(60) == 0
    assert _wait_for_end(pids) == []


def test_edge_ends_before_the_core(serve: Callable[..., Any]) -> None:
    """The core still stands when the edge has let its last answer go."""
    started = serve()
    edge, core = (os.pidfd_open(started.child(name)) for name in ("maniac_edge", " core "))
    with _slow_stream(started) as lines:
        started.process.terminate()
        next(line for line in lines if line)
        assert select.select([edge, core], [], [], 0)[0] == []
    first, _, _ = select.select([edge, core], [], [], 20)
    assert edge in first
    assert started.process.wait(60) == 0
    for descriptor in (edge, core):
        os.close(descriptor)


def test_second_sigterm_ends_everything_at_once(serve: Callable[..., Any]) -> None:
    """A stream that would run on is cut, and the status says that it was not orderly."""
    started = serve()
    pids = list(started.children())
    with _slow_stream(started, "endlessly") as lines:
        started.process.terminate()
        # Half a second apart, two lines of many are two requests.
        for _ in range(2):
            next(line for line in lines if line)
        started.process.terminate()
        with pytest.raises(httpx.TransportError):
            list(lines)
    assert started.process.wait(60) == 1
    assert _wait_for_end(pids) == []


@pytest.mark.parametrize("name", ["maniac_edge", " core "])
def test_dead_child_is_started_again(serve: Callable[..., Any], name: str) -> None:
    """Killed with -9, either side comes back under the same address, and the log says so."""
    started = serve()
    victim = started.child(name)
    os.kill(victim, signal.SIGKILL)
    assert _wait_for_end([victim]) == []
    _wait_until_ready(started.url)
    assert started.child(name) != victim
    with _slow_stream(started) as lines:
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert "was ended by SIGKILL; starting it again" in started.errors.read_text()


def test_a_core_whose_data_folder_is_gone_waits_for_it(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """One line says so, and nothing is started in vain; it goes on when the folder is back."""
    started = serve()
    folder = tmp_path / "data"
    folder.rename(tmp_path / "elsewhere")
    os.kill(started.child(" core "), signal.SIGKILL)
    line = f"core waits, since {folder / 'gateway.db'} is gone"
    deadline = time.monotonic() + 60
    while line not in started.errors.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.
    assert len(started.children()) == 1
    (tmp_path / "elsewhere").rename(folder)
    _wait_until_ready(started.url)
    assert started.errors.read_text().count("starting it again") == 1


def test_children_do_not_outlive_a_killed_supervisor(serve: Callable[..., Any]) -> None:
    """After kill -9 of `serve`, core and edge are gone and the data folder is free for the next."""
    started = serve()
    pids = list(started.children())
    assert len(pids) == 2
    started.process.kill()
    assert _wait_for_end(pids) == []
    # Fails unless it gets ready.
    serve()
