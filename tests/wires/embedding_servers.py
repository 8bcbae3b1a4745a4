"""Providers of embeddings whose vectors tell their texts."""

from __future__ import annotations

import json

from upstream import Exchange


async def of_openai(exchange: Exchange) -> None:
    """Answer in OpenAI's form, the last vector first."""
    texts = exchange.json["input"]
    data = [
        {"object": "embedding", "index": i, "embedding": [float(len(text)), 0.5]}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    body = {"object": "list", "data": data[::-1], "model": "m", "usage": usage}
    await exchange.respond(200, json.dumps(body).encode())


async def of_gemini(exchange: Exchange) -> None:
    """Answer in Gemini's form."""
    texts = [r["content"]["parts"][0]["text"] for r in exchange.json["requests"]]
    body = {"embeddings": [{"values": [float(len(text)), 0.5]} for text in texts]}
    await exchange.respond(200, json.dumps(body).encode())
