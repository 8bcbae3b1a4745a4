"""Responses of recursive language models: requests are checked and then refused, because there is no backend."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from litestar import Request

from maniac_edge.errors import EdgeError
from maniac_edge.http.operation import operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import check_json, decode_request
from maniac_edge.schemas import rlm_responses as schema

_create = msgspec.json.Decoder(schema.RlmResponseCreate)


@operation(
    "POST",
    "/rlm/responses",
    tag="RLM responses",
    body=schema.RlmResponseCreate,
    errors=(400, 401, 403, 413, 429, 500, 501, 503),
)
async def create_rlm_response(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Ask a recursive language model.

    Not available: a valid request is a 501.
    """
    data = await bodies.read(request.scope, request.receive)
    check_json(data)
    wanted = decode_request(data, _create)
    for name in ("store", "stream"):
        if getattr(wanted, name):
            raise EdgeError("UNSUPPORTED_PARAMETER", f"{name} must be false here.", param=name)
    _refuse()


@operation(
    "GET",
    "/rlm/responses/{response_id:str}",
    tag="RLM responses",
    path_parameters={"response_id": "Id of the response."},
    errors=(401, 403, 429, 500, 501, 503),
)
async def get_rlm_response(response_id: str) -> None:
    """Get a response that was asked for in the background.

    Not available: a valid request is a 501.
    """
    del response_id
    _refuse()


def _refuse() -> NoReturn:
    raise EdgeError("NOT_IMPLEMENTED", "This gateway has no recursive language models.")


HANDLERS = (create_rlm_response, get_rlm_response)
