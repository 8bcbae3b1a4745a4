"""Requests that clients sent in Anthropic's own form, and that go on as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.anthropic.messages import encode_messages
from maniac_core.providers.anthropic.request import encode_body
from maniac_core.providers.base import NativePrompt, Prompt, Target
from maniac_core.providers.translation.conversation import read_conversation
from maniac_core.providers.translation.native import GATEWAY_KEYS, native_body

_SEAL = "mgs1."
"""In the place of a signature: the thinking is of another provider."""
_OWN_KEYS = GATEWAY_KEYS | {"store"}


class _Message(msgspec.Struct):
    role: msgspec.Raw
    content: msgspec.Raw


class _Signed(msgspec.Struct):
    type: Any = None
    signature: Any = None
    data: Any = None


_messages = msgspec.json.Decoder(list[_Message]).decode
_blocks = msgspec.json.Decoder(list[msgspec.Raw]).decode
_signed = msgspec.json.Decoder(_Signed).decode
_encode = msgspec.json.Encoder().encode
_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode_native(target: Target, prompt: Prompt, native: NativePrompt) -> bytes:
    """Return the body to send.

    Raises:
        GatewayError: INVALID_VALUE, naming the field, for what a container adds and this wire cannot carry.
    """
    if _SEAL.encode() in bytes(native.body):
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
    kept: list[_Message] = []
    for message in _messages(members["messages"]):
        if _SEAL.encode() in bytes(message.content) and bytes(message.content).startswith(b"["):
            blocks = [block for block in _blocks(message.content) if not _is_sealed(block)]
            if not blocks:
                continue
            message = _Message(role=message.role, content=msgspec.Raw(_encode(blocks)))  # noqa: PLW2901
        kept.append(message)
    members["messages"] = msgspec.Raw(_encode(kept))
    return _encode(members)


def _is_sealed(block: msgspec.Raw) -> bool:
    signed = _signed(block)
    if signed.type not in ("thinking", "redacted_thinking"):
        return False
    return _SEAL in str(signed.signature or signed.data or "")[: len("call:") + len(_SEAL)]
