"""EmbeddingService: vectors of texts over RPCs."""

from __future__ import annotations

import msgspec
from maniac_gateway.v1 import embeddings_pb2

from maniac_core.domain.chat import ChatRequest, JsonObject
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.chat.embedded_json import raw_object
from maniac_core.services.capture.capture import Call
from maniac_core.services.chat.idempotency import IdempotentCompletions

_MOST_TEXTS = 2048


class EmbeddingServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, completions: IdempotentCompletions) -> None:
        self._gate = gate
        self._completions = completions

    @unary
    async def CreateEmbeddings(
        self, request: embeddings_pb2.CreateEmbeddingsRequest, call: Call
    ) -> embeddings_pb2.CreateEmbeddingsResponse:
        """Answer with vectors."""
        asked = _request(request)
        with self._gate.counting(call):
            made = await self._completions.create(call, asked)
        return embeddings_pb2.CreateEmbeddingsResponse(
            embeddings=[embeddings_pb2.Embedding(values=vector) for vector in made.vectors or ()],
            model=made.model,
            provider=made.provider,
            prompt_tokens=made.usage.prompt_tokens,
        )


def _request(request: embeddings_pb2.CreateEmbeddingsRequest) -> ChatRequest:
    texts = request.texts
    if not texts or not all(texts) or len(texts) > _MOST_TEXTS:
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE,
            f"texts must hold 1 to {_MOST_TEXTS} texts, none of them empty.",
            param="texts",
        )
    parameters: JsonObject = {}
    if request.HasField("dimensions"):
        parameters["dimensions"] = request.dimensions
    metadata = None
    if request.metadata_json:
        raw_object(request.metadata_json, "metadata_json")
        metadata = msgspec.Raw(request.metadata_json)
    return ChatRequest(
        messages=[{"role": "user", "content": text} for text in texts],
        model=request.model or None,
        fallbacks=tuple(request.models),
        parameters=parameters,
        tags=tuple(request.tags),
        metadata=metadata,
        store=request.store,
        wire="embeddings",
    )
