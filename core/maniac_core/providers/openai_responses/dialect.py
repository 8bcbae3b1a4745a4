"""The dialect of OpenAI's Responses; addresses, keys, models and embeddings are those of its chat."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import Answer, Wire
from maniac_core.providers.base import Codec, HttpCall, Prompt, StreamDecoder, Target
from maniac_core.providers.base_url import openai_url
from maniac_core.providers.openai.dialect import OpenAIDialect, request_headers, server_at
from maniac_core.providers.openai_responses.answer import decode_answer
from maniac_core.providers.openai_responses.counting import ResponsesCounter
from maniac_core.providers.openai_responses.native import encode_native
from maniac_core.providers.openai_responses.request import encode_body
from maniac_core.providers.openai_responses.stream import ResponsesStreamDecoder

_encode = msgspec.json.Encoder().encode
_COUNTER = ResponsesCounter()


class OpenAIResponsesDialect(OpenAIDialect):
    """See `Dialect`."""

    wire: Wire = "responses"

    def counter(self) -> Codec:
        """Return the dialect of counting."""
        return _COUNTER

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        server = server_at(target.config.base_url, target.provider)
        dropped: tuple[str, ...] = ()
        if prompt.native is not None:
            body = encode_native(target.model, prompt, prompt.native)
        else:
            translated, dropped = encode_body(target.model, prompt)
            body = _encode(translated)
        return HttpCall(
            url=openai_url(target.config.base_url, "/responses"),
            headers=request_headers(server.habits, target, prompt),
            body=body,
            dropped=dropped,
            is_native=prompt.native is not None,
        )

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, or is an error inside a 200.
        """
        return decode_answer(body)

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:
        """Return a decoder for one stream."""
        del prompt
        return ResponsesStreamDecoder()


RESPONSES = OpenAIResponsesDialect()
