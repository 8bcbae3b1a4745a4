"""No statement of datasets walks more than it must."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from maniac_core.domain.datasets import Condition, Operand
from maniac_core.storage.queries import Queries
from maniac_core.storage.sqlite.functions import register
from maniac_core.storage.stores.dataset_filters import where

_PARAMS = {
    **dict.fromkeys(("project", "container", "created", "seq", "end_created", "end_seq"), 1),
    **dict.fromkeys(("last_seq", "limit", "skip", "dataset", "position", "first", "last"), 1),
    **dict.fromkeys(("uid", "id", "now", "before", "after", "lease"), 1),
    "seqs": (1, 2),
}
_ABOUT_TEXT = Condition(key="input.text", operator="contains", operands=(Operand("text", "x"),))
_INDEX = "completions_container (project=? AND container=? AND listed=?"
_PLANS = {
    "find_window_end": f"SEARCH c USING COVERING INDEX {_INDEX} AND (created,seq)<(?,?))",
    "match_completions": f"SEARCH c USING INDEX {_INDEX} AND (created,seq)",
    "match_completions_with_bodies": "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)",
    "add_dataset_items": "SEARCH c USING PRIMARY KEY (seq=?)",
    "find_dataset": "SEARCH d USING INDEX sqlite_autoindex_datasets_1 (uid=?)",
    "list_datasets": "datasets_newest (project=? AND state=? AND created<?)",
    "list_datasets_of_container": (
        "datasets_container (project=? AND container=? AND state=? AND created<?)"
    ),
    "list_item_sizes": "SEARCH i USING PRIMARY KEY (dataset=? AND position>?)",
    "list_items": "SEARCH i USING PRIMARY KEY (dataset=? AND position>? AND position<?)",
    "list_leftovers": "datasets_state (state=? AND lease<?)",
    "delete_items": "SEARCH dataset_items USING PRIMARY KEY (dataset=? AND position=?)",
    "find_expired": "SEARCH c USING PRIMARY KEY (seq>? AND seq<?)",
    "forget_content": "SEARCH completions USING PRIMARY KEY (seq=?)",
    "delete_bodies": "SEARCH completion_bodies USING INTEGER PRIMARY KEY (rowid=?)",
}


@pytest.mark.parametrize("name", _PLANS)
def test_statements_search(path: Path, name: str) -> None:
    """No statement walks a project's history, but for the windows of the container it takes from."""
    filters = where([_ABOUT_TEXT] if "bodies" in name and "match" in name else [])
    params = {**_PARAMS, "filters": filters} if name.startswith("match") else _PARAMS
    sql, bound = Queries.load("sqlite").bind(name, params)
    connection = sqlite3.connect(path)
    register(connection)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bound)]
    connection.close()

    assert any(_PLANS[name] in step for step in plan), plan
    assert [step for step in plan if step.startswith("SCAN") and "subquery" not in step] == []
