"""The counting of tokens that Responses has: the size of a prompt that is not sent to a model."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import Answer, Usage
from maniac_core.providers.base import Codec, HttpCall, Prompt, Target
from maniac_core.providers.base_url import openai_url
from maniac_core.providers.errors import error_of_json, unreadable_failure
from maniac_core.providers.openai.dialect import request_headers, server_at
from maniac_core.providers.openai_responses.native import encode_native
from maniac_core.providers.openai_responses.request import encode_body
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode, malformed_failure

# What is a part of the prompt, or says how it is made. Other keys are refused.
_COUNTED = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning"}
    | {"text", "truncation"}
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Wire(msgspec.Struct):
    input_tokens: int


_wire = msgspec.json.Decoder(_Wire)


class ResponsesCounter(Codec):
    """See `Codec`."""

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request; see Codec."""
        if prompt.native is not None:
            body = encode_native(target.model, prompt, prompt.native)
        else:
            body = _encode(encode_body(target.model, prompt)[0])
        counted = {key: value for key, value in _members(body).items() if key in _COUNTED}
        base_url = target.config.base_url
        return HttpCall(
            url=openai_url(base_url, "/responses/input_tokens"),
            headers=request_headers(server_at(base_url, target.provider).habits, target, prompt),
            body=_encode(counted),
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
