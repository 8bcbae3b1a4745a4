"""The OpenAPI document, built from the structs that decode requests and encode answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal

import msgspec

from maniac_edge.schemas.common import ErrorEnvelope

_REF = "#/components/schemas/{name}"
_DESCRIPTION = """OpenAI-compatible inference gateway. Every path under `/v1` is served under `/api/v1` as well.

Authenticate with `Authorization: Bearer KEY`. Every answer carries `x-request-id`; answers that reached the limiter \
carry `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (Unix seconds)."""
_HEADERS = {
    "x-request-id": ("string", "Id of the request, as the client sent it or made up."),
    "X-RateLimit-Limit": ("integer", "Requests per window."),
    "X-RateLimit-Remaining": ("integer", "Requests left in this window."),
    "X-RateLimit-Reset": ("integer", "End of the window, in Unix seconds."),
}
_RETRY_AFTER = {"Retry-After": ("integer", "Seconds after which to try again.")}
_STATUSES = {
    400: "The request is not valid: malformed JSON, a wrong value, a missing or unsupported parameter.",
    401: "The API key is missing or not valid.",
    402: "A budget would be exceeded, or billing is not set up.",
    403: "The key may not do this.",
    404: "No such model, container or record in the key's project.",
    409: "The request conflicts with what exists.",
    413: "The body is larger than the limit.",
    416: "The range starts at or after the end of the file; `Content-Range` has the size.",
    422: "A management request does not match its schema; `detail` names each field.",
    429: "A rate limit is reached; `Retry-After` says when to try again, in whole seconds.",
    500: "A fault of the gateway.",
    501: "Not available in this deployment.",
    502: "The provider failed, or no key is configured for it.",
    503: "Something the gateway needs is down, or the provider is overloaded.",
}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One verb of one path."""

    method: Literal["get", "post", "patch", "delete"]
    path: str
    operation_id: str
    tag: str
    summary: str
    description: str = ""
    response: Any = None
    """Type of the 200 body; None: no request is answered with one."""
    media_type: str = "application/json"
    """Of the 200 body."""
    response_description: str = "Done."
    event: Any = None
    """Type of the events, if it can stream."""
    query: type[msgspec.Struct] | None = None
    """Struct whose fields are the query parameters."""
    headers: dict[str, str] = {}
    """Description of request headers by name."""
    partial_description: str = ""
    """Of the 206, if it can answer a part."""
    path_parameters: dict[str, str] = {}
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


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document for these operations."""
    shapes: list[Any] = []
    for operation in operations:
        shapes += [
            shape
            for shape in (operation.body, operation.response, operation.event, operation.error)
            if shape
        ]
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    refs = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Maniac Gateway",
            "version": version("maniac-gateway"),
            "description": _DESCRIPTION,
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {
                name: {"description": text, "schema": {"type": kind}}
                for name, (kind, text) in (_HEADERS | _RETRY_AFTER).items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, refs: dict[int, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response:
        content[operation.media_type] = {"schema": refs[id(operation.response)]}
    if operation.event:
        content["text/event-stream"] = {
            "schema": {
                "type": "string",
                "description": "Events `data: CHUNK`, each chunk as the schema in `x-event`, ended by `data: [DONE]`."
                " A failure after the first event is one event with an `error` object.",
                "x-event": refs[id(operation.event)],
            }
        }
    done = {"description": operation.response_description, "content": content}
    if not operation.is_public:
        done["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    result: dict[str, Any] = {
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {
            **({"200": done} if operation.response else {}),
            **{
                str(status): _failure(status, refs[id(operation.error)])
                for status in operation.errors
            },
        },
    }
    if operation.description:
        result["description"] = operation.description
    if operation.partial_description:
        result["responses"]["206"] = {**done, "description": operation.partial_description}
    if parameters := [
        *_parameters("path", operation.path_parameters, required=True),
        *_query_parameters(operation),
        *_parameters("header", operation.headers, required=False),
    ]:
        result["parameters"] = parameters
    if operation.body:
        result["requestBody"] = {
            "required": operation.body_required,
            "description": operation.body_description,
            "content": {operation.body_media_type: {"schema": refs[id(operation.body)]}},
        }
    if operation.is_public:
        result["security"] = []
    return result


def _failure(status: int, reference: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "description": _STATUSES[status],
        "content": {"application/json": {"schema": reference}},
    }
    if status == 429:
        result["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return result


def _parameters(
    where: str, descriptions: dict[str, str], *, required: bool
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": where,
            "required": required,
            "description": description,
            "schema": {"type": "string"},
        }
        for name, description in descriptions.items()
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    shape = msgspec.json.schema_components([operation.query], ref_template=_REF)[1]
    schema = shape[operation.query.__name__]
    result = []
    for name, field in schema["properties"].items():
        description = field.pop("description", "")
        result.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": description,
                "schema": field,
            }
        )
    return result
