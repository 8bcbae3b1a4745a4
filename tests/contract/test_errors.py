"""The published contracts: the error table is complete, and what is printed from the contracts is fresh."""

from __future__ import annotations

import filecmp
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from maniac_gateway.v1 import errors_pb2

ROOT = Path(__file__).parents[2]
REASONS = errors_pb2.ErrorReason.DESCRIPTOR.values
# `error.type` of the HTTP contract is a closed set.
TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
}


def run(*command: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, timeout=150)


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """The contracts as protoc reads them, comments included."""
    parsed = tmp_path_factory.mktemp("contracts") / "set.binpb"
    sources = sorted((ROOT / "proto/maniac_gateway/v1").glob("*.proto"))
    options = [
        f"--proto_path={ROOT / 'proto'}",
        "--include_source_info",
        f"--descriptor_set_out={parsed}",
    ]
    run("-m", "grpc_tools.protoc", *options, *sources)
    return list(FileDescriptorSet.FromString(parsed.read_bytes()).file)


@pytest.mark.parametrize(
    "number", [value.number for value in REASONS], ids=[v.name for v in REASONS]
)
def test_every_reason_has_a_complete_row(number: int) -> None:
    """No reason can be raised that one of the surfaces has no answer for."""
    options = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number[number].GetOptions()
    assert options.HasExtension(errors_pb2.error_mapping)
    row = options.Extensions[errors_pb2.error_mapping]
    assert 1 <= row.grpc_code <= 16
    assert 400 <= row.http_status <= 599
    assert row.type in TYPES
    assert row.code == row.code.strip() != ""


def test_a_code_belongs_to_one_reason_and_is_its_name() -> None:
    """A client that reads the code over REST and one that reads the reason over gRPC see the same names."""
    named = {
        value.name.removeprefix("ERROR_REASON_").lower(): value.GetOptions()
        .Extensions[errors_pb2.error_mapping]
        .code
        for value in REASONS
        if value.number != errors_pb2.ERROR_REASON_UNSPECIFIED
    }
    assert [pair for pair in named.items() if pair[0] != pair[1]] == []


def test_the_page_of_errors_is_fresh(tmp_path: Path) -> None:
    """docs/errors.md says what the table says."""
    page = tmp_path / "errors.md"
    run("docs/generate_errors.py", "--out", page)
    assert page.read_text() == (ROOT / "docs/errors.md").read_text(), (
        "run: python docs/generate_errors.py"
    )


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    """The committed package is what the contracts give, no file more or less."""
    run("proto/generate.py", "--out", tmp_path)
    fresh = tmp_path / "maniac_gateway"
    committed = ROOT / "proto/gen/maniac_gateway"
    names = files_of(fresh)
    assert files_of(committed) == names, "run: python proto/generate.py"
    _, differing, unreadable = filecmp.cmpfiles(fresh, committed, names, shallow=False)
    assert [*differing, *unreadable] == [], "run: python proto/generate.py"


def files_of(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def test_every_rpc_is_documented_with_its_request_and_response(
    contracts: list[FileDescriptorProto],
) -> None:
    """Another team can write a client from the contracts alone: nothing that a call touches is unexplained."""
    comments = {name: text for file in contracts for name, text in comments_of(file)}
    wanted = {name for file in contracts for name in names_of_calls(file)}
    assert len(wanted) > 100
    assert sorted(name for name in wanted if not comments[name]) == []


def names_of_calls(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield f".{file.package}.{service.name}"
        for method in service.method:
            yield f".{file.package}.{service.name}.{method.name}"
            yield method.input_type
            yield method.output_type


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Give the comment of each top-level message, service and RPC, by its full name."""
    texts = {
        tuple(location.path): location.leading_comments.strip()
        for location in file.source_code_info.location
    }
    messages, services = (
        FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
        FileDescriptorProto.SERVICE_FIELD_NUMBER,
    )
    methods = ServiceDescriptorProto.METHOD_FIELD_NUMBER
    for at, message in enumerate(file.message_type):
        yield f".{file.package}.{message.name}", texts[messages, at]
    for at, service in enumerate(file.service):
        yield f".{file.package}.{service.name}", texts[services, at]
        for nth, method in enumerate(service.method):
            name = f".{file.package}.{service.name}.{method.name}"
            yield name, texts[services, at, methods, nth]
