"""Events of messages, and what they add up to."""

from __future__ import annotations

import json
from typing import Any


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    return [_event(block) for block in text.split("\n\n") if "data: " in block]


def _event(block: str) -> dict[str, Any]:
    """Return an event; some have their type only in their name."""
    lines = dict(line.split(": ", 1) for line in block.split("\n") if line)
    return {"type": lines.get("event"), **json.loads(lines["data"])}


def added_up(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a client makes of events."""
    message: dict[str, Any] = {**events[0]["message"], "content": []}
    arguments: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    arguments[event["index"]] = (
                        arguments.get(event["index"], "") + delta["partial_json"]
                    )
                else:
                    key = next(key for key in delta if key != "type")
                    block[key] = (block.get(key) or "") + delta[key] if key != "citation" else ""
            case "message_delta":
                message.update(event["delta"])
                message["usage"] = {**message["usage"], **event.get("usage", {})}
    for index, text in arguments.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    return message
