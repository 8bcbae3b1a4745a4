"""Requests that clients sent in Anthropic's own form, and that go on as they are."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.anthropic.messages import encode_messages
from maniac_core.providers.anthropic.request import encode_body
from maniac_core.providers.base import NativePrompt, Prompt, Target
from maniac_core.providers.translation.conversation import read_conversation
from maniac_core.providers.translation.native import GATEWAY_KEYS, native_body

_SEAL = b"mgs1."
"""In the place of a signature: the thinking is of another provider."""
_SEALED = (b'"mgs1.', b'"call:mgs1.')
_THINKING = (b'"thinking"', b'"redacted_thinking"')
_OWN_KEYS = GATEWAY_KEYS | {"store"}
_Members = dict[str, msgspec.Raw]
_NONE = msgspec.Raw(b"")


class _Signed(msgspec.Struct):
    type: msgspec.Raw = _NONE
    signature: msgspec.Raw = _NONE
    data: msgspec.Raw = _NONE


_messages = msgspec.json.Decoder(list[_Members]).decode
_blocks = msgspec.json.Decoder(list[msgspec.Raw]).decode
_signed = msgspec.json.Decoder(_Signed).decode
_encode = msgspec.json.Encoder().encode
_top = msgspec.json.Decoder(_Members).decode


def encode_native(target: Target, prompt: Prompt, native: NativePrompt) -> bytes:
    """Return the body to send.

    Raises:
        GatewayError: INVALID_VALUE, naming the field, for what a container adds and this wire cannot carry.
    """
    if _SEAL in bytes(native.body):
        native = msgspec.structs.replace(native, body=msgspec.Raw(_without_seals(native.body)))
    encoded: JsonObject = {}
    added: list[JsonObject] = []
    if native.added_messages or native.added_parameters:
        encoded, _ = encode_body(target, prompt)
        examples = [prompt.messages[position] for position in native.added_messages]
        if any(message["role"] != "system" for message in examples):
            added = encode_messages(read_conversation(examples))
    always: JsonObject = {"model": target.model}
    if prompt.stream:
        always["stream"] = True
    return native_body(
        native, encoded, own_keys=_OWN_KEYS, always=always, list_key="messages", added=added
    )


def _without_seals(body: msgspec.Raw) -> bytes:
    members = _top(body)
    kept: list[_Members] = []
    for message in _messages(members["messages"]):
        content = bytes(message["content"])
        if _SEAL in content and content.startswith(b"["):
            blocks = [block for block in _blocks(content) if not _is_sealed(block)]
            if not blocks:
                continue
            message["content"] = msgspec.Raw(_encode(blocks))
        kept.append(message)
    members["messages"] = msgspec.Raw(_encode(kept))
    return _encode(members)


def _is_sealed(block: msgspec.Raw) -> bool:
    signed = _signed(block)
    if bytes(signed.type) not in _THINKING:
        return False
    return any(bytes(value).startswith(_SEALED) for value in (signed.signature, signed.data))
