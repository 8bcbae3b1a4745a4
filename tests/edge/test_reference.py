"""The OpenAPI document and its page."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

EXPECTED_ERRORS = {
    ("/v1/chat/completions", "post"): "400 401 402 403 404 409 413 422 429 500 501 502 503",
    ("/v1/chat/completions", "get"): "400 401 403 413 422 429 500 501 503",
    ("/v1/chat/completions/{completion_id}", "get"): "400 401 403 404 409 422 429 500 501 503",
    ("/healthz", "get"): "",
    ("/readyz", "get"): "503",
    ("/openapi.json", "get"): "",
    ("/docs", "get"): "",
}


async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """Return the document, asked for without a key."""
    answer = await client.get("/openapi.json", headers={"authorization": ""})
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_every_endpoint_declares_its_errors(client: httpx.AsyncClient) -> None:
    """The document has each endpoint with the statuses of the contract; what needs a key can be refused for it."""
    paths = (await document(client))["paths"]
    declared = {
        (path, verb): " ".join(status for status in operation["responses"] if status != "200")
        for path, verbs in paths.items()
        for verb, operation in verbs.items()
    }

    assert EXPECTED_ERRORS.items() <= declared.items()
    for (path, _), statuses in declared.items():
        if path.startswith("/v1/"):
            assert {"401", "403", "429", "500", "503"} <= set(statuses.split())


async def test_references_lead_somewhere(client: httpx.AsyncClient) -> None:
    """Each `$ref` of the document names a component that exists."""
    found = await document(client)
    text = str(found)
    references = set(re.findall(r"'\$ref': '#/components/(\w+)/([^']+)'", text))

    assert references
    for kind, name in references:
        assert name in found["components"][kind]


async def test_keys_are_declared_where_they_are_needed(client: httpx.AsyncClient) -> None:
    """Bearer is the default security, and probes need none."""
    found = await document(client)

    assert found["openapi"].startswith("3.1")
    assert found["security"] == [{"bearer": []}]
    assert found["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    assert found["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in found["paths"]["/v1/chat/completions"]["get"]


async def test_the_request_schema_is_the_one_that_decodes(client: httpx.AsyncClient) -> None:
    """Every documented key of a chat request is accepted by the endpoint as null, and no other is known."""
    schemas = (await document(client))["components"]["schemas"]
    keys = schemas["ChatCompletionRequest"]["properties"]
    body = {**dict.fromkeys(keys), "model": "m", "messages": [{"role": "user", "content": ""}]}
    answer = await client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert {"model", "messages", "tools", "trace", "n", "stream_options"} <= set(keys)
    assert schemas["ChatCompletionRequest"]["required"] == ["messages"]
    assert schemas["Message"]["required"] == ["role"]
    assert schemas["TraceContext"]["additionalProperties"] is False


async def test_the_list_documents_its_query_and_its_body(client: httpx.AsyncClient) -> None:
    """The list's parameters have their bounds, and the optional body on GET is there."""
    operation = (await document(client))["paths"]["/v1/chat/completions"]["get"]
    parameters = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}

    assert set(parameters) == {"limit", "offset", "model", "container", "order", "after"}
    assert parameters["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert operation["requestBody"]["required"] is False


@pytest.mark.parametrize("kind", ["ChatCompletion", "ChatCompletionList", "StoredChatCompletion"])
async def test_answers_have_the_documented_keys(client: httpx.AsyncClient, kind: str) -> None:
    """What an endpoint answers has exactly the keys of its schema."""
    schemas = (await document(client))["components"]["schemas"]
    body = {"model": "m", "messages": [{"role": "user", "content": ""}]}
    answers = {
        "ChatCompletion": await client.post("/v1/chat/completions", json=body),
        "ChatCompletionList": await client.get("/v1/chat/completions"),
        "StoredChatCompletion": await client.get("/v1/chat/completions/x"),
    }

    assert set(answers[kind].json()) == set(schemas[kind]["properties"])


async def test_the_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """The reference is one file without links to other hosts, and its policy forbids them."""
    answer = await client.get("/docs", headers={"authorization": ""})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "openapi.json" in answer.text
    assert not re.search(r"(src|href)\s*=\s*[\"']|https?://|@import|url\(", answer.text)
