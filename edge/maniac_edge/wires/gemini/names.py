"""Names of keys: Google's servers take `inlineData` and `inline_data` alike, so clients send both."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_SNAKE_KEY = re.compile(rb'"[a-z]+_[a-z_]+"\s*:')
_UNDERSCORE = re.compile(r"_([a-z])")
# What they hold is the caller's own.
_OPAQUE = frozenset(
    {"args", "response", "parameters", "parametersJsonSchema", "responseSchema"}
    | {"responseJsonSchema", "labels"}
)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def with_camel_keys(body: bytes) -> bytes:
    """Return a JSON object with its keys in camel case."""
    return _encode(_camel(_decode(body))) if _SNAKE_KEY.search(body) else body


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {_UNDERSCORE.sub(lambda m: m[1].upper(), key): item for key, item in value.items()}
    return {key: item if key in _OPAQUE else _camel(item) for key, item in renamed.items()}
