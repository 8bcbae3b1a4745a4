"""Internal services over gRPC, against the real core."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway import INTERNAL_KEY, KEY, Gateway
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from maniac_gateway.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    containers_pb2,
    datasets_pb2,
    evaluators_pb2,
    files_pb2,
    keys_pb2,
    keys_pb2_grpc,
    models_pb2,
    traces_pb2,
)
from upstream import Exchange, Upstream, chunk

PAGE = Path(__file__).parents[2] / "docs" / "grpc.md"
METADATA = (("authorization", f"Bearer {KEY}"),)
INTERNAL = (("authorization", f"Bearer {INTERNAL_KEY}"),)


def params(model: str = "mock/m1") -> chat_pb2.ChatCompletionParams:
    return chat_pb2.ChatCompletionParams(
        model=model,
        messages=[chat_pb2.ChatMessage(role="user", text="Hi")],
        include_usage=True,
    )


def create(model: str = "mock/m1") -> chat_pb2.CreateChatCompletionRequest:
    return chat_pb2.CreateChatCompletionRequest(params=params(model))


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason of the one ErrorInfo."""
    infos = []
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            infos.append(info)
    assert [info.domain for info in infos] == ["maniac_gateway"]
    return infos[0].reason


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("number", [0, 1])
def test_the_clients_of_the_page_run_as_printed(gateway: Gateway, number: int) -> None:
    """Both Python clients in docs/grpc.md work when copied from the page."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]
    environ = {
        **os.environ,
        "MANIAC_GRPC": gateway.grpc_target,
        "MANIAC_API_KEY": KEY,
        "MANIAC_MODEL": "mock/m1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    if number == 0:
        assert ran.stdout == "Hello!\nHello!\n12 tokens\n"
    else:
        assert ran.stdout.startswith("NOT_FOUND MODEL_NOT_FOUND\n")


@pytest.mark.usefixtures("upstream")
def test_initial_metadata_names_the_request_and_the_window(gateway: Gateway) -> None:
    """The request id is returned, and the caller's window is announced."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        _, call = chat.CreateChatCompletion.with_call(
            create(), metadata=(*METADATA, ("x-request-id", "abc")), timeout=20
        )
        metadata = dict(call.initial_metadata())

    assert metadata["x-request-id"] == "abc"
    assert int(metadata["x-ratelimit-remaining"]) < int(metadata["x-ratelimit-limit"])


@pytest.mark.parametrize(
    ("metadata", "model", "code", "reason"),
    [
        ((), "mock/m1", "UNAUTHENTICATED", "MISSING_API_KEY"),
        ((("authorization", "Bearer no"),), "mock/m1", "UNAUTHENTICATED", "INVALID_API_KEY"),
        (METADATA, "nobody/nothing", "NOT_FOUND", "MODEL_NOT_FOUND"),
        (METADATA, "maniac:nothing", "NOT_FOUND", "CONTAINER_NOT_FOUND"),
        ((*INTERNAL, ("x-maniac-project", "?")), "mock/m1", "NOT_FOUND", "PROJECT_NOT_FOUND"),
    ],
)
def test_errors_are_statuses_with_one_reason(
    gateway: Gateway, metadata: tuple[tuple[str, str], ...], model: str, code: str, reason: str
) -> None:
    """Every refusal is a google.rpc.Status with one ErrorInfo of the table."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            chat.CreateChatCompletion(create(model), metadata=metadata, timeout=60)

    assert caught.value.code().name == code
    assert reason_of(caught.value) == reason


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"page_size": -1}, "page_size"), ({"skip": -1}, "skip")],
)
def test_a_page_that_cannot_be_is_refused_by_the_name_of_its_field(
    gateway: Gateway, fields: dict[str, int], param: str
) -> None:
    """What HTTP calls `limit` and `offset` has other names in the contract."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            chat.ListChatCompletions(
                chat_pb2.ListChatCompletionsRequest(**fields), metadata=METADATA, timeout=60
            )

    assert reason_of(caught.value) == "VALIDATION_ERROR"
    assert caught.value.details().startswith(f"{param} must be ")


USER = chat_pb2.ChatMessage(role="user", text="Hi")
UNTYPED: dict[str, dict[str, Any]] = {
    "messages[0].role": {"messages": [chat_pb2.ChatMessage(role="robot", text="Hi")]},
    "messages[1].content[0].type": {
        "messages": [
            USER,
            chat_pb2.ChatMessage(
                role="user", parts=chat_pb2.ContentParts(parts=[chat_pb2.ContentPart(type="smell")])
            ),
        ]
    },
    "messages[0].extra_json": {
        "messages": [chat_pb2.ChatMessage(role="user", text="Hi", extra_json=b'{"content":5}')]
    },
    "extra_json": {"extra_json": b'{"n":2}'},
    "tags": {"tags": ["x"] * 257},
    "models": {"models": ["mock/m1"] * 257},
    "temperature": {"temperature": float("nan")},
    "logit_bias": {"logit_bias": {"5": float("inf")}},
    "tools[0].function.name": {"tools": [chat_pb2.Tool()]},
    "tool_choice": {"tool_choice": chat_pb2.ToolChoice(mode="perhaps")},
    "response_format.type": {"response_format": chat_pb2.ResponseFormat(type="xml")},
    "response_format.json_schema": {"response_format": chat_pb2.ResponseFormat(type="json_schema")},
    "reasoning.effort": {"reasoning": chat_pb2.Reasoning(effort="huge")},
    "reasoning.summary": {"reasoning": chat_pb2.Reasoning(summary="epic")},
}


@pytest.mark.parametrize("param", UNTYPED)
def test_values_that_the_types_leave_open_are_checked(
    gateway: Gateway, upstream: Upstream, param: str
) -> None:
    """What JSON is refused for, gRPC is refused for, by the same name, before a provider is called."""
    fields = {"model": "mock/m1", "messages": [USER], **UNTYPED[param]}
    request = chat_pb2.CreateChatCompletionRequest(params=chat_pb2.ChatCompletionParams(**fields))
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.CreateChatCompletion(request, metadata=METADATA, timeout=60)

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(raised.value) in {"INVALID_VALUE", "MISSING_REQUIRED_PARAMETER"}
    info = error_details_pb2.ErrorInfo()
    rpc_status.from_call(raised.value).details[0].Unpack(info)
    assert info.metadata["param"] == param
    assert upstream.exchanges == []


@pytest.mark.usefixtures("upstream")
def test_the_internal_key_works_over_grpc_only(gateway: Gateway) -> None:
    """An internal service names its project and has no window; over HTTP its key is unknown."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        answer, call = chat.CreateChatCompletion.with_call(
            create(), metadata=(*INTERNAL, ("x-maniac-project", "default")), timeout=20
        )
        metadata = dict(call.initial_metadata())
        stored = chat.GetChatCompletion(
            chat_pb2.GetChatCompletionRequest(id=answer.completion.id), metadata=METADATA
        )
    with gateway.client() as client:
        over_http = client.get(
            "/v1/chat/completions", headers={"authorization": f"Bearer {INTERNAL_KEY}"}
        )

    assert "x-ratelimit-limit" not in metadata
    assert stored.completion.completion.id == answer.completion.id
    assert over_http.status_code == 401


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_stops_the_provider(
    gateway: Gateway, upstream: Upstream, *, stream: bool
) -> None:
    """The caller's deadline ends the call of the provider, and the caller gets DEADLINE_EXCEEDED."""

    async def hang(exchange: Exchange) -> None:
        if stream:
            await exchange.begin_stream()
            await exchange.event(chunk("Hel"))
        await exchange.wait_until_gone()

    upstream.handler = hang
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.StreamChatCompletionRequest(params=params())
        with pytest.raises(grpc.RpcError) as caught:
            _ = (
                list(chat.StreamChatCompletion(request, metadata=METADATA, timeout=1))
                if stream
                else chat.CreateChatCompletion(create(), metadata=METADATA, timeout=1)
            )

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert upstream.last.gone.wait(60)


async def test_cancelling_a_stream_stops_the_provider(gateway: Gateway, upstream: Upstream) -> None:
    """A caller that cancels after the first delta lets the provider go."""

    async def endless(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("Hel"))
        await exchange.wait_until_gone()

    upstream.handler = endless
    async with grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        call = chat.StreamChatCompletion(
            chat_pb2.StreamChatCompletionRequest(params=params()), metadata=METADATA, timeout=60
        )
        async for message in call:
            if message.chunk.choices[0].content == "Hel":
                break
        call.cancel()
        assert await asyncio.to_thread(upstream.last.gone.wait, 60)


def test_health_and_reflection_describe_the_services(gateway: Gateway) -> None:
    """The health service reports each service, and reflection describes all of them to whoever has a key."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="maniac_gateway.v1.ChatService"), timeout=10
        )
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = next(
            iter(stub.ServerReflectionInfo(iter([request]), metadata=METADATA, timeout=60))
        )
        names = {service.name for service in listed.list_services_response.service}
        ask = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="maniac_gateway.v1.DatasetService"
        )
        described = next(
            iter(stub.ServerReflectionInfo(iter([ask]), metadata=METADATA, timeout=60))
        )
        file = FileDescriptorProto.FromString(
            described.file_descriptor_response.file_descriptor_proto[0]
        )

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert {"maniac_gateway.v1.ChatService", "maniac_gateway.v1.RelayService"} <= names
    assert file.name == "maniac_gateway/v1/datasets.proto"


def test_methods_that_are_not_served_say_so_from_the_table(gateway: Gateway) -> None:
    """No method of the contract is unknown: what a deployment lacks is UNIMPLEMENTED with its row."""
    files = [
        chat_pb2,
        containers_pb2,
        datasets_pb2,
        evaluators_pb2,
        files_pb2,
        models_pb2,
        traces_pb2,
    ]
    paths = [
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    ]
    assert paths
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        for path in paths:
            call = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", metadata=(("authorization", "Bearer no"),), timeout=60)
            assert reason_of(caught.value) in {"INVALID_API_KEY", "NOT_IMPLEMENTED"}, path


def test_keys_are_managed_by_the_internal_key_only(gateway: Gateway) -> None:
    """An internal service makes, lists and revokes keys; an API key may not."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        keys = keys_pb2_grpc.KeyServiceStub(channel)
        request = keys_pb2.CreateKeyRequest(name="over grpc", project="elsewhere")
        with pytest.raises(grpc.RpcError) as caught:
            keys.CreateKey(request, metadata=METADATA, timeout=60)
        made = keys.CreateKey(request, metadata=INTERNAL, timeout=60)
        listed = keys.ListKeys(
            keys_pb2.ListKeysRequest(project="elsewhere"), metadata=INTERNAL, timeout=10
        )
        revoked = keys.RevokeKey(
            keys_pb2.RevokeKeyRequest(id=made.key.id), metadata=INTERNAL, timeout=10
        )

    assert reason_of(caught.value) == "INSUFFICIENT_SCOPE"
    assert made.secret.startswith(made.key.prefix)
    assert [key.id for key in listed.keys] == [made.key.id]
    assert revoked.key.HasField("revoke_time")


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("service", "method", "request_type"),
    [
        ("ChatService", "ListChatCompletions", chat_pb2.ListChatCompletionsRequest),
        ("ContainerService", "ListContainers", containers_pb2.ListContainersRequest),
        ("ModelService", "ListModels", models_pb2.ListModelsRequest),
        ("FileService", "ListFiles", files_pb2.ListFilesRequest),
        ("TraceService", "ListTraces", traces_pb2.ListTracesRequest),
        ("EvaluatorService", "ListEvaluators", evaluators_pb2.ListEvaluatorsRequest),
        ("DatasetService", "ListDatasets", datasets_pb2.ListDatasetsRequest),
    ],
)
def test_a_page_that_is_too_large_is_the_largest(
    gateway: Gateway, service: str, method: str, request_type: Any
) -> None:
    """As every contract says of its page_size; a negative one is refused."""
    # What other tests captured may be more than a client takes by default.
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(gateway.grpc_target, options) as channel:
        call = channel.unary_unary(
            f"/maniac_gateway.v1.{service}/{method}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=lambda data: data,
        )
        call(request_type(page_size=2**31 - 1), metadata=METADATA, timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            call(request_type(page_size=-1), metadata=METADATA, timeout=60)

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "VALIDATION_ERROR"
