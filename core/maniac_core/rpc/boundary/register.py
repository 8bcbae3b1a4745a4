"""Registration of every service of the contract; what this core does not serve answers UNIMPLEMENTED from the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from maniac_gateway.v1 import (
    chat_pb2,
    containers_pb2,
    datasets_pb2,
    embeddings_pb2,
    evaluators_pb2,
    files_pb2,
    keys_pb2,
    models_pb2,
    relay_pb2,
    responses_pb2,
    traces_pb2,
    usage_pb2,
)

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.boundary.errors import abort
from maniac_core.rpc.boundary.heads import Context
from maniac_core.rpc.boundary.messages import reader

_FILES = (
    chat_pb2,
    containers_pb2,
    datasets_pb2,
    embeddings_pb2,
    evaluators_pb2,
    files_pb2,
    keys_pb2,
    models_pb2,
    relay_pb2,
    responses_pb2,
    traces_pb2,
    usage_pb2,
)
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def service_names() -> tuple[str, ...]:
    """Return the full names of all services of the contract."""
    return tuple(
        service.full_name
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    )


def register(server: grpc.aio.Server, servicers: Mapping[str, object]) -> None:
    """Add all services to a server. `servicers`: short service name -> servicer; methods it lacks are refused."""
    pool = descriptor_pool.Default()
    handlers = []
    for full_name in service_names():
        service = pool.FindServiceByName(full_name)
        servicer = servicers.get(service.name)
        methods = {
            method.name: _handler(method, _implementation(servicer, method.name))
            for method in service.methods
        }
        handlers.append(grpc.method_handlers_generic_handler(full_name, methods))
    server.add_generic_rpc_handlers(tuple(handlers))


def _implementation(servicer: object, name: str) -> Callable[..., Any] | None:
    """Return the servicer's method of that name; servicers do not inherit the generated bases, which define all."""
    method: Callable[..., Any] | None = getattr(servicer, name, None)
    return method


def _handler(method: Any, implementation: Callable[..., Any] | None) -> _Handler:
    make = _MAKERS[method.client_streaming, method.server_streaming]
    handler: _Handler = make(
        implementation or _refuse,
        request_deserializer=reader(method.input_type),
        response_serializer=_serialize,
    )
    return handler


_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _not_served() -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_NOT_IMPLEMENTED, "This deployment does not serve this method."
    )


async def _refuse(_request: object, context: Context) -> NoReturn:
    await abort(context, _not_served())
