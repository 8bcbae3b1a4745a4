"""Whatever comes over gRPC ends in a status of the error table: never in a fault of ours, never in a dead core."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from gateway import INTERNAL_KEY, KEY, Gateway
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from maniac_core.rpc.boundary.register import service_names
from upstream import Upstream

_FAULTS = {
    *(grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS),
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_METADATA = (("authorization", f"Bearer {KEY}"),)
_INTERNAL = (("authorization", f"Bearer {INTERNAL_KEY}"),)
# Made keys and relays would outlive the test.
_LEFT_OUT = {"CreateKey", "Relay"}
_SETTINGS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
_METHODS = [
    method
    for service in service_names()
    for method in descriptor_pool.Default().FindServiceByName(service).methods
    if method.name not in _LEFT_OUT
]
_TEXTS = st.one_of(
    st.sampled_from(["", "a", "mock/m1", "maniac:x", "\0", "%", "../..", "x" * 5000, "\U0001f600"]),
    st.text(max_size=20),
)
_JSON = st.sampled_from(
    [
        *(b"", b"{}", b"[]", b"null", b"1e999", b"{", b'{"a":1e999}', b'"\\ud800"', b"\xff"),
        *(b"9" * 5000, b"[" * 2000, b'{"a":' * 300 + b"1" + b"}" * 300, b'{"a":NaN}'),
    ]
)
_NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)])
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: _TEXTS,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: _NUMBERS,
    FieldDescriptor.CPPTYPE_INT64: st.one_of(_NUMBERS, st.sampled_from([2**63 - 1, -(2**63)])),
    FieldDescriptor.CPPTYPE_UINT32: st.sampled_from([0, 1, 2**32 - 1]),
    FieldDescriptor.CPPTYPE_UINT64: st.sampled_from([0, 1, 2**64 - 1]),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 12),
}


def _fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if not draw(st.integers(0, 2)):
            continue
        if field.message_type is not None:
            _fill_messages(draw, message, field, depth)
            continue
        strategy = _JSON if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS[field.cpp_type]
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(strategy, max_size=3)))
        else:
            setattr(message, field.name, draw(strategy))


def _fill_messages(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    if depth > 4:
        return
    inner = field.message_type
    assert inner is not None
    if inner.GetOptions().map_entry:
        return
    if field.is_repeated:
        for _ in range(draw(st.integers(0, 3))):
            _fill(draw, getattr(message, field.name).add(), depth + 1)
    else:
        part = getattr(message, field.name)
        part.SetInParent()
        _fill(draw, part, depth + 1)


@st.composite
def _messages(draw: st.DrawFn, descriptor: Descriptor) -> bytes:
    """A request with any of its fields, any way; sometimes with a few of its bytes changed or cut off."""
    message = GetMessageClass(descriptor)()
    _fill(draw, message, 0)
    data = bytearray(message.SerializeToString())
    if data and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@pytest.fixture(scope="module")
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        yield channel


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_any_message_is_answered(
    gateway: Gateway, upstream: Upstream, channel: grpc.Channel, method: MethodDescriptor
) -> None:
    """Every method, with messages that nobody would send."""
    del upstream
    service = method.containing_service
    assert service is not None
    path = f"/{service.full_name}/{method.name}"
    call: Any = channel.stream_stream(path, request_serializer=None, response_deserializer=None)
    before = len(gateway.output())
    metadata = _INTERNAL if service.name == "KeyService" else _METADATA

    @seed(1)
    @_SETTINGS
    @given(st.lists(_messages(method.input_type), min_size=1, max_size=3))
    def run(messages: list[bytes]) -> None:
        sent = messages if method.client_streaming else messages[:1]
        running = call(iter(sent), metadata=metadata, timeout=30)
        with contextlib.suppress(grpc.RpcError):
            for _ in running:
                pass
        assert running.code() not in _FAULTS, (running.details(), sent)

    run()
    logged = gateway.output()[before:]
    assert "failed unexpectedly" not in logged
    assert "Traceback" not in logged
