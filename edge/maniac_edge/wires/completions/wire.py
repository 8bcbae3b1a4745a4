"""OpenAI's legacy completions, answered through chat."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.types import Scope
from maniac_gateway.v1 import relay_pb2

from maniac_edge.core.chat import ChatRequest
from maniac_edge.errors import EdgeError, stream_frame
from maniac_edge.http import sse
from maniac_edge.requests.validation import check_json, decode_request, json_object
from maniac_edge.wires.base import PassesNative
from maniac_edge.wires.canonical import Chunk, Usage, read_events, read_whole
from maniac_edge.wires.completions.schema import CompletionCreate

_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(CompletionCreate))
_GIVEN = ("model", "models", "temperature", "top_p", "frequency_penalty", "presence_penalty")
_MORE = ("seed", "stop", "tags", "store", "trace", "max_tokens", "n")
_decoder = msgspec.json.Decoder(CompletionCreate)
_encode = msgspec.json.Encoder().encode
_Members = dict[str, Any]


class CompletionsWire:
    """See Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, CompletionsWriter]:
        """Check and translate a request; see Wire."""
        del scope
        raw = check_json(body)
        request = decode_request(body, _decoder)
        if request.model is None and not request.models:
            raise EdgeError("MISSING_REQUIRED_PARAMETER", "model is required.", param="model")
        texts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        if len(texts) != 1 or not texts[0]:
            raise EdgeError("INVALID_VALUE", "prompt must be one text.", param="prompt")
        chat: _Members = {"messages": [{"role": "user", "content": texts[0]}]}
        for name in (*_GIVEN, *_MORE):
            value = getattr(request, name)
            if value is not None and value != []:
                chat[name] = value
        for name in ("seed", "max_tokens", "n"):
            if name in chat:
                chat[name] = _whole(chat[name], name)
        if metadata := json_object(request.metadata, "metadata"):
            chat["metadata"] = msgspec.Raw(metadata)
        start = relay_pb2.RelayStart(
            stream=bool(request.stream),
            wire=relay_pb2.RELAY_WIRE_COMPLETIONS,
            body=_encode(chat),
            native=body,
            # Log probabilities, a suffix and the like, which chat has not.
            native_only=[name for name in raw if name not in _KNOWN and name != "user"],
        )
        options = request.stream_options
        wants_usage = options is not None and bool(options.include_usage)
        return ChatRequest(start), CompletionsWriter(wants_usage=wants_usage)


class CompletionsWriter(PassesNative):
    """Writes one completion."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._identity: _Members = {}
        self._text: list[str] = []
        self._finish: str | None = None
        self._usage = Usage()

    def whole(self, answer: bytes) -> bytes:
        """Return a whole completion; see Writer."""
        for chunk in read_whole(answer):
            self._feed(chunk)
        text = "".join(self._text)
        return _encode({**self._step(text, self._finish), "usage": self._usage})

    def events(self, data: bytes) -> bytes:
        """Return the events of steps that came together; see Writer."""
        return b"".join(self._feed(chunk) for chunk in read_events(data))

    def end(self) -> bytes:
        """Return the last events; see Writer."""
        out = sse.frame(_encode(self._step("", self._finish)))
        if self._wants_usage:
            out += sse.frame(_encode({**self._identity, "choices": [], "usage": self._usage}))
        return out + sse.DONE

    def failed(self, error: EdgeError, request_id: str) -> bytes:
        """Return the event of a failure; see Writer."""
        del request_id
        return sse.frame(stream_frame(error)) + sse.DONE

    def _feed(self, chunk: Chunk) -> bytes:
        if not self._identity:
            self._identity = {
                "id": chunk.id,
                "object": "text_completion",
                "created": chunk.created,
                "model": chunk.model,
                "provider": chunk.provider,
            }
        if chunk.usage is not None:
            self._usage = chunk.usage
        out: list[bytes] = []
        for step in chunk.choices:
            text = (step.delta.content or "") + (step.delta.refusal or "")
            if text:
                self._text.append(text)
                out.append(sse.frame(_encode(self._step(text, None))))
            self._finish = step.finish_reason or self._finish
        return b"".join(out)

    def _step(self, text: str, finish: str | None) -> _Members:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {**self._identity, "choices": [choice]}


def _whole(value: float, param: str) -> int:
    if value != int(value):
        raise EdgeError("INVALID_VALUE", f"{param} must be a whole number.", param=param)
    return int(value)
