"""Gemini's API: content, whole or streamed, and embeddings."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import relay_pb2

from maniac_edge.context import RequestContext
from maniac_edge.core.chat import ChatRequest
from maniac_edge.core.client import CoreClient
from maniac_edge.errors import EdgeError
from maniac_edge.http.responses import send_json
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import as_object, check_json, decode_request
from maniac_edge.wires.answerer import Answerer
from maniac_edge.wires.base import Writer
from maniac_edge.wires.gemini.answer import GeminiWriter
from maniac_edge.wires.gemini.names import with_camel_keys
from maniac_edge.wires.gemini.request import parse_request
from maniac_edge.wires.gemini.schema import BatchEmbedContents, EmbedContent
from maniac_edge.wires.handler import WireHandler

_GENERATING = {"generateContent": False, "streamGenerateContent": True}
_encode = msgspec.json.Encoder().encode
_one = msgspec.json.Decoder(EmbedContent)
_batch = msgspec.json.Decoder(BatchEmbedContents)


class GeminiWire:
    """See Wire. The path names the model and the method."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, Writer]:
        """Check and translate a request; see Wire."""
        path, _, method = unquote(scope["path"]).rpartition(":")
        model = _model_of(path)
        if model and method in _GENERATING:
            start = parse_request(body, model, is_stream=_GENERATING[method])
            return ChatRequest(start), GeminiWriter()
        if model and method in ("embedContent", "batchEmbedContents"):
            is_batch = method == "batchEmbedContents"
            return ChatRequest(_embedding(body, model, is_batch=is_batch)), _Vectors(
                is_batch=is_batch
            )
        raise EdgeError(
            "ROUTE_NOT_FOUND",
            "No such method. Served are generateContent, streamGenerateContent, countTokens, embedContent and batchEmbedContents.",
        )


def _embedding(body: bytes, model: str, *, is_batch: bool) -> relay_pb2.RelayStart:
    check_json(body)
    body = with_camel_keys(body)
    given = decode_request(body, _batch).requests if is_batch else [decode_request(body, _one)]
    texts = ["".join(part.text or "" for part in one.content.parts or ()) for one in given]
    if not texts or not all(texts):
        raise EdgeError("INVALID_VALUE", "content must be text, and not empty.", param="content")
    chat: dict[str, Any] = {
        "messages": [{"role": "user", "content": text} for text in texts],
        "model": model,
        "store": False,
    }
    if given[0].output_dimensionality is not None:
        chat["dimensions"] = given[0].output_dimensionality
    return relay_pb2.RelayStart(
        wire=relay_pb2.RELAY_WIRE_EMBEDDINGS, body=_encode(chat), has_unknown_keys=True
    )


class GeminiHandler(WireHandler):
    """Answers the requests of the wire, and those that only count tokens."""

    def __init__(self, answerer: Answerer, bodies: BodyReader, core: CoreClient) -> None:
        super().__init__(GeminiWire(), answerer, bodies)
        self._count_bodies = bodies
        self._core = core

    async def create(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        """Answer one request; see WireHandler."""
        path = unquote(scope["path"])
        if not path.endswith(":countTokens"):
            await super().create(scope, receive, send, context)
            return
        body = await self._count_bodies.read(scope, receive)
        given = with_camel_keys(body) if check_json(body) else body
        if inner := as_object(given).get("generateContentRequest"):
            given = bytes(inner)
        model = _model_of(path.rpartition(":")[0])
        counted = await self._core.count_tokens(
            parse_request(given, model, is_stream=False), context
        )
        await send_json(send, _encode({"totalTokens": counted.input_tokens}))


def _model_of(path: str) -> str:
    """Return the model of `/v1beta/models/MODEL`, which may be written as `models/MODEL` once more."""
    return path.partition("/models/")[2].removeprefix("models/")


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Made(msgspec.Struct):
    data: list[_Vector]


_made = msgspec.json.Decoder(_Made).decode


class _Vectors(GeminiWriter):
    """Writes vectors."""

    def __init__(self, *, is_batch: bool) -> None:
        super().__init__()
        self._is_batch = is_batch

    def native_whole(self, answer: bytes) -> bytes:
        """Return vectors in Gemini's form; see Writer."""
        values = [{"values": item.embedding} for item in _made(answer).data]
        return _encode({"embeddings": values} if self._is_batch else {"embedding": values[0]})
