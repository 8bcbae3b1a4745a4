"""Responses of recursive language models: requests are checked and then refused, because there is no backend."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from litestar import Request, get, post

from maniac_edge.errors import EdgeError
from maniac_edge.http.openapi import Operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import check_json, decode_request
from maniac_edge.schemas import rlm_responses as schema

_create = msgspec.json.Decoder(schema.RlmResponseCreate)


@post("/rlm/responses", status_code=200, include_in_schema=False)
async def create_rlm_response(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Check a new response."""
    data = await bodies.read(request.scope, request.receive)
    check_json(data)
    wanted = decode_request(data, _create)
    for name in ("store", "stream"):
        if getattr(wanted, name):
            raise EdgeError("UNSUPPORTED_PARAMETER", f"{name} must be false here.", param=name)
    _refuse()


@get("/rlm/responses/{response_id:str}", include_in_schema=False)
async def get_rlm_response(response_id: str) -> None:
    """Refuse."""
    del response_id
    _refuse()


def _refuse() -> NoReturn:
    raise EdgeError("NOT_IMPLEMENTED", "This gateway has no recursive language models.")


HANDLERS = (create_rlm_response, get_rlm_response)
_NOT_YET = "Not available: a valid request is a 501."
OPERATIONS = (
    Operation(
        method="post",
        path="/v1/rlm/responses",
        operation_id="create_rlm_response",
        tag="RLM responses",
        summary="Ask a recursive language model",
        description=_NOT_YET,
        body=schema.RlmResponseCreate,
        errors=(400, 401, 403, 413, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/rlm/responses/{response_id}",
        operation_id="get_rlm_response",
        tag="RLM responses",
        summary="Get a response that was asked for in the background",
        description=_NOT_YET,
        path_parameters={"response_id": "Id of the response."},
        errors=(401, 403, 429, 500, 501, 503),
    ),
)
