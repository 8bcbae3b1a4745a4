"""CoreDownload: bytes that the core streams, and their way to the client, at the client's pace."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeVar

import grpc
from litestar.types import Receive, Scope, Send

from maniac_edge.context import RequestContext
from maniac_edge.core.client import failed, take_headers
from maniac_edge.errors import ClientGoneError, EdgeError, internal_error
from maniac_edge.http.client_connection import until_gone
from maniac_edge.http.responses import AsgiResponse

_log = logging.getLogger(__name__)


class _Piece(Protocol):
    @property
    def chunk(self) -> bytes: ...


PieceT = TypeVar("PieceT", bound=_Piece)


class CoreDownload(Generic[PieceT]):
    """One call of the core, which says what it sends before it sends it. Whoever made it closes it."""

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[Any, PieceT], context: RequestContext
    ) -> None:
        self._call = call
        self._context = context

    async def open(self) -> PieceT:
        """Wait for the first message, which says what comes.

        Raises:
            EdgeError: what the core says.
        """
        response = await self._read()
        if response is None:
            raise internal_error()
        take_headers(self._context, await self._call.initial_metadata())
        return response

    async def chunk(self) -> bytes | None:
        """Return the next bytes; None at the end.

        Raises:
            EdgeError: the core failed; what was returned is not the whole.
        """
        response = await self._read()
        return None if response is None else response.chunk

    def close(self) -> None:
        """End the call if it still runs."""
        self._call.cancel()

    async def _read(self) -> PieceT | None:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as err:
            raise failed(err, self._context) from err
        return None if response is grpc.aio.EOF else response  # type: ignore[return-value]


class DownloadResponse(AsgiResponse, ABC):
    """Sends a download that was opened, and closes it."""

    what: str
    """Of the download, in the log."""

    def __init__(self, download: CoreDownload[Any], context: RequestContext) -> None:
        super().__init__(self._send)
        self._download = download
        self._context = context

    @abstractmethod
    async def relay(self, send: Send) -> None:
        """Send head and body.

        Raises:
            EdgeError: the core failed; the head may be out.
        """

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            with until_gone(scope):
                await self.relay(send)
        except ClientGoneError:
            self._context.client_gone = True
        except EdgeError as err:
            # The head is out. An answer without its end closes the connection, and so cannot look whole.
            self._context.error_code = err.code
            _log.warning("%s broke off: %s", self.what, err.message)
        finally:
            self._download.close()
