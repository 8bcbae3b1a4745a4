"""ResponseService: stored responses over RPCs."""

from __future__ import annotations

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import chat_pb2, responses_pb2

from maniac_core.domain.chat import Choice, Completion
from maniac_core.domain.completions import StoredCompletion
from maniac_core.domain.errors import code_of
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.chat.stored import status_to_proto
from maniac_core.rpc.chat.wire_answer import wire_answer
from maniac_core.services.access.seals import Seals
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.responses import StoredResponses

_choices = msgspec.json.Decoder(list[Choice]).decode


class ResponseServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, stored: StoredResponses, seals: Seals) -> None:
        self._gate = gate
        self._stored = stored
        self._seals = seals

    @unary
    async def GetResponse(
        self, request: responses_pb2.GetResponseRequest, call: Call
    ) -> responses_pb2.GetResponseResponse:
        """Read one."""
        found, route = await self._stored.get(call.caller, request.id)
        completion = found.completion
        answer = b""
        if completion.output is not None:
            seals = await self._seals.of(call.caller.project)
            answer = wire_answer(_whole(completion, completion.output), "responses", seals)
        return responses_pb2.GetResponseResponse(
            response=responses_pb2.StoredResponse(
                id=completion.id,
                create_time=Timestamp(seconds=completion.created),
                status=status_to_proto(completion.status),
                request_json=bytes(route.native_request),
                answer_json=answer,
                error=_error(completion),
            )
        )

    @unary
    async def DeleteResponse(
        self, request: responses_pb2.DeleteResponseRequest, call: Call
    ) -> responses_pb2.DeleteResponseResponse:
        """Delete one."""
        await self._stored.delete(call.caller, request.id)
        return responses_pb2.DeleteResponseResponse()


def _whole(stored: StoredCompletion, output: bytes) -> Completion:
    return Completion(
        id=stored.id,
        created=stored.created,
        model=stored.model or "",
        provider=stored.provider or "",
        container=stored.container_label,
        choices=_choices(output),
        usage=stored.usage,
    )


def _error(stored: StoredCompletion) -> chat_pb2.CompletionError | None:
    if not stored.error_reason:
        return None
    return chat_pb2.CompletionError(
        reason=stored.error_reason,
        code=code_of(stored.error_reason),
        message=stored.error_message or "",
    )
