"""CoreUpload: one upload to the core, and why the core refused it, whenever it did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
from maniac_gateway.v1 import files_pb2

from maniac_edge.context import RequestContext
from maniac_edge.core.client import CoreClient, failed, finish
from maniac_edge.errors import EdgeError

_T = TypeVar("_T")
_STATUS_WAIT_S = 1.0


class CoreUpload:
    """A call of CreateFile. Every method raises EdgeError once the core has refused or failed. Whoever made it closes it.

    The core may end the call while a message is on its way. grpc.aio then reports INTERNAL for the message that could
    not be sent, and what the core said is replaced by that, or replaces it a moment later. So the first status is
    noted as it comes, and a later one is waited for if the first says nothing.
    """

    def __init__(self, core: CoreClient, context: RequestContext, timeout_s: float) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the core has ended the call."""
        self._context = context
        self._status: grpc.aio.AioRpcError | None = None
        self._call: Any = core.files.CreateFile(timeout=timeout_s, metadata=core.metadata(context))
        self._call.add_done_callback(self._note_end)

    async def open(self) -> None:
        """Wait until the core has let the caller pass its gates."""
        if not await self._call.initial_metadata():
            raise await self.refusal()

    async def describe(self, filename: str, purpose: str) -> None:
        """Say what the file is."""
        metadata = files_pb2.FileMetadata(filename=filename, purpose=purpose)
        await self._write(files_pb2.CreateFileRequest(metadata=metadata))

    async def write(self, chunk: bytes) -> None:
        """Send the next bytes; waits while the core is slower."""
        await self._write(files_pb2.CreateFileRequest(chunk=chunk))

    async def finish(self, size_bytes: int) -> files_pb2.File:
        """Complete the file, of which so many bytes were sent, and return it once it is stored."""
        end = files_pb2.FileEnd(size_bytes=size_bytes)
        await self._write(files_pb2.CreateFileRequest(end=end))
        try:
            await self._call.done_writing()
        except grpc.aio.InternalError as err:
            raise await self.refusal() from err
        response: files_pb2.CreateFileResponse = await finish(self._call, self._context)
        return response.file

    async def refusal(self) -> EdgeError:
        """Return why the core has ended the call."""
        if self._status is None or _says_nothing(self._status):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_WAIT_S):
                    await self._wait_for_status()
        assert self._status is not None
        return failed(self._status, self._context)

    def close(self) -> None:
        """End the call if it still runs; the core then keeps nothing of it."""
        self._call.cancel()

    async def _write(self, request: files_pb2.CreateFileRequest) -> None:
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as err:
            raise await self.refusal() from err

    async def _wait_for_status(self) -> None:
        while True:
            # Waits for the first; there is no event for a replacement.
            await self._call.code()
            self._status = _status_of(self._call)
            if not _says_nothing(self._status):
                return
            await asyncio.sleep(0.001)

    def _note_end(self, call: Any) -> None:
        if self._status is None:
            self._status = _status_of(call)
        if not self.ended.done():
            self.ended.set_result(None)


def _status_of(call: Any) -> grpc.aio.AioRpcError:
    """Return the status of a call that has one, as it is at this moment."""
    return grpc.aio.AioRpcError(
        _now(call.code()),
        _now(call.initial_metadata()),
        _now(call.trailing_metadata()),
        _now(call.details()),
    )


def _now(answer: Coroutine[Any, Any, _T]) -> _T:
    """Return what a coroutine returns that has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as stop:
        value: _T = stop.value
        return value
    answer.close()
    raise RuntimeError("the call has no status yet")


def _says_nothing(status: grpc.aio.AioRpcError) -> bool:
    """Whether it is not the core's: that has details about every failure of its own."""
    return status.code() is grpc.StatusCode.INTERNAL and not status.trailing_metadata()
