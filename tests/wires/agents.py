"""Models that play a coding agent's: read a file, edit it, answer. One for each dialect that agents may meet."""

from __future__ import annotations

import json
from typing import Any

from providers import Handler
from upstream import Exchange, chunk, completion

ANSWER = "I replaced apples by pears."
_READING = ("Read", "read_file")
_EDITING = ("Edit", "replace")
_SHELLS = ("exec_command", "shell")


def plays_chat(path: str) -> Handler:
    """Play by OpenAI's chat."""

    async def handle(exchange: Exchange) -> None:
        body = exchange.json
        tools = {
            t["function"]["name"]: t["function"].get("parameters", {})
            for t in body.get("tools", ())
        }
        done = sum(message["role"] == "tool" for message in body["messages"])
        call = _call(tools, done, path)
        if call is None:
            message: dict[str, Any] = {"content": ANSWER}
        else:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            message = {
                "tool_calls": [
                    {"index": 0, "id": f"call_{done}", "type": "function", "function": function}
                ]
            }
        finish = "stop" if call is None else "tool_calls"
        if not body.get("stream"):
            await exchange.respond(200, json.dumps(completion(None, **message)).encode())
            return
        await exchange.begin_stream()
        await exchange.event(chunk(None, **message))
        await exchange.event(chunk(None, finish_reason=finish))
        await exchange.event(
            {
                "choices": [],
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
            }
        )
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    return handle


def plays_messages(path: str) -> Handler:
    """Play by Anthropic's Messages."""

    async def handle(exchange: Exchange) -> None:
        body = exchange.json
        tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", ())}
        done = sum(
            block["type"] == "tool_result"
            for message in body["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
        )
        call = _call(tools, done, path)
        message = {
            "id": "msg_x",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 1},
        }
        if call is None:
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": ANSWER}
        else:
            block = {"type": "tool_use", "id": f"toolu_{done}", "name": call[0], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        stop = {"stop_reason": "end_turn" if call is None else "tool_use", "stop_sequence": None}
        await exchange.begin_stream()
        for event in (
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ):
            text = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            await exchange.chunk(text.encode())
        await exchange.chunk(b"")

    return handle


def _call(tools: dict[str, Any], done: int, path: str) -> tuple[str, dict[str, Any]] | None:
    """Return the next call after so many results; None: it is time to answer."""
    if not tools or done > 1:
        return None
    own = next((name for name in (_READING, _EDITING)[done] if name in tools), None)
    if own is not None:
        keys = tools[own].get("properties", {})
        place = next(key for key in ("file_path", "absolute_path") if key in keys)
        arguments: dict[str, Any] = {place: path}
        if done:
            arguments |= {"old_string": "apples", "new_string": "pears"}
            if "instruction" in keys:
                arguments["instruction"] = "Replace apples by pears."
        return own, arguments
    shell = next(name for name in _SHELLS if name in tools)
    command = f"sed -i s/apples/pears/ {path}" if done else f"cat {path}"
    if "cmd" in tools[shell].get("properties", {}):
        return shell, {"cmd": command}
    return shell, {"command": ["bash", "-lc", command]}
