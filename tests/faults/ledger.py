"""What the gateway recorded, read from its database file and not through itself."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any


class Ledger:
    """Records by request id."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, request_id: str) -> dict[str, Any]:
        """Return the one record of a request, with `attempts` and decoded `output`; it has been committed."""
        found = self._read(request_id)
        assert len(found) == 1, f"{len(found)} records of one request"
        return found[0]

    def wait_for(self, request_id: str) -> dict[str, Any]:
        """Return the one record of a request that nobody waited for."""
        deadline = time.monotonic() + 60
        while not self._read(request_id):
            assert time.monotonic() < deadline, "no record"
            time.sleep(0.01)  # Another process writes it; there is nothing to wait on.
        return self.record(request_id)

    def _read(self, request_id: str) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.row_factory = sqlite3.Row
            records = database.execute(
                "SELECT c.*, b.input, b.output FROM completions c"
                " LEFT JOIN completion_bodies b USING (seq) WHERE request_id = ?",
                [request_id],
            ).fetchall()
            found = []
            for row in records:
                record = dict(row)
                record["output"] = json.loads(record["output"]) if record["output"] else []
                record["attempts"] = [
                    dict(attempt)
                    for attempt in database.execute(
                        "SELECT * FROM attempts WHERE seq = ? ORDER BY number", [record["seq"]]
                    )
                ]
                found.append(record)
            return found


def trail(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return provider and outcome of each attempt."""
    return [(attempt["provider"], attempt["outcome"]) for attempt in record["attempts"]]


def text_of(record: dict[str, Any]) -> str:
    """Return the stored text of the first choice."""
    return (record["output"][0]["message"]["content"] or "") if record["output"] else ""
