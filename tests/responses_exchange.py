"""An exchange in the form of OpenAI's Responses, made by hand from the public types: one of everything that is read."""

from __future__ import annotations

import json
from typing import Any

Json = Any

REASONING: Json = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [
        {"type": "summary_text", "text": "**Weather**"},
        {"type": "summary_text", "text": "It is a question."},
    ],
    "encrypted_content": "gAAA-opaque",
}
MESSAGE: Json = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "Let me look: é😀.",
            "annotations": [
                {
                    "type": "url_citation",
                    "url": "https://a.example",
                    "title": "A",
                    "start_index": 0,
                    "end_index": 3,
                },
                {"type": "file_citation", "file_id": "f", "filename": "x", "index": 1},
            ],
            "logprobs": [],
        }
    ],
}
CALL: Json = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Rome"}',
}
CUSTOM: Json = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_2",
    "name": "shell",
    "input": 'echo "é"\nls',
}
SEARCH: Json = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {}}
USAGE: Json = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 32,
}
ITEMS: list[Json] = [REASONING, SEARCH, MESSAGE, CALL, CUSTOM]


def response(*items: Json, status: str = "completed", **keys: Json) -> Json:
    """Return a response."""
    return {
        "id": "resp_upstream",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "gpt-x-2026",
        "output": list(items),
        "usage": USAGE if status in ("completed", "incomplete") else None,
        **keys,
    }


def events(*items: Json, last: Json = None) -> list[Json]:
    """Return the events of a stream with these items; `last`: the response at its end."""
    begun = response(status="in_progress")
    out: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(items):
        out += _item(index, item)
    last = last or response(*items)
    out.append({"type": f"response.{last['status']}", "response": last})
    for number, event in enumerate(out):
        event["sequence_number"] = number
    return out


def sse(*items: Json) -> bytes:
    """Return events as they are sent."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        for event in items
    )


def _item(index: int, item: Json) -> list[Json]:
    kind, at = item["type"], {"item_id": item["id"], "output_index": index}
    empty = {"summary": [], "content": [], "arguments": "", "input": ""}
    begun = {key: empty.get(key, value) for key, value in item.items()}
    begun.pop("encrypted_content", None)
    out: list[Json] = [
        {
            "type": "response.output_item.added",
            "output_index": index,
            "item": {**begun, "status": "in_progress"},
        }
    ]
    if kind == "reasoning":
        for position, part in enumerate(item["summary"]):
            place = {**at, "summary_index": position}
            name = "response.reasoning_summary_part"
            out.append({"type": f"{name}.added", **place, "part": {**part, "text": ""}})
            out += _pieces("response.reasoning_summary_text", part["text"], place)
            out.append({"type": f"{name}.done", **place, "part": part})
    elif kind == "message":
        for position, part in enumerate(item["content"]):
            channel = "refusal" if part["type"] == "refusal" else "output_text"
            place = {**at, "content_index": position}
            key = "refusal" if part["type"] == "refusal" else "text"
            name = "response.content_part"
            out.append({"type": f"{name}.added", **place, "part": {**part, key: ""}})
            out += _pieces(f"response.{channel}", part[key], place)
            out.append({"type": f"{name}.done", **place, "part": part})
    elif kind == "function_call":
        out += _pieces("response.function_call_arguments", item["arguments"], at)
    elif kind == "custom_tool_call":
        out += _pieces("response.custom_tool_call_input", item["input"], at)
    return [*out, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _pieces(kind: str, text: str, place: Json) -> list[Json]:
    half = len(text) // 2
    key = {"arguments": "arguments", "input": "input", "refusal": "refusal"}.get(
        kind.rpartition("_")[2].removeprefix("response."), "text"
    )
    return [
        *({"type": f"{kind}.delta", **place, "delta": part} for part in (text[:half], text[half:])),
        {"type": f"{kind}.done", **place, key: text},
    ]
