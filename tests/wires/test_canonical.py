"""Whole answers in chat's form, read as steps for the writers of other wires."""

from __future__ import annotations

import json

from maniac_edge.wires.canonical import read_whole


def test_blocks_between_others_keep_all_they_have() -> None:
    """Calls and signed reasoning that stand apart come in their places, none left out."""
    details = [{"type": "reasoning.text", "text": text, "signature": text} for text in "abc"]
    message = {
        "content": "xy",
        "reasoning": "abc",
        "reasoning_details": details,
        "tool_calls": [
            {"id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(3)
        ],
    }
    thinking, call, text = ["reasoning", 1], ["tool_call", 1], ["text", 1]
    blocks = [thinking, text, thinking, call, text, thinking, call, call]
    choice = {"message": message, "finish_reason": "tool_calls", "blocks": blocks}
    answer = {"id": "msg_1", "created": 1, "model": "a/b", "choices": [choice]}
    deltas = [s.delta for c in read_whole(json.dumps(answer).encode()) for s in c.choices]

    called = [call.id for delta in deltas for call in delta.tool_calls or ()]
    assert called == ["c0", "c1", "c2"]
    assert [delta.reasoning_details for delta in deltas if delta.reasoning_details] == [
        [detail] for detail in details
    ]
