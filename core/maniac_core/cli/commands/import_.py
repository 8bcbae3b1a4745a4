"""`maniac-gateway import`: registers the examples of a JSONL file in a container.

A line is an item of a registration (`input`, `output`, `tags`, `metadata`), as `export` writes it, or OpenAI's
fine-tuning form (`messages`, `tools`), whose last message is the answer if the assistant wrote it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from maniac_core.cli.collection import open_collection
from maniac_core.cli.progress import Progress
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.examples import Example, RegistrationResult
from maniac_core.services.history.registration import Registration

_BATCH = 64


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    input: msgspec.Raw
    output: msgspec.Raw = msgspec.Raw(b"null")
    tags: list[str] | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    role: str


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_encode = msgspec.json.Encoder().encode


def run(arguments: argparse.Namespace) -> int:
    """Register everything and return the exit status: 1 if anything failed."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    with path.open("rb") as file:
        async with open_collection(arguments) as collection:
            await collection.require_container(arguments.container)
            registration = await collection.registrar.open(collection.call, arguments.container)
            await _import(file, registration)
    for error in registration.result.errors:
        sys.stderr.write(f"{path}:{error.index}: {error.message}\n")
    _report(registration.result, registration.container)
    return 1 if registration.result.failed else 0


async def _import(file: BinaryIO, registration: Registration) -> None:
    progress = Progress(sys.stderr, os.fstat(file.fileno()).st_size)
    batch: list[Example] = []
    for number, line in _lines(file):
        try:
            batch.append(_example(line, number))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            error = GatewayError(
                Reason.ERROR_REASON_INVALID_VALUE, f"This is not an example: {err}."
            )
            registration.refuse(number, error)
        if len(batch) == _BATCH:
            await registration.add(batch)
            batch = []
            progress.show(file.tell(), registration.result.received)
    await registration.add(batch)
    progress.end(file.tell(), registration.result.received)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):
        if stripped := line.strip():
            yield number, stripped


def _example(line: bytes, number: int) -> Example:
    """Return a line's example.

    Raises:
        msgspec.DecodeError: it is not JSON, or not an object of either form.
    """
    members = _decode_members(line)
    if "messages" in members and "input" not in members:
        return _of_fine_tuning(members, number)
    item = _decode_item(line)
    return Example(
        index=number,
        input=bytes(item.input),
        output=_given(item.output),
        tags=tuple(item.tags or ()),
        metadata=_given(item.metadata),
    )


def _of_fine_tuning(members: dict[str, msgspec.Raw], number: int) -> Example:
    messages = _decode_messages(members["messages"])
    output = None
    if messages and _decode_message(messages[-1]).role == "assistant":
        output = _encode({"choices": [{"index": 0, "message": messages.pop()}]})
    return Example(index=number, input=_encode({**members, "messages": messages}), output=output)


def _given(value: msgspec.Raw) -> bytes | None:
    text = bytes(value)
    return None if text == b"null" else text


def _report(result: RegistrationResult, container: str) -> None:
    usage = result.usage
    sys.stdout.write(
        f"{container}: {result.inserted:,} inserted, {result.skipped:,} already there, "
        f"{result.failed:,} failed; {usage.prompt_tokens:,} prompt and "
        f"{usage.completion_tokens:,} completion tokens\n"
    )
