"""Events of responses, and whether they fit together."""

from __future__ import annotations

import json
from typing import Any


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, each named as its type says."""
    events = []
    for block in text.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


def check_items(events: list[dict[str, Any]], output: list[dict[str, Any]]) -> None:
    """Check that each item was announced before its deltas, and that these add up to what it is in the end."""
    added: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[Any, ...], str] = {}
    done: dict[int, dict[str, Any]] = {}
    for event in events:
        kind, index = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(added)
            assert event["item"].get("content", []) == []
            added[index] = event["item"]
        elif kind == "response.output_item.done":
            done[index] = event["item"]
        elif kind.endswith(".delta"):
            assert event["item_id"] == added[index]["id"]
            key = (index, kind.removesuffix(".delta"), event.get("content_index"))
            texts[key] = texts.get(key, "") + event["delta"]
        elif kind.endswith(".done") and "part" not in event and index is not None:
            key = (index, kind.removesuffix(".done"), event.get("content_index"))
            value = next(event[k] for k in ("text", "arguments", "input", "refusal") if k in event)
            assert texts.get(key, "") == value
    assert [done[index] for index in sorted(done)] == output
