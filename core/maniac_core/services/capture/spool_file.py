"""The spool's files: one record a line, each with its length and checksum, so that what was cut off costs only itself.

`records.jsonl` holds what waits for the database, `set-aside.jsonl` what the database refuses. Both have the same form,
so that a record can be put back by moving its line. Everything here blocks.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import CompletionRecord

WAITING = "records.jsonl"
SET_ASIDE = "set-aside.jsonl"
_BLOCK_BYTES = 1024 * 1024
_NULL = b"null"
_encode = msgspec.json.Encoder().encode
_FRAME = re.compile(rb'\[(\d+),"([0-9a-f]{8})",')
# How every record begins that the version before frames wrote. Within a record it can only stand in foreign JSON.
_BARE = b'{"id":"'


class _Trace(Trace, frozen=True, kw_only=True):
    """A trace as it is read back: of JSON that is kept as text and may be missing, msgspec decodes only what is missing."""

    metadata: msgspec.Raw = msgspec.Raw(_NULL)


class _Record(CompletionRecord, frozen=True, kw_only=True):
    trace: _Trace | None = None


_decode = msgspec.json.Decoder(_Record).decode


class Waiting(msgspec.Struct):
    """A record that waits, and the line that holds it."""

    record: CompletionRecord
    line: bytes
    failures: int = 0
    """How often the database did not take it while it took others."""


class Read(msgspec.Struct, frozen=True):
    """The form of the lines."""

    records: list[Waiting]
    damaged: list[bytes]
    """Lines that are complete and hold no record: the file was changed by something else."""
    torn: int
    """How many records were cut off while they were written, which nobody was answered for."""


def frame(record: CompletionRecord) -> bytes:
    """Return the line that holds a record: a JSON array of its length in bytes, its CRC-32 and itself."""
    # A caller's JSON is kept as it came, and may have line breaks between its values.
    text = _encode(record).replace(b"\n", b" ").replace(b"\r", b" ")
    return b'[%d,"%08x",%b]\n' % (len(text), zlib.crc32(text), text)


def read_lines(lines: Iterable[bytes]) -> Read:
    """Return what lines hold, those of earlier versions included: these had neither length nor checksum."""
    read = Read([], [], 0)
    torn = 0
    for line in lines:
        text = line.strip()
        if text.startswith(b"{"):
            torn += _read_bare(text, read)
        elif text:
            torn += _read_frame(text, read)
    return msgspec.structs.replace(read, torn=torn)


def _read_frame(text: bytes, read: Read) -> bool:
    """Add what a line holds; return whether it was cut off."""
    match = _FRAME.match(text)
    if match is None:
        # Cut off within the first few bytes, or no line of ours.
        if len(text) > len(b'[1000000000,"00000000",'):
            read.damaged.append(text + b"\n")
            return False
        return True
    body = text[match.end() : match.end() + int(match[1])]
    if len(body) < int(match[1]):
        return True
    if zlib.crc32(body) == int(match[2], 16) and (record := _record(body)) is not None:
        read.records.append(Waiting(record, text + b"\n"))
    else:
        read.damaged.append(text + b"\n")
    return False


def _read_bare(text: bytes, read: Read) -> bool:
    """Add what a line of an earlier version holds; one that was cut off there has the next record behind it."""
    start = 0
    while start >= 0:
        if (record := _record(text[start:])) is not None:
            read.records.append(Waiting(record, frame(record)))
            return start > 0
        start = text.find(_BARE, start + 1)
    return True


def _record(text: bytes) -> CompletionRecord | None:
    try:
        read = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    trace = None
    if read.trace is not None:
        metadata = bytes(read.trace.metadata)
        trace = Trace(
            **{
                **msgspec.structs.asdict(read.trace),
                "metadata": None if metadata == _NULL else msgspec.Raw(metadata),
            }
        )
    return CompletionRecord(**{**msgspec.structs.asdict(read), "trace": trace})


class SpoolFile:
    """The files of one core."""

    def __init__(self, folder: Path) -> None:
        self.waiting = folder / WAITING
        self.refused = folder / SET_ASIDE

    def append(self, record: CompletionRecord) -> None:
        """Add a record; once this returns it is on the disk.

        Raises:
            OSError: it is not; what there is of it is taken away again, if possible.
            ValueError: it cannot be written as JSON.
        """
        _append(self.waiting, frame(record))

    def read(self, offset: int) -> tuple[Read, int]:
        """Return what stands behind an offset, about a megabyte of it, and the offset behind that."""
        with self.waiting.open("rb") as file:
            file.seek(offset)
            lines = file.readlines(_BLOCK_BYTES)
            return read_lines(lines), file.tell()

    def remove(self) -> None:
        """Remove the file of what waits: nothing does any more."""
        self.waiting.unlink()
        _sync_folder(self.waiting.parent)

    def set_aside(self, lines: Iterable[bytes]) -> int:
        """Keep lines in the other file, those that are there already only once; return how many were added."""
        known = self.refused.read_bytes() if self.refused.exists() else b""
        new = [line for line in dict.fromkeys(lines) if line not in known]
        if new:
            _append(self.refused, b"".join(new))
        return len(new)

    def count_set_aside(self) -> int:
        """Return how many records were set aside and not taken away since."""
        return count_records(self.refused)


def count_records(path: Path) -> int:
    """Return how many lines a spool file has; 0 when it is not there."""
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except FileNotFoundError:
        return 0


def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # Cut off, by a full disk or the end of a process: what comes now must not be taken for its rest.
            data = b"\n" + data
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(path.parent)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # A disk that becomes full takes a part first.
        left = left[os.write(descriptor, left) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
