"""The outermost layer of the app: one RequestContext, one request id, one set of headers and one log line per request."""

from __future__ import annotations

from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from maniac_edge.context import RequestContext
from maniac_edge.error_forms import is_anthropic, is_gemini
from maniac_edge.http.proxies import Proxies
from maniac_edge.observe.access_log import AccessLog

# Of every answer: it is kept by no cache, taken for nothing else, and shown in nobody's frame.
_SAFE_STREAM = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
_SAFE = ((b"cache-control", b"no-store"), *_SAFE_STREAM)


class RequestMiddleware:
    """Wraps the whole app, so that 404s and faults of the framework have what every answer has."""

    def __init__(self, app: ASGIApp, log: AccessLog, proxies: Proxies) -> None:
        self._app = app
        self._log = log
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        # Routes are matched before percent-decoding, so that `%2F` can be part of an id.
        path = scope["raw_path"].decode("latin-1")
        client = scope.get("client")
        address = client[0] if client else ""
        if self._proxies:
            address = self._proxies.client_address(address, scope["headers"])
        context = RequestContext(scope["headers"], path, address)
        if scope["query_string"] and is_gemini(path):
            context.take_key(scope["query_string"])
        if is_anthropic(path, scope["headers"]):
            # Where Anthropic's packages look for it.
            context.response_headers[b"request-id"] = context.request_id.encode("ascii")
        method = scope["method"]
        if method == "HEAD":
            context.is_head = True
            # A copy: the server looks at the method to leave the body out.
            scope = scope.copy()
            scope["method"] = HttpMethod.GET
        scope["path"] = path
        scope["state"]["context"] = context

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *(_SAFE_STREAM if context.streamed else _SAFE),
                    (b"x-request-id", context.request_id.encode("ascii")),
                    *context.response_headers.items(),
                ]
            elif message["type"] == "http.response.body":
                context.sent_bytes += len(message["body"])
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            self._log.write(method, context)
