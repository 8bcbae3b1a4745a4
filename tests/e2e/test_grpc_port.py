"""The gRPC port and callers that mean harm: nothing is read before a credential is seen, nothing unreadable is a fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway import CONFIG, KEY, Gateway
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc, relay_pb2, relay_pb2_grpc
from upstream import Upstream

METADATA = (("authorization", f"Bearer {KEY}"),)
RELAY_VERSION = (("x-maniac-relay-version", "2"),)
CHAT = "/maniac_gateway.v1.ChatService/"


def flood(count: int) -> bytes:
    """Return a request with so many empty messages: two bytes each on the wire, a hundred times that once parsed."""
    one = chat_pb2.ChatCompletionParams(messages=[chat_pb2.ChatMessage()]).SerializeToString()
    assert len(one) == 2
    content = one * count
    length, size = bytearray(), len(content)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    empty = chat_pb2.CreateChatCompletionRequest(params=chat_pb2.ChatCompletionParams())
    return empty.SerializeToString()[:1] + bytes(length) + content


@pytest.fixture
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(gateway.grpc_target, options=options) as channel:
        yield channel


class Cost:
    """What the core has used since this was made."""

    def __init__(self, gateway: Gateway) -> None:
        (self._pid,) = gateway.children(" core")
        # So that the peak is that of what follows.
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        self._memory, self._cpu = self._peak_mb(), self._cpu_s()

    def cpu_s(self) -> float:
        """CPU time since then, in seconds."""
        return self._cpu_s() - self._cpu

    def memory_mb(self) -> float:
        """Growth of the peak of memory since then, in MiB."""
        return self._peak_mb() - self._memory

    def _peak_mb(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raw(channel: grpc.Channel, method: str) -> Callable[..., Any]:
    """Return a unary method that takes bytes as they are."""
    return channel.unary_unary(method, request_serializer=None, response_deserializer=None)


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason of the ErrorInfo."""
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    raise AssertionError(f"no ErrorInfo: {error}")


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer nobody"),)])
def test_a_message_without_a_good_key_is_never_parsed(
    gateway: Gateway, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]
) -> None:
    """16 MB of empty messages would take a gigabyte and seconds; without a key they take nothing."""
    cost = Cost(gateway)
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, CHAT + "CreateChatCompletion")(flood(8_000_000), metadata=metadata, timeout=30)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert cost.memory_mb() < 64
    assert cost.cpu_s() < 1


def test_a_message_of_too_many_fields_is_refused_before_it_is_parsed(
    gateway: Gateway, channel: grpc.Channel
) -> None:
    """A caller with a key cannot make a small message take a gigabyte either."""
    cost = Cost(gateway)
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, CHAT + "CreateChatCompletion")(flood(8_000_000), metadata=METADATA, timeout=30)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_VALUE"
    assert "fields" in caught.value.details()
    assert cost.memory_mb() < 128
    assert cost.cpu_s() < 2


@pytest.mark.parametrize(
    ("field", "params"),
    [
        (
            "messages",
            chat_pb2.ChatCompletionParams(messages=[chat_pb2.ChatMessage(role="user")] * 10_001),
        ),
        (
            "tools",
            chat_pb2.ChatCompletionParams(
                messages=[chat_pb2.ChatMessage(role="user", text="Hi")],
                tools=[chat_pb2.Tool(name="f")] * 1_001,
            ),
        ),
    ],
)
def test_more_items_than_a_request_may_hold_are_an_error_that_names_the_field(
    channel: grpc.Channel, field: str, params: chat_pb2.ChatCompletionParams
) -> None:
    """The caps are checked before anything is made of the items."""
    params.model = "mock/m1"
    with pytest.raises(grpc.RpcError) as caught:
        chat_pb2_grpc.ChatServiceStub(channel).CreateChatCompletion(
            chat_pb2.CreateChatCompletionRequest(params=params), metadata=METADATA, timeout=30
        )

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in caught.value.details()


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff", b"\x0f\x01", b"\x00"])
@pytest.mark.parametrize("method", ["CreateChatCompletion", "GetChatCompletion"])
def test_a_message_that_cannot_be_parsed_is_the_callers_error(
    gateway: Gateway, channel: grpc.Channel, method: str, data: bytes
) -> None:
    """INVALID_ARGUMENT with its reason, one line in the log, and no traceback."""
    before = gateway.output()
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, CHAT + method)(data, metadata=METADATA, timeout=10)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_VALUE"
    logged = gateway.output().removeprefix(before)
    assert "Traceback" not in logged
    assert logged.count("could not be parsed") == 1


@pytest.mark.parametrize(
    "method",
    [
        CHAT + "StreamChatCompletion",
        CHAT + "RegisterChatCompletions",
        "/maniac_gateway.v1.FileService/CreateFile",
    ],
)
def test_so_is_one_in_a_stream(gateway: Gateway, channel: grpc.Channel, method: str) -> None:
    """The same for methods that stream, either way."""
    before = gateway.output()
    call: Any = channel.stream_stream(method, request_serializer=None, response_deserializer=None)
    with pytest.raises(grpc.RpcError) as caught:
        next(call(iter([b"\xff\xff\xff"]), metadata=METADATA, timeout=10))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_VALUE"
    assert "Traceback" not in gateway.output().removeprefix(before)


@pytest.mark.parametrize("metadata", [(), METADATA, (("x-maniac-edge-key", "guess"),)])
def test_only_an_edge_may_open_a_relay(
    gateway: Gateway, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Neither a key nor a guess makes an edge, and the frames that come along are not read."""
    start = relay_pb2.RelayRequestFrame(call_id=1, start=relay_pb2.RelayStart())
    message = relay_pb2.RelayRequest(frames=[start] * 200_000)
    cost = Cost(gateway)
    with pytest.raises(grpc.RpcError) as caught:
        next(relay_pb2_grpc.RelayServiceStub(channel).Relay(iter([message]), metadata=metadata))

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "MANIAC_EDGE_KEY" in caught.value.details()
    assert cost.memory_mb() < 64
    assert cost.cpu_s() < 1


@pytest.mark.parametrize("metadata", [(), (("x-maniac-relay-version", "1"),)])
def test_an_edge_of_another_version_gets_no_relay(
    gateway: Gateway, metadata: tuple[tuple[str, str], ...]
) -> None:
    """One that came before versions were told takes UNIMPLEMENTED for a core without relay, and goes on without."""
    target = f"unix:{gateway.data_dir / 'core.sock'}"
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as caught:
        next(relay_pb2_grpc.RelayServiceStub(channel).Relay(iter([]), metadata=metadata))

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "version 2" in caught.value.details()


def test_an_edge_cannot_send_more_frames_than_an_edge_does(
    gateway: Gateway, upstream: Upstream
) -> None:
    """A relay message of very many frames ends the stream, before a call is made of any of them."""
    del upstream
    target = f"unix:{gateway.data_dir / 'core.sock'}"
    start = relay_pb2.RelayRequestFrame(call_id=1, start=relay_pb2.RelayStart())
    with grpc.insecure_channel(target) as channel:
        message = relay_pb2.RelayRequest(frames=[start] * 1025)
        with pytest.raises(grpc.RpcError) as caught:
            for _ in relay_pb2_grpc.RelayServiceStub(channel).Relay(
                iter([message]), metadata=RELAY_VERSION
            ):
                pass

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "frames" in caught.value.details()


def test_json_of_a_caller_that_is_not_an_edge_is_measured(
    gateway: Gateway, channel: grpc.Channel
) -> None:
    """An edge has bounded what it sends; what anyone else sends is bounded before it is decoded."""
    call = relay_pb2_grpc.RelayServiceStub(channel).Call
    start = relay_pb2.RelayStart(
        wire=relay_pb2.RELAY_WIRE_CHAT, body=b'{"tools":[' + b"{}," * 300_000
    )
    cost = Cost(gateway)
    with pytest.raises(grpc.RpcError) as caught:
        next(call(relay_pb2.CallRequest(start=start), metadata=METADATA))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "objects and arrays" in caught.value.details()
    assert cost.memory_mb() < 64


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"messages":[5]}', b'{"messages":[{"role":"user"}]}']
)
def test_a_call_that_no_edge_makes_is_refused(
    gateway: Gateway, channel: grpc.Channel, body: bytes
) -> None:
    """Whatever stands where a request should be, the answer is a refusal that the contract has."""
    before = gateway.output()
    call = relay_pb2_grpc.RelayServiceStub(channel).Call
    codes = []
    for start in (
        relay_pb2.RelayStart(body=body),
        relay_pb2.RelayStart(wire=relay_pb2.RELAY_WIRE_CHAT, body=body),
        relay_pb2.RelayStart(wire=relay_pb2.RELAY_WIRE_CHAT, body=body, stream=True),
        relay_pb2.RelayStart(replay=relay_pb2.RelayReplay(id="nothing")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            next(call(relay_pb2.CallRequest(start=start), metadata=METADATA))
        codes.append(caught.value.code().name)

    assert codes == ["UNIMPLEMENTED", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "NOT_FOUND"]
    assert "Traceback" not in gateway.output().removeprefix(before)


def test_health_needs_no_key_and_reads_no_message(gateway: Gateway, channel: grpc.Channel) -> None:
    """Probes have no key. What they send is not read, so it cannot do harm."""
    cost = Cost(gateway)
    stub = health_pb2_grpc.HealthStub(channel)
    for size in (0, 16 * 1024 * 1024):
        answer = stub.Check(health_pb2.HealthCheckRequest(service="x" * size), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    assert cost.memory_mb() < 64


def test_reflection_needs_a_key(channel: grpc.Channel) -> None:
    """What the core serves is not told to strangers."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.ServerReflectionInfo(iter([request]), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    answer = next(stub.ServerReflectionInfo(iter([request]), timeout=10, metadata=METADATA))
    assert answer.list_services_response.service


def test_the_clients_address_counts_only_from_an_edge(
    upstream: Upstream, start_gateway: Callable[..., Gateway]
) -> None:
    """A caller without a key is counted by its own address, whatever it claims."""
    config = CONFIG.format(base_url=upstream.base_url).replace("1000000", "3")
    gateway = start_gateway(config)
    codes = []
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        for i in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                chat.ListChatCompletions(
                    chat_pb2.ListChatCompletionsRequest(),
                    metadata=(("x-maniac-client-address", f"10.0.0.{i}"),),
                    timeout=10,
                )
            codes.append(caught.value.code().name)

    assert codes == ["UNAUTHENTICATED"] * 3 + ["RESOURCE_EXHAUSTED"] * 2
