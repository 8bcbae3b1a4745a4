"""Embeddings as clients get them."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Any

import msgspec

from maniac_core.domain.chat import ChatRequest, Completion

_encode = msgspec.json.Encoder().encode


def embeddings_to_json(completion: Completion, request: ChatRequest) -> bytes:
    """Return vectors in OpenAI's form: as numbers, or as base64 of 32-bit floats, whichever was asked for."""
    wanted = request.parameters.get("encoding_format")
    is_base64 = wanted is not None and bytes(wanted) == b'"base64"'
    vectors = completion.vectors or []
    return _encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _packed(vector) if is_base64 else vector,
                }
                for index, vector in enumerate(vectors)
            ],
            "model": completion.model,
            "provider": completion.provider,
            "usage": {
                "prompt_tokens": completion.usage.prompt_tokens,
                "total_tokens": completion.usage.prompt_tokens,
            },
        }
    )


def _packed(vector: list[float]) -> Any:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
