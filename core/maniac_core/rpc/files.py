"""FileService: files over plain RPCs, their bytes in streams of chunks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import files_pb2

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.files import File
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.messages import Unreadable, all_readable
from maniac_core.rpc.boundary.methods import unary, with_status
from maniac_core.rpc.boundary.paging import page_from_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.files.files import FileService, span
from maniac_core.services.files.upload import Upload, invalid

_DEFAULT_PAGE = 100
_MAX_PAGE = 10_000


class FileServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, files: FileService) -> None:
        self._gate = gate
        self._files = files

    @with_status
    async def CreateFile(
        self,
        requests: AsyncIterator[files_pb2.CreateFileRequest | Unreadable],
        context: Context,
    ) -> files_pb2.CreateFileResponse:
        """Store a file."""
        call = await self._gate.admit(context)
        async with self._files.upload(call.caller) as upload:
            # Now the caller knows that it may send.
            await context.send_initial_metadata(head_metadata(call))
            file = await _receive(all_readable(requests), upload)
        return files_pb2.CreateFileResponse(file=file_to_proto(file))

    @with_status
    async def DownloadFile(self, request: files_pb2.DownloadFileRequest, context: Context) -> None:
        """Send a file's bytes."""
        call = await self._gate.admit(context)
        if request.limit < 0:
            raise GatewayError(
                Reason.ERROR_REASON_VALIDATION_ERROR,
                "limit must be 0 or more.",
                param="limit",
                violations=(Violation(("query", "limit"), "must be 0 or more", "out_of_range"),),
            )
        file = await self._files.get(call.caller, request.id)
        start, length = span(file, request.offset, request.limit)
        async with contextlib.aclosing(self._files.read(file, start, length)) as chunks:
            # Before anything is said: an object store that is down must not look like a download that began.
            first = await anext(chunks, b"")
            await context.send_initial_metadata(head_metadata(call))
            await _write(context, files_pb2.DownloadFileResponse(file=file_to_proto(file)))
            if first:
                await _write(context, files_pb2.DownloadFileResponse(chunk=first))
            async for chunk in chunks:
                await _write(context, files_pb2.DownloadFileResponse(chunk=chunk))

    @unary
    async def GetFile(
        self, request: files_pb2.GetFileRequest, call: Call
    ) -> files_pb2.GetFileResponse:
        """Read a file's facts."""
        file = await self._files.get(call.caller, request.id)
        return files_pb2.GetFileResponse(file=file_to_proto(file))

    @unary
    async def ListFiles(
        self, request: files_pb2.ListFilesRequest, call: Call
    ) -> files_pb2.ListFilesResponse:
        """List files."""
        page = page_from_proto(request, default=_DEFAULT_PAGE, maximum=_MAX_PAGE)
        found, total = await self._files.list(call.caller, request.purpose or None, page)
        return files_pb2.ListFilesResponse(
            files=[file_to_proto(file) for file in found],
            next_page_token=found[-1].id if len(found) == page.limit else "",
            total_size=total,
        )

    @unary
    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, call: Call
    ) -> files_pb2.DeleteFileResponse:
        """Delete a file softly."""
        deleted = await self._files.delete(call.caller, request.id)
        return files_pb2.DeleteFileResponse(file=file_to_proto(deleted))


def file_to_proto(file: File) -> files_pb2.File:
    """Return the contract's form of a file."""
    return files_pb2.File(
        id=file.id,
        filename=file.filename,
        purpose=file.purpose,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        status="processed" if file.deleted is None else "deleted",
        create_time=Timestamp(seconds=file.created),
        delete_time=None if file.deleted is None else Timestamp(seconds=file.deleted),
    )


async def _write(context: Context, response: files_pb2.DownloadFileResponse) -> None:
    """Send a message; waits while the caller is slower."""
    try:
        await context.write(response)
    except grpc.aio.InternalError as err:
        # The caller went away in the middle of the message. Yielding it instead would log this as a fault.
        raise asyncio.CancelledError from err


async def _receive(requests: AsyncIterator[files_pb2.CreateFileRequest], upload: Upload) -> File:
    """Take an upload's messages up to its end.

    A cancelled call may look like one whose caller has closed its side, so only the end message completes a file.
    """
    async for request in requests:
        match request.WhichOneof("payload"):
            case "metadata":
                upload.describe(request.metadata.filename, request.metadata.purpose)
            case "chunk":
                await upload.write(request.chunk)
            case "end":
                return await upload.finish(request.end.size_bytes)
            case _:
                raise invalid("payload", "is empty", "missing")
    raise invalid("end", "did not come: the upload is not complete", "missing")
