"""The edge's side of the gRPC contract: one channel to all cores, deadlines, metadata, and what the core says in headers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from maniac_gateway.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    containers_pb2,
    containers_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    evaluators_pb2,
    evaluators_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    relay_pb2,
    relay_pb2_grpc,
    responses_pb2,
    responses_pb2_grpc,
    traces_pb2,
    traces_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.core.channel import CoreChannels, Metadata
from maniac_edge.errors import EdgeError, from_rpc_error

_Response = TypeVar("_Response")

_FILES = (
    chat_pb2,
    containers_pb2,
    datasets_pb2,
    evaluators_pb2,
    files_pb2,
    models_pb2,
    responses_pb2,
    traces_pb2,
    usage_pb2,
)


_RELAY = relay_pb2.DESCRIPTOR.services_by_name["RelayService"].full_name


def _is_repeatable(method: MethodDescriptor) -> bool:
    """Whether a call changes nothing, so that another core may be asked the same."""
    return method.name.startswith(("Get", "List", "Explain")) and not method.server_streaming


def _service_config() -> str:
    """Return how gRPC spreads calls over the cores that say they serve, and which it repeats when one breaks off."""
    reads = [
        {"service": service.full_name, "method": method.name}
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if _is_repeatable(method)
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        # The second one: a core that stopped before it was done.
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "methodConfig": [{"name": reads, "retryPolicy": retry}],
        }
    )


# Metadata of the core that becomes response headers, under the names clients know.
_HEADERS = {
    "x-ratelimit-limit": b"x-ratelimit-limit",
    "x-ratelimit-remaining": b"x-ratelimit-remaining",
    "x-ratelimit-reset": b"x-ratelimit-reset",
    "x-maniac-dropped-params": b"x-maniac-dropped-params",
    "server-timing": b"server-timing",
}


class CoreClient:
    """Calls of the core, after `connect`. Each takes the request's context, and adds the core's headers to it.

    gRPC gives the calls in turn to the cores that say they serve. Every method raises EdgeError for a failed call. No
    call waits for a core that is down: it fails at once; one that only reads is tried on another.
    """

    chat: chat_pb2_grpc.ChatServiceAsyncStub
    containers: containers_pb2_grpc.ContainerServiceAsyncStub
    files: files_pb2_grpc.FileServiceAsyncStub
    models: models_pb2_grpc.ModelServiceAsyncStub
    traces: traces_pb2_grpc.TraceServiceAsyncStub
    evaluators: evaluators_pb2_grpc.EvaluatorServiceAsyncStub
    usage: usage_pb2_grpc.UsageServiceAsyncStub
    datasets: datasets_pb2_grpc.DatasetServiceAsyncStub
    responses: responses_pb2_grpc.ResponseServiceAsyncStub
    call_packed: grpc.aio.UnaryStreamMultiCallable[bytes, relay_pb2.CallResponse]

    def __init__(self, config: EdgeConfig, channels: CoreChannels) -> None:
        self._channels = channels
        self._timeout_s = config.read_timeout_s

    async def connect(self) -> None:
        """Make the channel, in the event loop that will use it. Does not wait for the core."""
        self._channel = self._channels.open(
            self._channels.target.channel, ("grpc.service_config", _service_config())
        )
        self._access = keys_pb2_grpc.AccessServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)  # type: ignore[no-untyped-call]
        self.chat = chat_pb2_grpc.ChatServiceStub(self._channel)
        # Its requests are encoded already.
        self.call_packed = self._channel.unary_stream(
            f"/{_RELAY}/Call", response_deserializer=relay_pb2.CallResponse.FromString
        )
        self._relay = relay_pb2_grpc.RelayServiceStub(self._channel)
        self.containers = containers_pb2_grpc.ContainerServiceStub(self._channel)
        self.files = files_pb2_grpc.FileServiceStub(self._channel)
        self.models = models_pb2_grpc.ModelServiceStub(self._channel)
        self.traces = traces_pb2_grpc.TraceServiceStub(self._channel)
        self.evaluators = evaluators_pb2_grpc.EvaluatorServiceStub(self._channel)
        self.usage = usage_pb2_grpc.UsageServiceStub(self._channel)
        self.datasets = datasets_pb2_grpc.DatasetServiceStub(self._channel)
        self.responses = responses_pb2_grpc.ResponseServiceStub(self._channel)

    async def close(self) -> None:
        """Close the channel; calls that still run are cancelled."""
        await self._channel.close()

    def metadata(self, context: RequestContext) -> Metadata:
        """Return what goes with a call: the request's facts, and what shows that this is an edge."""
        return context.metadata + self._channels.credential

    async def check_access(
        self, context: RequestContext, *, refused_code: str = "", body_follows: bool = False
    ) -> None:
        """Pass the gates of key and rate limit; see `bodies.Access`."""
        request = keys_pb2.CheckAccessRequest(
            client_address=context.client_address,
            refused_code=refused_code,
            body_follows=body_follows,
        )
        await self.call(self._access.CheckAccess, request, context)

    async def count_tokens(
        self, start: relay_pb2.RelayStart, context: RequestContext
    ) -> relay_pb2.CountTokensResponse:
        """Count the tokens of a prompt that is not sent; the headers say whether they are an estimate."""
        request = relay_pb2.CountTokensRequest(start=start)
        counted = await self.call(self._relay.CountTokens, request, context)
        if counted.is_estimated:
            context.response_headers[b"x-maniac-estimated"] = b"true"
        return counted

    async def get_chat_completion(
        self, completion_id: str, context: RequestContext
    ) -> chat_pb2.StoredChatCompletion:
        """Read one captured completion."""
        request = chat_pb2.GetChatCompletionRequest(id=completion_id)
        response = await self.call(self.chat.GetChatCompletion, request, context)
        return response.completion

    async def list_chat_completions(
        self, request: chat_pb2.ListChatCompletionsRequest, context: RequestContext
    ) -> chat_pb2.ListChatCompletionsResponse:
        """Read a page of captured completions."""
        return await self.call(self.chat.ListChatCompletions, request, context)

    async def is_serving(self) -> bool:
        """Whether the core says that it serves."""
        try:
            response = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
        except grpc.aio.AioRpcError:
            return False
        serving: bool = response.status == health_pb2.HealthCheckResponse.SERVING
        return serving

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, _Response],
        request: Any,
        context: RequestContext,
        *,
        timeout_s: float | None = None,
    ) -> _Response:
        """Call one of the stubs' unary methods; without `timeout_s` with the deadline of a read."""
        call = method(
            request, timeout=timeout_s or self._timeout_s, metadata=self.metadata(context)
        )
        return await finish(call, context)


async def finish(
    call: grpc.aio.UnaryUnaryCall[Any, _Response] | grpc.aio.StreamUnaryCall[Any, _Response],
    context: RequestContext,
) -> _Response:
    """Await a call's answer, and add the core's headers to the context."""
    try:
        response = await call
    except grpc.aio.AioRpcError as err:
        raise failed(err, context) from err
    take_headers(context, await call.initial_metadata())
    take_headers(context, await call.trailing_metadata())
    return response


def failed(error: grpc.aio.AioRpcError, context: RequestContext) -> EdgeError:
    """Return the failure that a status stands for, and add the core's headers to the context."""
    take_headers(context, error.initial_metadata())
    take_headers(context, error.trailing_metadata())
    return from_rpc_error(error)


def take_headers(
    context: RequestContext, metadata: Iterable[tuple[str, str | bytes]] | None
) -> None:
    """Add to the context what becomes response headers."""
    for key, value in metadata or ():
        name = _HEADERS.get(key)
        if name is not None:
            context.response_headers[name] = (
                value.encode("latin-1") if isinstance(value, str) else value
            )
