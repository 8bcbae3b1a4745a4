"""The decorator that makes an endpoint of a function: its route, and what the OpenAPI document says about it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
from litestar import Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import AnyCallable

from maniac_edge.schemas.common import ErrorEnvelope


@dataclass(frozen=True)
class operation:  # noqa: N801 - It is used as a decorator.
    """Makes an endpoint of a function: `@operation("GET", "/models", tag="Models", response=ModelList)`.

    The function's name becomes the operation's id. The first line of its docstring becomes the summary, without the
    full stop, and the other lines become the description.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    """Below the base path, with the types of its parameters: `/files/{file_id:str}`."""
    _: KW_ONLY
    also_at: tuple[str, ...] = ()
    """Further paths, which the document does not have."""
    tag: str
    response: Any = None
    """Type of the 200 body; None: no request is answered with one."""
    media_type: str = "application/json"
    """Of the 200 body."""
    response_description: str = "Done."
    event: Any = None
    """Type of the events, if it can stream."""
    query: type[msgspec.Struct] | None = None
    """Struct whose fields are the query parameters."""
    headers: dict[str, str] = field(default_factory=dict)
    """Description of request headers by name."""
    partial_description: str = ""
    """Of the 206, if it can answer a part."""
    path_parameters: dict[str, str] = field(default_factory=dict)
    """Description by name."""
    body: Any = None
    """Type of the request body."""
    body_media_type: str = "application/json"
    """Of the request body."""
    body_description: str = ""
    body_required: bool = True
    errors: tuple[int, ...] = ()
    error: Any = ErrorEnvelope
    """Type of the body of an error."""
    is_public: bool = False
    """Whether it needs no key."""

    def __call__(self, function: AnyCallable) -> HTTPRouteHandler:
        """Return the handler."""
        return HTTPRouteHandler(
            [self.path, *self.also_at],
            # The middleware makes a GET of each HEAD. Named here, HEAD is in `Allow`.
            http_method=["GET", "HEAD"] if self.method == "GET" else self.method,
            status_code=200,
            opt={"operation": self},
        )(function)


class Endpoint(NamedTuple):
    """An operation as the document has it."""

    path: str
    """Whole, with the names of its parameters alone: `/v1/files/{file_id}`."""
    id: str
    summary: str
    description: str
    facts: operation


def endpoints(handlers: Iterable[HTTPRouteHandler], base_path: str = "") -> list[Endpoint]:
    """Return the endpoints of handlers that `operation` made, mounted under a path."""
    found = []
    for handler in handlers:
        made: operation = handler.opt["operation"]
        summary, _, description = (inspect.getdoc(handler.fn) or "").partition("\n\n")
        found.append(
            Endpoint(
                base_path + re.sub(r":\w+}", "}", made.path),
                handler.handler_name,
                summary.removesuffix("."),
                " ".join(description.split()),
                made,
            )
        )
    return found


def options_handlers(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Return what answers OPTIONS on the paths of handlers. Litestar's own names the verbs of one handler per path."""
    verbs: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            verbs.setdefault(path, {"OPTIONS"}).update(handler.http_methods)
    return [_options_handler(path, ", ".join(sorted(names))) for path, names in verbs.items()]


def _options_handler(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS", status_code=204)
    async def options() -> Response[None]:
        return Response(None, status_code=204, headers={"allow": allow})

    return options
