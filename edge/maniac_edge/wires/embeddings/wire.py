"""OpenAI's embeddings."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.types import Scope
from maniac_gateway.v1 import relay_pb2

from maniac_edge.core.chat import ChatRequest
from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import check_json, decode_request, json_object
from maniac_edge.wires.embeddings.schema import EmbeddingsRequest

_MOST_TEXTS = 2048
_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(EmbeddingsRequest))
_PLAIN = ("model", "models", "encoding_format", "user", "tags", "trace")
_decoder = msgspec.json.Decoder(EmbeddingsRequest)
_encode = msgspec.json.Encoder().encode
_Members = dict[str, Any]


class EmbeddingsWire:
    """OpenAI's embeddings; see Wire. Each text goes to the core as a message."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, None]:
        """Check and translate a request; see Wire."""
        del scope
        raw = check_json(body)
        request = decode_request(body, _decoder)
        if request.model is None and not request.models:
            raise EdgeError("MISSING_REQUIRED_PARAMETER", "model is required.", param="model")
        texts, are_tokens = _texts(request.input)
        chat: _Members = {name: value for name, value in raw.items() if name not in _KNOWN}
        chat["messages"] = [{"role": "user", "content": text} for text in texts]
        chat |= {name: value for name in _PLAIN if (value := getattr(request, name))}
        if request.dimensions is not None:
            chat["dimensions"] = _whole(request.dimensions)
        if are_tokens:
            chat["input_tokens"] = True
        if metadata := json_object(request.metadata, "metadata"):
            chat["metadata"] = msgspec.Raw(metadata)
        chat["store"] = bool(request.store)
        start = relay_pb2.RelayStart(
            wire=relay_pb2.RELAY_WIRE_EMBEDDINGS, body=_encode(chat), has_unknown_keys=True
        )
        return ChatRequest(start), None


def _texts(given: str | list[str | int | list[int]]) -> tuple[list[str], bool]:
    """Return the texts, or token ids as JSON, and whether it is these."""
    if isinstance(given, str):
        given = [given]
    elif given and all(isinstance(item, int) for item in given):
        given = [given]  # type: ignore[list-item]
    if not given or any(item in ("", []) for item in given):
        raise EdgeError("INVALID_VALUE", "input must not be empty.", param="input")
    if len(given) > _MOST_TEXTS:
        raise EdgeError(
            "INVALID_VALUE",
            f"input has more than {_MOST_TEXTS} entries; send less at once.",
            param="input",
        )
    if all(isinstance(item, str) for item in given):
        return given, False  # type: ignore[return-value]
    if all(isinstance(item, list) for item in given):
        return [_encode(item).decode() for item in given], True
    raise EdgeError("INVALID_VALUE", "input must be all texts, or all token ids.", param="input")


def _whole(value: float) -> int:
    if value != int(value) or value < 1:
        raise EdgeError(
            "INVALID_VALUE", "dimensions must be a whole number above 0.", param="dimensions"
        )
    return int(value)
