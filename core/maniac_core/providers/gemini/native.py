"""Requests that clients sent in Gemini's own form, and that go on as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import NativePrompt, Prompt, Target
from maniac_core.providers.gemini.messages import encode_contents
from maniac_core.providers.gemini.request import encode_body
from maniac_core.providers.translation.conversation import read_conversation
from maniac_core.providers.translation.native import GATEWAY_KEYS, native_body

# The beginnings of seals in base64, plain ones and those of calls: what they hold is of another provider.
_SEALS = ("bWdzMS4", "Y2FsbDptZ3MxL")
_OWN_KEYS = GATEWAY_KEYS | {"model", "store"}
_CONFIG = "generationConfig"
_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members).decode
_contents = msgspec.json.Decoder(list[_Members]).decode
_parts = msgspec.json.Decoder(list[_Members]).decode
_encode = msgspec.json.Encoder().encode


def encode_native(target: Target, prompt: Prompt, native: NativePrompt) -> bytes:
    """Return the body to send.

    Raises:
        GatewayError: INVALID_VALUE, naming the field, for what a container adds and this wire cannot carry.
    """
    if any(seal.encode() in bytes(native.body) for seal in _SEALS):
        native = msgspec.structs.replace(native, body=msgspec.Raw(_without_seals(native.body)))
    encoded: JsonObject = {}
    added: list[JsonObject] = []
    if native.added_messages or native.added_parameters:
        encoded, _ = encode_body(target, prompt)
        native = msgspec.structs.replace(native, body=_with_config(native.body, encoded))
        examples = [prompt.messages[position] for position in native.added_messages]
        if any(message["role"] != "system" for message in examples):
            added = encode_contents(read_conversation(examples), needs_signatures=False)
    return native_body(
        native, encoded, own_keys=_OWN_KEYS, always={}, list_key="contents", added=added
    )


def _with_config(body: msgspec.Raw, encoded: JsonObject) -> msgspec.Raw:
    """Add to the settings of the generation those that only the container has."""
    members = _members(body)
    if _CONFIG not in members or _CONFIG not in encoded:
        return body
    given = _members(members[_CONFIG])
    more: dict[str, Any] = {k: v for k, v in encoded[_CONFIG].items() if k not in given}
    members[_CONFIG] = msgspec.Raw(_encode({**given, **more}))
    return msgspec.Raw(_encode(members))


def _without_seals(body: msgspec.Raw) -> bytes:
    members = _members(body)
    contents = _contents(members["contents"])
    for content in contents:
        if "parts" in content:
            parts = [_unsigned(part) for part in _parts(content["parts"])]
            content["parts"] = msgspec.Raw(_encode([part for part in parts if part]))
    members["contents"] = msgspec.Raw(_encode(contents))
    return _encode(members)


def _unsigned(part: _Members) -> _Members:
    """Return a part without a seal; nothing if it was there for that alone."""
    signature = bytes(part.get("thoughtSignature", b""))[1:].decode(errors="replace")
    if not signature.startswith(_SEALS):
        return part
    kept = {key: value for key, value in part.items() if key != "thoughtSignature"}
    return {} if "thought" in kept else kept
