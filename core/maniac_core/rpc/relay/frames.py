"""Frames of the relay: between the contract's messages and the domain's values."""

from __future__ import annotations

from typing import Protocol

import msgspec
from maniac_common.turns import LARGE_BYTES, large_turn
from maniac_gateway.v1 import errors_pb2, relay_pb2

from maniac_core.domain.chat import ChatRequest, Chunk, Completion, JsonObject
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.chat.embeddings import embeddings_to_json
from maniac_core.rpc.chat.json_answer import ChunkEncoder, completion_to_json
from maniac_core.rpc.chat.json_request import request_from_json
from maniac_core.rpc.chat.wire_answer import WireEncoder, wire_answer
from maniac_core.rpc.chat.wire_request import WIRES, wire_request
from maniac_core.services.access.seals import ProjectSeals, Seals
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.replay import Replayer
from maniac_core.services.history.responses import StoredResponses
from maniac_core.services.limits.rate_limiter import RateState

Frame = relay_pb2.RelayResponseFrame
# An edge sends 64 frames at most in a message.
MAX_REQUEST_FRAMES = 1024
VERSION = ("x-maniac-relay-version", "2")
"""Metadata: what this core speaks. Edges that speak another version use ChatService, or wait for a core that does."""
HOP = "x-maniac-hop"
"""Metadata: where the event loop itself takes relays: a file beside the socket, or a port, by which the edge came."""


class Encoder(Protocol):
    """Makes events of chunks."""

    def events(self, chunks: list[Chunk]) -> bytes:
        """Return the events of chunks that were ready together."""


class Asked:
    """A request, and the form of its answer."""

    def __init__(self, request: ChatRequest, seals: ProjectSeals | None = None) -> None:
        """`seals`: those of the caller's project, on other wires than chat."""
        self.request = request
        self._seals = seals
        self._encoder: Encoder | None = None

    def answer(self, frame: Frame, completion: Completion) -> None:
        """Put a whole answer into a frame."""
        if completion.vectors is not None:
            frame.native_answer = embeddings_to_json(completion, self.request)
        elif completion.native is not None:
            frame.native_answer = completion.native
        elif self._seals is not None:
            frame.answer = wire_answer(completion, self.request.wire, self._seals)
        else:
            frame.answer = completion_to_json(completion)

    def events(self, frame: Frame, chunks: list[Chunk]) -> int:
        """Put the events of chunks that were ready together into a frame; return their size in bytes."""
        if chunks[0].native:
            frame.native_events = b"".join([chunk.native for chunk in chunks])
            return len(frame.native_events)
        if self._encoder is None:
            self._encoder = (
                ChunkEncoder(include_usage=self.request.include_usage)
                if self._seals is None
                else WireEncoder(self.request.wire, self._seals)
            )
        events = self._encoder.events(chunks)
        frame.events = events
        return len(events)


class RequestReader:
    """Reads the requests of calls."""

    def __init__(self, replayer: Replayer, responses: StoredResponses, seals: Seals) -> None:
        self._replayer = replayer
        self._responses = responses
        self._seals = seals

    async def read(self, call: Call, start: relay_pb2.RelayStart) -> Asked:
        """Return the request that a call is for.

        Raises:
            GatewayError: it is not what it should be, or the request to replay is not to be had.
        """
        if start.HasField("replay"):
            return Asked(await self._replayer.request(call, start.replay.id, start.replay.model))
        is_chat = start.wire == relay_pb2.RELAY_WIRE_CHAT
        if not is_chat and start.wire not in WIRES:
            raise _unknown_wire()
        body = start.body
        if len(body) > LARGE_BYTES:
            call.found_large()
            await large_turn()
        request = request_from_json(
            body,
            has_unknown_keys=start.has_unknown_keys,
            has_unknown_inner_keys=start.has_unknown_inner_keys,
        )
        if is_chat:
            return Asked(request)
        seals = await self._seals.of(call.caller.project)
        request = wire_request(request, start, seals)
        if before := start.response.previous_response_id:
            transcript = await self._responses.transcript(call.caller, before)
            request = msgspec.structs.replace(
                request, messages=_continued(transcript, request.messages)
            )
        return Asked(request, seals)


def _continued(transcript: list[JsonObject], messages: list[JsonObject]) -> list[JsonObject]:
    """Put a conversation in front of what follows it, behind the instructions of the new request."""
    own = 1 if messages and messages[0]["role"] == "system" else 0
    return [*messages[:own], *transcript, *messages[own:]]


def fill_rate(head: relay_pb2.RelayHead, rate: RateState) -> None:
    """Add the caller's window."""
    head.rate_limit.limit = rate.limit
    head.rate_limit.remaining = rate.remaining
    head.rate_limit.reset = rate.reset


def fill_head(head: relay_pb2.RelayHead, call: Call) -> None:
    """Add what is known once there is an answer."""
    head.dropped_params.extend(dict.fromkeys(call.dropped))
    head.server_timing.queue_us = call.queue_us
    if call.first_token_us is not None:
        head.server_timing.first_token_us = call.first_token_us
        head.server_timing.upstream_us = call.upstream_us
    head.server_timing.gateway_us = call.gateway_us()


def error_to_proto(error: GatewayError) -> errors_pb2.Error:
    """Return the contract's form of an error."""
    return errors_pb2.Error(
        reason=error.reason,
        message=error.message,
        param=error.param or "",
        details_json=msgspec.json.encode(error.details) if error.details is not None else b"",
        retry_after_s=error.retry_after_s,
        violations=[
            errors_pb2.FieldViolation(
                field=".".join(str(part) for part in violation.loc),
                message=violation.message,
                type=violation.type,
            )
            for violation in error.violations
        ],
    )


def not_an_edge() -> GatewayError:
    """Return the refusal of a relay to anyone but an edge."""
    return GatewayError(
        Reason.ERROR_REASON_INSUFFICIENT_SCOPE,
        "The relay is for edges: give the edge and its cores the same secret in MANIAC_EDGE_KEY, or let the core "
        "require client certificates. Other clients call ChatService.",
    )


def other_version() -> GatewayError:
    """Return the refusal of an edge that speaks another version of the relay."""
    return GatewayError(
        Reason.ERROR_REASON_NOT_IMPLEMENTED,
        f"This core speaks version {VERSION[1]} of the relay: give the edge the version of its cores.",
    )


def _unknown_wire() -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_NOT_IMPLEMENTED,
        "The gateway's core does not know this API yet: upgrade cores before edges.",
    )


def too_many_frames() -> GatewayError:
    """Return the refusal of a message that no edge sends."""
    return GatewayError(
        Reason.ERROR_REASON_INVALID_VALUE,
        f"A relay message holds more than {MAX_REQUEST_FRAMES} frames.",
    )


def call_id_used_twice() -> GatewayError:
    """Return the refusal of a call whose id belongs to another one that runs."""
    return GatewayError(
        Reason.ERROR_REASON_INVALID_VALUE, "A relay call has the id of one that runs."
    )


def too_many_calls() -> GatewayError:
    """Return the refusal of a call that is one too many."""
    return GatewayError(
        Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
        "The gateway is busy; try again shortly.",
        retry_after_s=1,
    )


def draining() -> GatewayError:
    """Return the refusal of a core that is about to stop."""
    return GatewayError(
        Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
        "The gateway is restarting; try again shortly.",
        retry_after_s=1,
    )
