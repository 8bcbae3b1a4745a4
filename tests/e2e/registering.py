"""What registrations are made of."""

from __future__ import annotations

from typing import Any

import httpx

PATH = "/v1/chat/completions/register"
INPUT = {"messages": [{"role": "user", "content": "Hi"}]}


def output(text: str = "Hello!", **more: Any) -> dict[str, Any]:
    """Return an answer."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}


def register(http: httpx.Client, container: str, *items: Any) -> dict[str, Any]:
    """Register items and return what became of them."""
    response = http.post(PATH, json={"container": container, "items": items})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
