"""Annotations, audio and images in pieces, as streams carry them, put together as a whole answer has them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from maniac_core.domain.chat import JsonObject


def merge_extras(pieces: Sequence[JsonObject]) -> JsonObject:
    """Return the whole of each key, in the order of their first pieces."""
    values: dict[str, list[Any]] = {}
    for piece in pieces:
        for key, value in piece.items():
            values.setdefault(key, []).append(value)
    return {key: _merge(parts) for key, parts in values.items()}


def _merge(parts: list[Any]) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    if all(isinstance(part, dict) for part in parts):
        return _audio(parts)
    return parts[-1]


def _audio(parts: list[JsonObject]) -> JsonObject:
    whole = {key: value for part in parts for key, value in part.items() if value is not None}
    for key, join in (("transcript", "".join), ("data", _join_base64)):
        texts = [part[key] for part in parts if isinstance(part.get(key), str)]
        if texts:
            whole[key] = join(texts)
    return whole


def _join_base64(texts: list[str]) -> str:
    """Return pieces, each encoded by itself, as one; what cannot be decoded is put together as it is."""
    try:
        data = [base64.b64decode(text, validate=True) for text in texts]
    except ValueError:
        return "".join(texts)
    return base64.b64encode(b"".join(data)).decode()
