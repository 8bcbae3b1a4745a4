"""The route of requests for completions, in front of the framework, which nearly all of them do not need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from maniac_edge.context import RequestContext
from maniac_edge.error_forms import is_gemini
from maniac_edge.errors import ClientGoneError
from maniac_edge.exception_handlers import send_failure
from maniac_edge.requests.bodies import Access

_HOST = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")


class Handler(Protocol):
    """Answers a request for a completion."""

    async def create(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        """Answer one request.

        Raises:
            EdgeError: nothing was sent yet.
            ClientGoneError: the client closed its connection before its request was read.
        """


class WireRoute:
    """Answers POST on the paths of wires as the framework would; everything else is the framework's."""

    def __init__(
        self,
        app: ASGIApp,
        handlers: Mapping[str, Handler],
        gemini: Handler,
        access: Access,
    ) -> None:
        """`handlers`: by path. `gemini`: where the path names the model."""
        self._app = app
        self._handlers = handlers
        self._gemini = gemini
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != ScopeType.HTTP
            or scope["method"] != "POST"
            or (handler := self._handlers.get(scope["path"]) or self._find(scope["path"])) is None
            or not _has_good_host(scope)
        ):
            await self._app(scope, receive, send)
            return
        # What metrics and traces call it.
        path = scope["path"]
        scope["path_template"] = path if path in self._handlers else _template(path)
        context: RequestContext = scope["state"]["context"]
        try:
            await handler.create(scope, receive, send, context)
        except ClientGoneError:
            context.client_gone = True
        except Exception as exc:
            if context.status:
                # The head is out. An answer without its end closes the connection, and so cannot look whole.
                raise
            await send_failure(exc, self._access, scope, send)

    def _find(self, path: str) -> Handler | None:
        return self._gemini if is_gemini(path) and ":" in path else None


def _template(path: str) -> str:
    """Return a path without the name of its model, of which there may be any number."""
    head, _, method = path.rpartition(":")
    return f"{head.split('/models/')[0]}/models/{{model}}:{method[:32]}"


def _has_good_host(scope: Scope) -> bool:
    """Whether the framework would let the request pass: it refuses a Host that no URL could have."""
    for name, value in scope["headers"]:
        if name == b"host":
            return _HOST.fullmatch(value) is not None
    return True
