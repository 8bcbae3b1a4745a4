"""Answers of each dialect, and what may become of them on the way: wrong types, huge numbers, holes, broken text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import event_frames

Json = Any
# Stand for what Python's encoder does not write; replaced in the bytes.
_RAW = {
    "@huge-exponent@": b"1e999",
    "@minus-huge-exponent@": b"-1e999",
    "@nan@": b"NaN",
    "@infinity@": b"-Infinity",
    "@digits@": b"9" * 5000,
    "@deep@": b"[" * 300 + b"]" * 300,
    "@deepest@": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "@half@": rb'"\ud83d half \udc00"',
    "@bytes@": b'"\xff\xfe"',
    "@zero@": rb'"a\u0000b"',
}
_VALUES: tuple[Json, ...] = (
    *_RAW,
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    10**30,
    -(10**30),
    "",
    "x",
    "12",
    "null",
    [],
    {},
    [None],
    [1, "x", {}],
    [[]],
    {"a": 1},
    {"type": "text", "text": 7},
    {"error": {"message": "no", "code": 429}},
    "y" * 20_000,
)

_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
_DETAIL = {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}
_OPENAI_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
    "cost": 0.001,
    "cost_details": {"upstream_inference_cost": 0.0},
    "is_byok": False,
}
_OPENAI_MESSAGE = {
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": [{"text": "t"}]}],
    "refusal": "no",
    "name": "n",
    "tool_call_id": "t",
    "reasoning_details": [_DETAIL],
    "tool_calls": [{**_CALL, "extra_content": {"google": {"thought_signature": "s"}}}],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x"}}],
    "audio": {"id": "a", "data": "AAAA", "transcript": "hm"},
    "images": [{"type": "image_url", "image_url": {"url": "data:x"}}],
    "further": {"a": [1]},
}
_ANTHROPIC_USAGE = {
    "input_tokens": 9,
    "output_tokens": 5,
    "cache_read_input_tokens": 2,
    "cache_creation_input_tokens": 1,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
    "output_tokens_details": {"thinking_tokens": 1},
    "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
}
_ANTHROPIC_BLOCKS: list[Json] = [
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Hi"},
    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    {"type": "fallback", "to": {"model": "claude-y"}},
]
_GEMINI_USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 1,
    "cachedContentTokenCount": 2,
    "toolUsePromptTokenCount": 1,
    "totalTokenCount": 15,
    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}],
}
_BEDROCK_USAGE = {
    "inputTokens": 9,
    "outputTokens": 5,
    "totalTokens": 17,
    "cacheReadInputTokens": 2,
    "cacheWriteInputTokens": 1,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 1}],
}
_GEMINI_PARTS = [
    {"text": "hm", "thought": True},
    {"text": "Hi", "thoughtSignature": "s"},
    {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c"}, "thoughtSignature": "s"},
]

_RESPONSES_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 14,
}
_RESPONSES_ITEMS: list[Json] = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "content": [{"type": "reasoning_text", "text": "so"}],
        "encrypted_content": "x",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "Hi",
                "annotations": [
                    {"type": "url_citation", "url": "https://x", "start_index": 0, "end_index": 2}
                ],
            },
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a": 1}',
    },
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "g", "input": "ls"},
    {"type": "web_search_call", "id": "ws_1", "action": {"query": "q"}},
]


def _responses_object(status: str, items: list[Json]) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": "gpt-x",
        "output": items,
        "error": None,
        "incomplete_details": None,
        "service_tier": "flex",
        "usage": _RESPONSES_USAGE,
    }


def _responses_events(index: int, item: Json) -> list[Json]:
    """Return the events of one item, all of its texts among them."""
    channels = {
        "summary": "reasoning_summary_text",
        "reasoning_text": "reasoning_text",
        "output_text": "output_text",
        "refusal": "refusal",
    }
    empty = {**item, "content": [], "summary": [], "arguments": "", "input": ""}
    events: list[Json] = [
        {"type": "response.output_item.added", "output_index": index, "item": empty}
    ]
    place = {"output_index": index, "content_index": 0, "summary_index": 0}
    parts = [*enumerate(item.get("summary", ())), *enumerate(item.get("content", ()))]
    for position, part in parts:
        place = {**place, "content_index": position}
        kind = channels[part["type"].replace("summary_text", "summary")]
        text = part.get("text") or part.get("refusal")
        events.append({"type": f"response.{kind}.delta", **place, "delta": text})
    for key, kind in (
        ("arguments", "function_call_arguments"),
        ("input", "custom_tool_call_input"),
    ):
        if key in item:
            events.append({"type": f"response.{kind}.delta", **place, "delta": item[key]})
    return [
        *events,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _openai_delta(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def _gemini_chunk(parts: list[Json], finish: str | None = None) -> Json:
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": _GEMINI_USAGE,
        "modelVersion": "gemini-x",
        "responseId": "r",
    }


def _bedrock_delta(index: int, delta: Json) -> Json:
    return {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}


WHOLE: dict[str, Json] = {
    "openai": {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "service_tier": "flex",
        "choices": [{"index": 0, "message": _OPENAI_MESSAGE, "finish_reason": "tool_calls"}],
        "usage": _OPENAI_USAGE,
    },
    "anthropic": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": _ANTHROPIC_BLOCKS,
        "stop_reason": "tool_use",
        "stop_details": {"explanation": "because"},
        "usage": _ANTHROPIC_USAGE,
    },
    "openai-responses": _responses_object("completed", _RESPONSES_ITEMS),
    "gemini": _gemini_chunk(_GEMINI_PARTS, "STOP"),
    "bedrock": {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                    {"reasoningContent": {"redactedContent": "eA=="}},
                    {"text": "Hi"},
                    {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": _BEDROCK_USAGE,
        "metrics": {"latencyMs": 7},
    },
}
STREAMS: dict[str, list[Json]] = {
    "openai": [
        _openai_delta({"role": "assistant", "content": ""}),
        _openai_delta({"reasoning_details": [_DETAIL], "reasoning": "hm"}),
        _openai_delta({"content": "Hi "}),
        _openai_delta({"content": [{"type": "text", "text": "you"}], "refusal": "no"}),
        _openai_delta({"tool_calls": [{"index": 0, **_CALL, "extra_content": {"a": 1}}]}),
        _openai_delta({"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}),
        _openai_delta({"annotations": [{"a": 1}], "audio": {"data": "AAAA"}, "images": [{}]}),
        _openai_delta({}, "tool_calls"),
        {"choices": [], "usage": _OPENAI_USAGE, "service_tier": "flex", "x_groq": {"usage": {}}},
        "[DONE]",
    ],
    "anthropic": [
        {
            "type": "message_start",
            "message": {"model": "c", "content": [], "usage": _ANTHROPIC_USAGE},
        },
        *(
            event
            for index, (block, delta) in enumerate(
                [
                    (
                        {"type": "thinking", "thinking": ""},
                        {"type": "thinking_delta", "thinking": "hm"},
                    ),
                    ({"type": "thinking"}, {"type": "signature_delta", "signature": "s"}),
                    ({"type": "redacted_thinking", "data": "x"}, {"type": "later_delta"}),
                    ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}),
                    (_ANTHROPIC_BLOCKS[3], {"type": "input_json_delta", "partial_json": "{}"}),
                ]
            )
            for event in (
                {"type": "content_block_start", "index": index, "content_block": block},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            )
        ),
        {"type": "ping"},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_details": {"explanation": "because"}},
            "usage": _ANTHROPIC_USAGE,
        },
        {"type": "message_stop"},
    ],
    "openai-responses": [
        {"type": "response.created", "response": _responses_object("in_progress", [])},
        *(
            event
            for index, item in enumerate(_RESPONSES_ITEMS)
            for event in _responses_events(index, item)
        ),
        {
            "type": "response.completed",
            "response": _responses_object("completed", _RESPONSES_ITEMS),
        },
    ],
    "gemini": [
        _gemini_chunk([_GEMINI_PARTS[0]]),
        _gemini_chunk([_GEMINI_PARTS[1]], "STOP"),
        _gemini_chunk([_GEMINI_PARTS[2]], "STOP"),
    ],
    "bedrock": [
        {"messageStart": {"role": "assistant"}},
        _bedrock_delta(0, {"reasoningContent": {"text": "hm"}}),
        _bedrock_delta(0, {"reasoningContent": {"signature": "s"}}),
        {"contentBlockStop": {"contentBlockIndex": 0}},
        _bedrock_delta(1, {"reasoningContent": {"redactedContent": "eA=="}}),
        _bedrock_delta(2, {"text": "Hi"}),
        {
            "contentBlockStart": {
                "start": {"toolUse": {"toolUseId": "t1", "name": "f"}},
                "contentBlockIndex": 3,
            }
        },
        _bedrock_delta(3, {"toolUse": {"input": "{}"}}),
        {"contentBlockStop": {"contentBlockIndex": 3}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": _BEDROCK_USAGE, "metrics": {"latencyMs": 7}}},
    ],
}


_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "enum": ["x"]}, "b": {"$ref": "#/$defs/B"}},
    "required": ["a"],
    "$defs": {"B": {"anyOf": [{"type": ["integer", "null"], "minimum": 0}, {"type": "array"}]}},
}
REQUEST: dict[str, Json] = {
    "model": "openai/m",
    "messages": [
        {"role": "system", "content": "S", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"a": 1}}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_details": [_DETAIL],
            "tool_calls": [{**_CALL, "extra_content": {"google": {"thought_signature": "s"}}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"b": 2}', "further": [1]},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": _SCHEMA},
            "cache_control": {"type": "ephemeral"},
        }
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    },
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}},
    "reasoning": {"effort": "low", "max_tokens": 2000, "further": 1},
    "temperature": 0.5,
    "top_p": 0.5,
    "logit_bias": {"1": 1},
    "max_tokens": 100,
    "max_completion_tokens": 100,
    "seed": 1,
    "stop": ["x"],
    "n": 1,
    "user": "u",
    "metadata": {"a": {"b": 1}},
    "tags": ["t"],
    "trace": {"id": "t", "metadata": {"a": 1}},
    "stream_options": {"include_usage": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low"},
    "generationConfig": {"candidateCount": 1, "maxOutputTokens": 10, "topK": 1},
    "safetySettings": [{"category": "x"}],
    "cachedContent": "c",
    "top_k": 5,
    "service_tier": "flex",
    "usage": {"include": True},
    "further": {"a": [1]},
}


def whole(dialect: str, seed: int) -> bytes:
    """Return a whole answer that something happened to; the same for the same seed."""
    dice = random.Random(f"{dialect}-{seed}")
    data = _bytes(_mutated(WHOLE[dialect], dice))
    return _damaged(data, dice) if dice.random() < 0.1 else data


def stream(dialect: str, seed: int) -> bytes:
    """Return a stream that something happened to; the same for the same seed."""
    dice = random.Random(f"{dialect}-{seed}")
    events = [_copy(event) for event in STREAMS[dialect]]
    for _ in range(dice.choice((1, 1, 2, 4))):
        place = dice.randrange(len(events))
        events[place] = _mutated(events[place], dice)
    if dice.random() < 0.1:
        events.insert(dice.randrange(len(events)), dice.choice(_VALUES))
    frame = _bedrock_event if dialect == "bedrock" else _event
    data = b"".join(frame(event, dice) for event in events)
    return _damaged(data, dice) if dice.random() < 0.1 else data


def request(seed: str) -> bytes:
    """Return a chat request that something happened to; the same for the same seed."""
    dice = random.Random(seed)
    body = _copy(REQUEST)
    # Any one of these may be what a dialect stumbles over, and most hide others.
    for key in list(body):
        if key not in ("model", "messages") and dice.random() < 0.5:
            del body[key]
    for _ in range(dice.choice((1, 1, 2))):
        key = dice.choice([key for key in body if key != "model"])
        body[key] = _at_some_place(body[key], dice, lambda _: _copy(dice.choice(_VALUES)))
    return _bytes(body)


def pieces(data: bytes, seed: int) -> list[bytes]:
    """Return the bytes chopped somewhere, also inside characters."""
    dice = random.Random(seed)
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(6))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _event(event: Json, dice: random.Random) -> bytes:
    data = event.encode() if event == "[DONE]" else _bytes(event)
    form = dice.random()
    if form < 0.02:
        return data + b"\n\n"
    if form < 0.04:
        return b"event: error\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"


def _bedrock_event(event: Json, dice: random.Random) -> bytes:
    """Frame an event by the one key that it has; what has another form is some delta."""
    name = next(iter(event)) if isinstance(event, dict) and len(event) == 1 else "contentBlockDelta"
    data = _bytes(event[name] if isinstance(event, dict) and name in event else event)
    if dice.random() < 0.02:
        name = "error"
    frame: bytes = event_frames.message(event_frames.text_header(":event-type", name), data)
    return frame


def _mutated(value: Json, dice: random.Random) -> Json:
    value = _copy(value)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        value = _at_some_place(value, dice, lambda _: _copy(dice.choice(_VALUES)))
    return value


def _at_some_place(value: Json, dice: random.Random, change: Callable[[Json], Json]) -> Json:
    """Go down to some place and change what is there, or lose it, or double it."""
    if isinstance(value, dict | list) and value and dice.random() < 0.9:
        key: Any = (
            dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        )
        what = dice.random()
        if what < 0.05:
            del value[key]
        elif what < 0.1 and isinstance(value, list):
            value.insert(key, value[key])
        else:
            value[key] = _at_some_place(value[key], dice, change)
        return value
    return change(value)


def _copy(value: Json) -> Json:
    return json.loads(json.dumps(value))


def _bytes(value: Json) -> bytes:
    data = json.dumps(value).encode()
    for name, raw in _RAW.items():
        data = data.replace(b'"%b"' % name.encode(), raw)
    return data


def _damaged(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    match dice.randrange(3):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place + dice.randrange(1, 9) :]
        case _:
            return data[:place] + dice.randbytes(3) + data[place:]
