"""Print docs/errors.md from the error table in proto/maniac_gateway/v1/errors.proto.

Run it after each change of the table, once the contracts are regenerated: `python docs/generate_errors.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import grpc
import grpc_tools
from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc
from maniac_gateway.v1 import errors_pb2

DOCS = Path(__file__).resolve().parent
PROTO = DOCS.parent / "proto"
PREFIX = "ERROR_REASON_"
INTRODUCTION = """\
# Errors

<!-- Printed by docs/generate_errors.py from proto/maniac_gateway/v1/errors.proto: change the table there. -->

Every failed request has one reason, and the reason alone decides how the failure looks on each surface.

**REST.**
The status is the one below and the body is always `{"error": {"message", "type", "param", "code", "details"}}`.
`param` is null when the error is not about one field.
With status 422 the body also has `detail`, an array with one `{"loc", "msg", "type"}` per invalid field.
A stream that has already begun keeps its status 200: the error comes as one `data:` frame, followed by `data: [DONE]`.

**gRPC.**
The status is `google.rpc.Status` with exactly one `ErrorInfo`: `domain` is `maniac_gateway`, `reason` is the code in capitals.
Invalid fields are listed in a `BadRequest`, and a `RetryInfo` says how long to wait where that is known.

**Retry.**
*yes*: the same request may succeed later; `Retry-After`, where it is sent, is in whole seconds.
*no*: it will fail again until something is changed.
Statuses that clients retry by themselves (408, 409, 429 and 5xx) then carry `x-should-retry: false`.
"""
HEAD = """
| code | type | gRPC status | retry | meaning |
|---|---|---|---|---|
"""


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "errors.md", help="file to write")
    out: Path = parser.parse_args().out
    out.write_text(render(), encoding="utf-8")
    return 0


def render() -> str:
    """Return the page: one section per HTTP status, in each the order of the enum."""
    meanings = _comments()
    sections: dict[int, list[str]] = {}
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values:
        # The unset value is a fault of the sender, answered as INTERNAL_ERROR; no client ever sees it.
        if value.number == errors_pb2.ERROR_REASON_UNSPECIFIED:
            continue
        row = value.GetOptions().Extensions[errors_pb2.error_mapping]
        cells = (
            f"`{row.code}`",
            f"`{row.type}`",
            _status_name(row.grpc_code),
            "yes" if row.retryable else "no",
            meanings[value.name],
        )
        sections.setdefault(row.http_status, []).append(f"| {' | '.join(cells)} |\n")
    return INTRODUCTION + "".join(
        f"\n## {status}\n{HEAD}{''.join(sections[status])}" for status in sorted(sections)
    )


def _status_name(code: int) -> str:
    return next(status.name for status in grpc.StatusCode if status.value[0] == code)


def _comments() -> dict[str, str]:
    """Return the comment of each reason in one line; the generated code does not carry comments."""
    file = _parse("maniac_gateway/v1/errors.proto")
    number, enum = next(
        (number, enum) for number, enum in enumerate(file.enum_type) if enum.name == "ErrorReason"
    )
    # A location's path is made of field numbers and positions of the descriptor.
    path = [
        FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER,
        number,
        EnumDescriptorProto.VALUE_FIELD_NUMBER,
    ]
    return {
        enum.value[location.path[3]].name: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if len(location.path) == len(path) + 1 and list(location.path[:-1]) == path
    }


def _parse(source: str) -> FileDescriptorProto:
    with tempfile.TemporaryDirectory() as scratch:
        parsed = Path(scratch) / "set.binpb"
        status: int = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTO}",
                f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={parsed}",
                source,
            ]
        )
        if status:
            sys.exit(status)
        return FileDescriptorSet.FromString(parsed.read_bytes()).file[0]


if __name__ == "__main__":
    sys.exit(main())
