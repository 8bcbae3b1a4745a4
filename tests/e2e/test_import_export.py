"""`maniac-gateway import` and `export`, and the RPCs that do the same."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import INTERNAL_KEY, KEY, Gateway
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc
from upstream import Exchange, Upstream

METADATA = (("authorization", f"Bearer {KEY}"),)
INPUT = {"messages": [{"role": "user", "content": "Hi"}]}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def label(http: httpx.Client) -> str:
    """A container of the test's own."""
    name = f"box-{uuid.uuid4().hex[:8]}"
    made = http.post("/v1/containers", json={"label": name, "initial_model": "mock/m1"})
    assert made.status_code == 200, made.text
    return name


@pytest.fixture
def captured(http: httpx.Client, upstream: Upstream, label: str) -> list[str]:
    """Ids of a completion, one with a tool call, and a failed one, in the container."""

    async def answer(exchange: Exchange) -> None:
        if exchange.json.get("seed") == 13:
            await exchange.respond(400, b'{"error":{"message":"no"}}')
        elif "tools" in exchange.json:
            await exchange.answer(None, tool_calls=[{**CALL, "extra_content": {"x": 1}}])
        else:
            await exchange.answer("Hello!", reasoning="Hm")

    upstream.handler = answer
    extras: list[dict[str, Any]] = [
        {"tags": ["a"], "metadata": {"k": "v"}, "trace": {"id": "t", "span_id": "s"}},
        {"tools": TOOLS, "parallel_tool_calls": False, "metadata": {"k": 2}},
        {"seed": 13},
    ]
    for extra in extras:
        http.post("/v1/chat/completions", json={"model": f"maniac:{label}", **INPUT, **extra})
    listed = http.get("/v1/chat/completions", params={"container": label, "order": "asc"}).json()
    assert len(listed["data"]) == 3
    return [record["id"] for record in listed["data"]]


def exported(gateway: Gateway, *options: str) -> list[Any]:
    return [json.loads(line) for line in run_command(gateway, "export", *options).splitlines()]


def run_import(
    gateway: Gateway, path: Path, container: str, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maniac_core.cli.main", "import", str(path), *options]
    command += [f"--container={container}", f"--data-dir={gateway.data_dir}"]
    command += [f"--config={gateway.config}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_full_export_holds_request_and_record(
    gateway: Gateway, http: httpx.Client, label: str, captured: list[str]
) -> None:
    """Oldest first, with what the list says of each and the request as it was sent."""
    lines = exported(gateway, "--container", label)
    record = http.get(f"/v1/chat/completions/{captured[0]}").json()

    assert [line["output"]["id"] for line in lines] == captured
    assert lines[0]["input"] == {"model": f"maniac:{label}", **INPUT}
    assert lines[1]["input"]["tools"] == TOOLS
    for key in ("created", "model", "provider", "container", "choices", "tags", "metadata"):
        assert lines[0]["output"][key] == record[key]
    assert lines[0]["output"]["usage"]["total_tokens"] == record["usage"]["total_tokens"]
    assert lines[0]["output"]["trace"]["span_id"] == "s"
    assert [line["output"]["status"] for line in lines] == ["completed", "completed", "failed"]


def test_the_fine_tuning_form_has_whole_answers_only(
    gateway: Gateway, label: str, captured: list[str]
) -> None:
    """Messages with the answer at the end, tools, and no key that training does not know."""
    assert len(captured) == 3
    assert exported(gateway, "--container", label, "--format", "fine-tuning") == [
        {"messages": [*INPUT["messages"], {"role": "assistant", "content": "Hello!"}]},
        {
            "messages": [*INPUT["messages"], {"role": "assistant", "tool_calls": [CALL]}],
            "tools": TOOLS,
            "parallel_tool_calls": False,
        },
    ]


def test_an_export_filters_as_the_list_does(
    gateway: Gateway, label: str, captured: list[str]
) -> None:
    """By metadata, whatever the type of its value, and by model; an unknown container is refused, with the nearest."""

    def ids(*options: str) -> list[str]:
        lines = exported(gateway, "--container", f"maniac:{label}", *options)
        return [line["output"]["id"] for line in lines]

    assert ids("--metadata", '{"k": "v"}') == captured[:1]
    assert ids("--metadata", '{"k": 2}', "--model", "mock:m1") == captured[1:2]
    assert ids("--model", "mock/other") == []
    with pytest.raises(AssertionError, match=rf"no container '{label}x'. Did you mean '{label}'"):
        exported(gateway, "--container", f"{label}x")
    with pytest.raises(AssertionError, match="must be a JSON object"):
        exported(gateway, "--metadata", "x")


def test_an_export_longer_than_a_page_is_whole(
    gateway: Gateway, http: httpx.Client, label: str, tmp_path: Path
) -> None:
    """Nothing is left out or doubled at the seams; the file is the owner's only, and nothing else is left."""
    items = [
        {"input": INPUT, "output": {"id": f"{label}-{i}", "created": 1_000 + i // 7, "choices": []}}
        for i in range(250)
    ]
    http.post("/v1/chat/completions/register", json={"container": label, "items": items})
    out = tmp_path / "out.jsonl"
    printed = run_command(gateway, "export", "--container", label, "--out", str(out))

    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["output"]["id"] for line in lines] == [f"{label}-{i}" for i in range(250)]
    assert printed == ""
    assert out.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [out]


def test_what_was_exported_can_be_imported(
    gateway: Gateway, http: httpx.Client, label: str, captured: list[str], tmp_path: Path
) -> None:
    """Into another project: ids, times, usage, tags, metadata and traces are the same; again, nothing happens."""
    project = f"p-{label}"
    secret = run_command(
        gateway, "keys", "create", "--create-project", "--project", project
    ).strip()
    out = tmp_path / "out.jsonl"
    run_command(gateway, "export", "--container", label, "--out", str(out))
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as other:
        other.post("/v1/containers", json={"label": "copy", "initial_model": "mock/m1"})
        first = run_import(gateway, out, "copy", "--project", project)
        second = run_import(gateway, out, "copy", "--project", project)
        copies = [other.get(f"/v1/chat/completions/{each}").json() for each in captured[:2]]
    originals = [http.get(f"/v1/chat/completions/{each}").json() for each in captured[:2]]

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.startswith("copy: 3 inserted, 0 already there, 0 failed")
    assert second.stdout.startswith("copy: 0 inserted, 3 already there, 0 failed")
    assert first.stderr == ""
    own = {"container", "status", "usage_source", "latency_ms", "time_to_first_token_ms"}
    for original, copy in zip(originals, copies, strict=True):
        assert {k: v for k, v in copy.items() if k not in own} == {
            k: v for k, v in original.items() if k not in own
        }


def test_fine_tuning_files_are_imported_and_bad_lines_named(
    gateway: Gateway, http: httpx.Client, label: str, tmp_path: Path
) -> None:
    """The last message of the assistant is the answer; blank lines do not count, bad ones are named and fail."""
    question = INPUT["messages"][0]
    path = tmp_path / "in.jsonl"
    path.write_text(
        json.dumps({"messages": [question, {"role": "assistant", "content": "Yo"}], "tools": TOOLS})
        + "\n\n"
        + json.dumps({"messages": [question]})
        + "\n{\n[1]\n"
        + json.dumps({"input": {"messages": []}})
    )
    ran = run_import(gateway, path, f"maniac:{label}")
    listed = http.get("/v1/chat/completions", params={"container": label, "order": "asc"}).json()
    contents = [
        [choice["message"]["content"] for choice in record["choices"]] for record in listed["data"]
    ]

    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{label}: 2 inserted, 0 already there, 3 failed")
    errors = ran.stderr.splitlines()
    assert [line.removeprefix(f"{path}:").partition(":")[0] for line in errors] == ["4", "5", "6"]
    assert errors[2].endswith("input.messages: must not be empty.")
    assert contents == [["Yo"], []]


def test_an_import_that_cannot_begin_says_why(gateway: Gateway, label: str, tmp_path: Path) -> None:
    """A missing file, an unknown container and an unknown project are told in one line."""
    path = tmp_path / "in.jsonl"
    assert "no such file" in run_import(gateway, path, label).stderr
    path.write_text("")
    assert "There is no container 'nothing'." in run_import(gateway, path, "nothing").stderr
    unknown = run_import(gateway, path, label, "--project", "nothing")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "maniac-gateway: There is no project 'nothing'.\n",
    )


def test_a_terminal_sees_a_bar(gateway: Gateway, label: str, tmp_path: Path) -> None:
    """On a terminal the import draws how far it is, to the end."""
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps({'input': INPUT})}\n" * 100)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "maniac_core.cli.main", "import", str(path)]
    command += [f"--container={label}", f"--data-dir={gateway.data_dir}"]
    ran = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, timeout=120, check=False)
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)

    assert ran.returncode == 0
    assert f"[{'#' * 30}] 100%  100 examples" in drawn
    assert drawn.endswith("\r\n")


def requests(
    container: str | None, items: list[chat_pb2.RegisterItem]
) -> Iterator[chat_pb2.RegisterChatCompletionsRequest]:
    if container is not None:
        yield chat_pb2.RegisterChatCompletionsRequest(container=container)
    for item in items:
        batch = chat_pb2.RegisterItems(items=[item])
        yield chat_pb2.RegisterChatCompletionsRequest(items=batch)


def test_examples_are_registered_over_grpc(gateway: Gateway, label: str) -> None:
    """An internal service gets the same checks, and the counts of its call."""
    metadata = (("authorization", f"Bearer {INTERNAL_KEY}"), ("x-maniac-project", "default"))
    answer = b'{"id":"%s","choices":[{"message":{"role":"assistant","content":"Yo"}}]}'
    items = [
        chat_pb2.RegisterItem(
            index=7,
            input_json=json.dumps(INPUT).encode(),
            output_json=answer % label.encode(),
            tags=["t"],
            metadata_json=b'{"k":1}',
        ),
        chat_pb2.RegisterItem(index=8, input_json=b'{"messages":[{"role":"robot"}]}'),
        chat_pb2.RegisterItem(index=9),
    ]
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        result = chat.RegisterChatCompletions(requests(label, items), metadata=metadata)
        stored = chat.GetChatCompletion(
            chat_pb2.GetChatCompletionRequest(id=label), metadata=METADATA
        ).completion

    assert (result.container, result.received, result.inserted, result.failed) == (label, 3, 1, 2)
    assert [(error.index, error.code) for error in result.errors] == [
        (8, "invalid_value"),
        (9, "invalid_json"),
    ]
    assert result.errors[0].param == "input.messages[0].role"
    assert stored.status == chat_pb2.COMPLETION_STATUS_REGISTERED
    assert (list(stored.tags), stored.metadata_json) == (["t"], b'{"k":1}')


def test_registering_over_grpc_needs_the_container_first(gateway: Gateway, label: str) -> None:
    """Items before it, it twice, nothing at all and an unknown one are refused."""
    item = chat_pb2.RegisterItem(input_json=b"{}")
    twice = [*requests(label, []), *requests(label, [])]
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)

        def code(messages: Any) -> str:
            with pytest.raises(grpc.RpcError) as caught:
                chat.RegisterChatCompletions(iter(messages), metadata=METADATA, timeout=60)
            return str(caught.value.code().name)

        assert code(requests(None, [item])) == "INVALID_ARGUMENT"
        assert code(twice) == "INVALID_ARGUMENT"
        assert code([]) == "INVALID_ARGUMENT"
        assert code(requests("nothing", [item])) == "NOT_FOUND"


def test_completions_are_exported_over_grpc(
    gateway: Gateway, label: str, captured: list[str]
) -> None:
    """The same lines as the command writes, in either form; a bad filter is refused before anything comes."""
    wanted = chat_pb2.CompletionFilter(container=label)
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        chat = chat_pb2_grpc.ChatServiceStub(channel)

        def text(form: Any) -> str:
            request = chat_pb2.ExportChatCompletionsRequest(filter=wanted, format=form)
            pieces = chat.ExportChatCompletions(request, metadata=METADATA, timeout=60)
            return b"".join(piece.chunk for piece in pieces).decode()

        full = text(chat_pb2.EXPORT_FORMAT_UNSPECIFIED)
        training = text(chat_pb2.EXPORT_FORMAT_FINE_TUNING)
        bad = chat_pb2.CompletionFilter(metadata_json=b"[]")
        with pytest.raises(grpc.RpcError) as caught:
            list(
                chat.ExportChatCompletions(
                    chat_pb2.ExportChatCompletionsRequest(filter=bad), metadata=METADATA
                )
            )

    assert [json.loads(line)["output"]["id"] for line in full.splitlines()] == captured
    command = run_command(gateway, "export", "--container", label, "--format", "fine-tuning")
    assert training == command
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
