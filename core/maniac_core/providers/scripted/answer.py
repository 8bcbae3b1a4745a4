"""The bytes of a scripted answer on OpenAI's wire, made of a rule and a request alone."""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any

import msgspec

from maniac_core.config.scripted import ScriptedError, ScriptedRule, ScriptedUsage
from maniac_core.domain.chat import JsonObject
from maniac_core.providers.scripted.response import COMMENT, Ending, Script

# A constant, since the same request is to give the same bytes on every day.
_CREATED = 1_700_000_000
_CHARS_PER_TOKEN = 4
_ECHOED_CHARS = 500
_WORD = re.compile(r"\s*\S+|\s+")
_DONE = b"data: [DONE]\n\n"
_ENDINGS = {
    None: Ending.TRUNCATED,
    "truncated": Ending.TRUNCATED,
    "reset": Ending.RESET,
    "end": Ending.END,
}

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class WireRequest(msgspec.Struct):
    """The fields of a chat request that are read."""

    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None

    def last_user_text(self) -> str:
        """Return the text of the last user message, empty if there is none."""
        for message in reversed(self.messages):
            if message.role == "user":
                return _text_of(message.content)
        return ""


class _Answer:
    """An answer to one request, before it has a form."""

    def __init__(self, rule: ScriptedRule, request: WireRequest, key: bytes) -> None:
        self.rule = rule
        self.model = request.model
        self.digest = hashlib.blake2b(key, digest_size=12).hexdigest()
        self.reasoning = rule.reasoning or ""
        self.calls: list[JsonObject] = [
            {
                "id": call.id or f"call_{self.digest}{position}",
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for position, call in enumerate(rule.tool_calls)
        ]
        if rule.text is not None or self.calls:
            self.text = rule.text or ""
        else:
            self.text = f"You said: {request.last_user_text()[:_ECHOED_CHARS]}"
        self.finish_reason = rule.finish_reason or ("tool_calls" if self.calls else "stop")
        self.usage = self._usage(request) if rule.usage is not False else None

    def _usage(self, request: WireRequest) -> JsonObject:
        given = self.rule.usage if isinstance(self.rule.usage, ScriptedUsage) else ScriptedUsage()
        prompt, completion = given.prompt_tokens, given.completion_tokens
        if prompt is None:
            asked = sum([len(_text_of(message.content)) for message in request.messages])
            prompt = given.cached_tokens + _tokens(asked)
        if completion is None:
            arguments = sum([len(call["function"]["arguments"]) for call in self.calls])
            completion = given.reasoning_tokens + _tokens(len(self.text) + arguments)
        usage: JsonObject = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": given.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": given.reasoning_tokens},
        }
        if given.cost is not None:
            usage["cost"] = given.cost
        return usage


def script_of(rule: ScriptedRule, request: WireRequest, key: bytes) -> Script:
    """Return the answer of a rule; `key` decides its ids and its jitter."""
    if rule.body is not None:
        return _whole(rule, rule.status or 200, rule.body.encode(), _type_of(rule.body))
    if rule.error is not None or rule.is_failure:
        status = rule.status or 500
        error = rule.error or ScriptedError(message=f"scripted status {status}")
        return _whole(rule, status, _encode({"error": _error(error, status)}))
    answer = _Answer(rule, request, key)
    if request.stream:
        wants_usage = request.stream_options is not None and request.stream_options.include_usage
        return _stream(answer, with_usage=bool(wants_usage), key=key)
    if rule.error_frame_after is not None:
        error = rule.error_frame_after.error
        return _whole(rule, 200, _encode({"error": _error(error, 500)}))
    body = _completion(answer)
    if rule.malformed_chunk_after is not None:
        body = body[: len(body) // 2]
    return _whole(rule, rule.status or 200, body)


def _whole(
    rule: ScriptedRule, status: int, body: bytes, content_type: str = "application/json"
) -> Script:
    """Return an answer in one piece; what stops between chunks stops it halfway."""
    stop, ending = _stop(rule)
    if stop is not None:
        body = body[: len(body) // 2] if stop else b""
    return _script(rule, status, content_type, [(rule.first_token_delay_s, body)], ending)


def _stream(answer: _Answer, *, with_usage: bool, key: bytes) -> Script:
    rule = answer.rule
    jitter = random.Random(key) if rule.chunk_jitter_s else None  # noqa: S311 - it is to repeat
    stop, ending = _stop(rule)
    if rule.error_frame_after is not None:
        stop = rule.error_frame_after.chunks
    chunk = _ChunkForm(answer.digest, answer.model)
    pieces = [(0.0, chunk.of(b'{"role":"assistant","content":""}'))]
    delay_s = rule.first_token_delay_s
    content = _content(answer, chunk)
    reach = len(content) if stop is None else min(stop, len(content))
    broken_at = _position(rule.malformed_chunk_after, content)
    for position in range(reach + 1):
        if position == broken_at:
            pieces.append((0.0, chunk.head[:-12] + b"\n\n"))
        if position == reach:
            break
        data = content[position]
        if rule.comment_every and position % rule.comment_every == 0:
            data = COMMENT + data
        pieces.append((delay_s, data))
        delay_s = rule.chunk_delay_s
        if jitter is not None:
            delay_s += jitter.random() * rule.chunk_jitter_s
    if rule.error_frame_after is not None:
        error = _error(rule.error_frame_after.error, 500)
        pieces.append((0.0, b"data: " + _encode({"error": error}) + b"\n\n"))
    elif stop is None:
        # Without content the end is the first thing that comes.
        end_delay_s = 0.0 if content else delay_s
        pieces.append((end_delay_s, _end(answer, chunk, with_usage=with_usage)))
        if rule.repeat_stream:
            again = _ChunkForm(answer.digest[::-1], answer.model)
            second = [again.of(b'{"role":"assistant","content":""}'), *_content(answer, again)]
            second.append(_end(answer, again, with_usage=with_usage))
            pieces += [(0.0, data) for data in second]
    return _script(rule, rule.status or 200, "text/event-stream; charset=utf-8", pieces, ending)


class _ChunkForm:
    """Chunks of one stream; only their choice differs, so the rest is encoded once."""

    def __init__(self, digest: str, model: str) -> None:
        self.start = b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":%d' % (
            digest.encode(),
            _CREATED,
        )
        self.start += b',"model":' + _encode(model) + b',"choices":['
        self.head = self.start + b'{"index":0,"delta":'

    def of(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        return b'%b%b,"logprobs":null,"finish_reason":%b}]}\n\n' % (self.head, delta, finish_reason)

    def usage(self, usage: JsonObject) -> bytes:
        return self.start + b'],"usage":' + _encode(usage) + b"}\n\n"


def _content(answer: _Answer, chunk: _ChunkForm) -> list[bytes]:
    chars = answer.rule.chunk_chars
    frames = [
        chunk.of(b'{"reasoning_content":%b}' % _encode(part))
        for part in _parts(answer.reasoning, chars)
    ]
    frames += [chunk.of(b'{"content":%b}' % _encode(part)) for part in _parts(answer.text, chars)]
    for index, call in enumerate(answer.calls):
        function: Any = call["function"]
        opening = {**call, "index": index, "function": {**function, "arguments": ""}}
        frames.append(chunk.of(_encode({"tool_calls": [opening]})))
        frames += [
            chunk.of(_encode({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
            for part in _parts(function["arguments"], chars)
        ]
    return frames


def _end(answer: _Answer, chunk: _ChunkForm, *, with_usage: bool) -> bytes:
    end = b""
    if not answer.rule.omit_finish_reason:
        end = chunk.of(b"{}", _encode(answer.finish_reason))
    if with_usage and answer.usage is not None:
        end += chunk.usage(answer.usage)
    return end if answer.rule.omit_done else end + _DONE


def _completion(answer: _Answer) -> bytes:
    message: JsonObject = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["content"] = answer.text or None
        message["tool_calls"] = answer.calls
    finish_reason = None if answer.rule.omit_finish_reason else answer.finish_reason
    completion: JsonObject = {
        "id": f"chatcmpl-{answer.digest}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": answer.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        ],
    }
    if answer.usage is not None:
        completion["usage"] = answer.usage
    return _encode(completion)


def _stop(rule: ScriptedRule) -> tuple[int | None, Ending]:
    """Return before which chunk of content an answer stops, None if it is whole, and what then."""
    if rule.stall_after_chunks is not None:
        return rule.stall_after_chunks, Ending.HANG
    if rule.cut_after_chunks is not None:
        return rule.cut_after_chunks, _ENDINGS[rule.cut_with]
    if rule.hang == "first_token":
        return 0, Ending.HANG
    if rule.hang == "stream":
        # More chunks than any answer has: all of its content, but not its end.
        return 1 << 62, Ending.HANG
    return None, Ending.HANG if rule.hang == "end" else Ending.END


def _script(
    rule: ScriptedRule,
    status: int,
    content_type: str,
    pieces: list[tuple[float, bytes]],
    ending: Ending,
) -> Script:
    pieces = _joined(pieces)
    if rule.cut_after_bytes is not None:
        pieces, is_cut = _cut(pieces, rule.cut_after_bytes)
        ending = _ENDINGS[rule.cut_with] if is_cut else ending
    return Script(
        status=status,
        headers={
            "content-type": content_type,
            **{name.lower(): value for name, value in rule.headers.items()},
        },
        pieces=pieces,
        ending=ending,
        comment_every_s=rule.comment_every_s,
    )


def _joined(pieces: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Make one piece of those that arrive at the same moment."""
    joined: list[tuple[float, list[bytes]]] = []
    for delay_s, data in pieces:
        if delay_s or not joined:
            joined.append((delay_s, [data]))
        else:
            joined[-1][1].append(data)
    return [(delay_s, b"".join(parts)) for delay_s, parts in joined if any(parts)]


def _cut(pieces: list[tuple[float, bytes]], limit: int) -> tuple[list[tuple[float, bytes]], bool]:
    kept: list[tuple[float, bytes]] = []
    for delay_s, data in pieces:
        if len(data) > limit:
            return [*kept, (delay_s, data[:limit])] if limit else kept, True
        kept.append((delay_s, data))
        limit -= len(data)
    return kept, False


def _position(chunks: int | None, content: list[bytes]) -> int | None:
    return None if chunks is None else min(chunks, len(content))


def _parts(text: str, chars: int | None) -> list[str]:
    if chars is None:
        return _WORD.findall(text)
    return [text[start : start + chars] for start in range(0, len(text), chars)]


def _arguments(value: JsonObject | str) -> str:
    return value if isinstance(value, str) else _encode(value).decode()


def _error(error: ScriptedError, status: int) -> JsonObject:
    kind = error.type or ("server_error" if status >= 500 else "invalid_request_error")
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code}


def _type_of(body: str) -> str:
    start = body.lstrip()[:5]
    if start.startswith(("{", "[")):
        return "application/json"
    if start == "data:":
        return "text/event-stream; charset=utf-8"
    return "text/html" if start.startswith("<") else "text/plain"


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(
        [
            part["text"]
            for part in parts
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
    )


def _tokens(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)
