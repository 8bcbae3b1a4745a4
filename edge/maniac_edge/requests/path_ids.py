"""Ids that may have any characters, and stand in a URL as the rest of its path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from litestar import Request

from maniac_edge.errors import EdgeError

_T = TypeVar("_T")


async def by_given_id(
    request: Request[Any, Any, Any], collection: str, call: Callable[[str], Awaitable[_T]]
) -> _T:
    """Call with the id that follows `/collection/` in the URL; with its raw text if that is not found.

    Clients that escape nothing send an id such as `50%25` as it is.

    Raises:
        EdgeError: what the call raises.
    """
    given = _given_id(request, collection)
    decoded = unquote(given)
    try:
        return await call(decoded)
    except EdgeError as err:
        if err.code != f"{collection.removesuffix('s')}_not_found" or given == decoded:
            raise
    return await call(given)


def _given_id(request: Request[Any, Any, Any], collection: str) -> str:
    """Return the id as it stands in the URL.

    The router's path parameter lacks empty segments and slashes at the end, and clients that escape nothing put what
    follows a `?` of an id into the query; such a path has no other use for one.
    """
    path: str = request.scope["raw_path"].decode("latin-1").partition(f"/{collection}/")[2]
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
