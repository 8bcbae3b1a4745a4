"""Requests that clients sent in the form of Responses, and that go on as they are.

The gateway keeps the conversation and lets the provider keep none (`store: false`). So reasoning has to carry its
content: it is asked for, and items without it, which the provider would look for in vain, are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import NativePrompt, Prompt
from maniac_core.providers.openai_responses.request import ENCRYPTED, encode_body, thinks
from maniac_core.providers.translation.native import GATEWAY_KEYS, native_body

_SEALS = ("mgs1.", "call:mgs1.")
"""The beginnings of encrypted content that is of another provider."""
# Composed of several parameters of chat: a container may add one of them to what a client gave.
_COMPOSED = ("text", "reasoning")
_Members = dict[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")
_NOTHING = (b"null", b"[]")


class _Item(msgspec.Struct):
    type: Any = None
    role: Any = None
    content: msgspec.Raw = _NULL
    encrypted_content: Any = None


_members = msgspec.json.Decoder(_Members).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_item = msgspec.json.Decoder(_Item).decode
_anything = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def encode_native(model: str, prompt: Prompt, native: NativePrompt) -> bytes:
    """Return the body to send.

    Raises:
        GatewayError: INVALID_VALUE, naming the field, for what a container adds and this wire cannot carry.
    """
    members = _members(native.body)
    added = _added(model, prompt, native)
    for key in _COMPOSED:
        _complete(members, added, key)
    _set_input(members, added.pop("input", []))
    always: JsonObject = {"model": model, "store": False}
    if prompt.stream:
        always["stream"] = True
    if thinks(model) and ENCRYPTED not in (include := _list(members, "include")):
        always["include"] = [*include, ENCRYPTED]
    return native_body(
        msgspec.structs.replace(native, body=msgspec.Raw(_encode(members))),
        added,
        own_keys=GATEWAY_KEYS,
        always=always,
        list_key="input",
    )


def _added(model: str, prompt: Prompt, native: NativePrompt) -> JsonObject:
    """Return what the container adds, in this API's form."""
    if not native.added_messages and not native.added_parameters:
        return {}
    only = msgspec.structs.replace(
        prompt,
        messages=[prompt.messages[position] for position in native.added_messages],
        parameters={name: prompt.parameters[name] for name in native.added_parameters},
        native=None,
    )
    instructions = [m for m in only.messages if m["role"] == "system"]
    examples = [m for m in only.messages if m["role"] != "system"]
    added, _ = encode_body(model, msgspec.structs.replace(only, messages=examples))
    if instructions:
        added["instructions"] = "\n\n".join(m["content"] for m in instructions)
    return added


def _complete(members: _Members, added: JsonObject, key: str) -> None:
    """Add to an object of the client what only the container has."""
    given = members.get(key, _NULL)
    if key not in added or bytes(given) == b"null":
        return
    inner = _members(given)
    members[key] = msgspec.Raw(_encode({**added[key], **inner}))


def _set_input(members: _Members, examples: list[JsonObject]) -> None:
    """Leave reasoning out that is of no use to the provider, and put examples behind what is said at the start."""
    given = bytes(members["input"])
    if not given.startswith(b"["):
        if examples:
            text = {"type": "message", "role": "user", "content": members["input"]}
            members["input"] = msgspec.Raw(_encode([*examples, text]))
        return
    if not examples and b'"reasoning"' not in given:
        return
    items = _items(given)
    kept = [item for item in items if _is_of_use(_item(item))]
    if not examples and len(kept) == len(items):
        return
    first = 0
    while first < len(kept) and _item(kept[first]).role in ("system", "developer"):
        first += 1
    members["input"] = msgspec.Raw(_encode([*kept[:first], *examples, *kept[first:]]))


def _is_of_use(item: _Item) -> bool:
    if item.type != "reasoning":
        return True
    sealed = item.encrypted_content
    if isinstance(sealed, str) and sealed:
        return not sealed.startswith(_SEALS)
    return bytes(item.content) not in _NOTHING


def _list(members: _Members, key: str) -> list[Any]:
    value = _anything(members.get(key, b"null"))
    return value if isinstance(value, list) else []
