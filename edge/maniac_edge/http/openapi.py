"""The OpenAPI document, built from the structs that decode requests and encode answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from maniac_edge.http.operation import Endpoint, operation

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


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the document of these endpoints."""
    shapes: list[Any] = []
    for endpoint in endpoints:
        facts = endpoint.facts
        shapes += [
            shape for shape in (facts.body, facts.response, facts.event, facts.error) if shape
        ]
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    refs = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        verb = endpoint.facts.method.lower()
        paths.setdefault(endpoint.path, {})[verb] = _operation(endpoint, refs)
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


def _operation(endpoint: Endpoint, refs: dict[int, Any]) -> dict[str, Any]:
    facts = endpoint.facts
    content: dict[str, Any] = {}
    if facts.response:
        content[facts.media_type] = {"schema": refs[id(facts.response)]}
    if facts.event:
        content["text/event-stream"] = {
            # Without a type: some readers take it for that of all events together, some for that of each.
            "schema": {
                "description": "Events `data: CHUNK`, each chunk as the schema in `x-event`, ended by `data: [DONE]`."
                " A failure after the first event is one event with an `error` object.",
                "x-event": refs[id(facts.event)],
            }
        }
    done = {"description": facts.response_description, "content": content}
    if not facts.is_public:
        done["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    result: dict[str, Any] = {
        "operationId": endpoint.id,
        "tags": [facts.tag],
        "summary": endpoint.summary,
        "responses": {
            **({"200": done} if facts.response else {}),
            **{str(status): _failure(status, refs[id(facts.error)]) for status in facts.errors},
        },
    }
    if endpoint.description:
        result["description"] = endpoint.description
    if facts.partial_description:
        result["responses"]["206"] = {**done, "description": facts.partial_description}
    if parameters := [
        *_parameters("path", facts.path_parameters, required=True),
        *_query_parameters(facts),
        *_parameters("header", facts.headers, required=False),
    ]:
        result["parameters"] = parameters
    if facts.body:
        result["requestBody"] = {
            "required": facts.body_required,
            "description": facts.body_description,
            "content": {facts.body_media_type: {"schema": refs[id(facts.body)]}},
        }
    if facts.is_public:
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


def _query_parameters(facts: operation) -> list[dict[str, Any]]:
    if facts.query is None:
        return []
    shape = msgspec.json.schema_components([facts.query], ref_template=_REF)[1]
    schema = shape[facts.query.__name__]
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
