"""Anthropic's counting of tokens: the size of a prompt that is not sent to a model."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import Answer, Usage
from maniac_core.providers.anthropic.native import encode_native
from maniac_core.providers.anthropic.request import encode_body
from maniac_core.providers.base import Codec, HttpCall, Prompt, Target
from maniac_core.providers.base_url import anthropic_url
from maniac_core.providers.errors import error_of_json, unreadable_failure
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode, malformed_failure

_VERSION = "2023-06-01"
# What says how the answer is to be made, which has no answer here.
_NOT_COUNTED = (
    *("stream", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata"),
    *("service_tier", "container", "inference_geo"),
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Wire(msgspec.Struct):
    input_tokens: int


_wire = msgspec.json.Decoder(_Wire)


class AnthropicCounter(Codec):
    """See `Codec`."""

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request; see Codec."""
        if prompt.native is not None:
            body = encode_native(target, prompt, prompt.native)
        else:
            body = _encode(encode_body(target, prompt)[0])
        members = _members(body)
        for name in _NOT_COUNTED:
            members.pop(name, None)
        headers = [("content-type", "application/json"), ("anthropic-version", _VERSION)]
        if target.api_key is not None:
            headers.append(("x-api-key", target.api_key))
        if beta := prompt.headers.get("anthropic-beta"):
            headers.append(("anthropic-beta", beta))
        return HttpCall(
            url=anthropic_url(target.config.base_url, "/messages/count_tokens"),
            headers=tuple(headers),
            body=_encode(members),
        )

    def decode(self, body: bytes) -> Answer:
        """Decode an answer; see Codec."""
        try:
            counted = decode(_wire, body).input_tokens
        except msgspec.ValidationError as err:
            raise error_of_json(body) or malformed_failure(err) from None
        except NOT_JSON:
            raise unreadable_failure(body) from None
        return Answer(choices=[], usage=Usage(input_tokens=max(0, counted)))
