"""Killing the process loses nothing that was acknowledged, and leaves nothing by halves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from maniac_core.config.core import CoreConfig

ReadTable = Callable[[str], list[dict[str, Any]]]
_WRITER = Path(__file__).with_name("crash_writer.py")


def _wait_until_it_is_let_go(read_table: ReadTable) -> None:
    """Wait until the server has ended what it was doing for the killed process: a commit may be under way."""
    deadline = time.monotonic() + 60
    while read_table(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'maniac-gateway'"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.


@pytest.mark.parametrize("acknowledgements", [1, 333, 2_000])
def test_kill_keeps_every_acknowledged_capture(
    config: CoreConfig, read_table: ReadTable, acknowledgements: int
) -> None:
    """After kill -9 in the middle of the load, every id that was printed is there once, with all that belongs to it."""
    with subprocess.Popen(
        [sys.executable, str(_WRITER), config.database_url, str(config.data_dir)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(acknowledgements)]
        process.kill()
        acknowledged += process.stdout.readlines()
    ids = {line.strip() for line in acknowledged if line.endswith("\n")}
    assert len(ids) >= acknowledgements

    if config.database_url == "sqlite":
        assert read_table("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    else:
        _wait_until_it_is_let_go(read_table)
    seqs = {row["id"]: row["seq"] for row in read_table("SELECT id, seq FROM completions")}
    assert ids <= seqs.keys()
    for table in ("completion_bodies", "attempts", "completion_facets"):
        rows = read_table(f"SELECT seq FROM {table}")
        assert sorted(row["seq"] for row in rows) == sorted(seqs.values()), table
    for total in (
        "SELECT sum(requests) AS n FROM usage_daily",
        "SELECT sum(completions) AS n FROM completion_counts",
        "SELECT sum(completions) AS n FROM facet_counts",
        "SELECT sum(requests) AS n FROM traces",
    ):
        assert read_table(total) == [{"n": len(seqs)}], total
