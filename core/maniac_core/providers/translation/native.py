"""Requests that are passed on as their clients sent them: only what the gateway must change is changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import NativePrompt

GATEWAY_KEYS = frozenset({"tags", "trace", "models", "maniac_metadata"})
"""Of every wire, for the gateway alone."""
_NULL = msgspec.Raw(b"null")
_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.Encoder().encode


def native_body(
    native: NativePrompt,
    encoded: JsonObject,
    *,
    own_keys: Collection[str],
    always: JsonObject,
    list_key: str,
    added: Sequence[JsonObject] = (),
) -> bytes:
    """Return the body to send; keys keep their order, and their values every byte.

    Args:
        native: What the client sent, and what its container adds.
        encoded: The whole request as the dialect would write it: what the container adds is taken from there.
        own_keys: Keys that are the gateway's own on this wire, and left out.
        always: Values that are set whatever the client sent.
        list_key: The key of the conversation, a JSON array.
        added: Entries of the container that go in front of it.
    """
    members = _members(native.body)
    for key in own_keys:
        members.pop(key, None)
    if native.added_messages or native.added_parameters:
        for key, value in encoded.items():
            if key not in own_keys and bytes(members.get(key, _NULL)) == b"null":
                members[key] = msgspec.Raw(_encode(value))
    if added:
        members[list_key] = _in_front(added, members[list_key])
    for key, value in always.items():
        members[key] = msgspec.Raw(_encode(value))
    return _encode(members)


def _in_front(added: Sequence[JsonObject], given: msgspec.Raw) -> msgspec.Raw:
    rest = bytes(given).strip()[1:]
    separator = b"" if rest.strip() == b"]" else b","
    return msgspec.Raw(_encode(list(added))[:-1] + separator + rest)
