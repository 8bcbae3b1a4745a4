"""Asks providers which models they serve. Off the request path: a plain HTTP client does."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import httpx
import msgspec

from maniac_core.config import ProviderConfig
from maniac_core.providers.prices import Prices, femto_usd

_TIMEOUT_S = 15.0
_MAX_PAGES = 20


class DiscoveredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of one of its models; None: it does not say."""

    name: str
    """The provider's own name of it, as a request takes it."""
    display_name: str | None = None
    owned_by: str | None = None
    created: int | None = None
    """Unix seconds."""
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    supported_parameters: tuple[str, ...] = ()
    prices: Prices | None = None


class DiscoveryError(Exception):
    """A provider did not say which models it serves."""


async def discover(config: ProviderConfig, key: str | None) -> list[DiscoveredModel]:
    """Return the models that a provider lists.

    Raises:
        DiscoveryError: it cannot be reached, refuses, or answers something else.
    """
    base_url = config.base_url.rstrip("/")
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
            if config.kind == "anthropic":
                headers = {"x-api-key": key or "", "anthropic-version": "2023-06-01"}
                url = f"{base_url.removesuffix('/v1')}/v1/models"
                return await _anthropic(client, url, headers)
            if config.kind == "gemini":
                if not base_url.rpartition("/")[2].startswith("v1"):
                    base_url += "/v1beta"
                return await _gemini(client, f"{base_url}/models", {"x-goog-api-key": key or ""})
            headers = {"authorization": f"Bearer {key}"} if key else {}
            body = await _get(client, f"{base_url}/models", headers, {})
            return [_openai_model(item) for item in _items(body, "data")]
    except httpx.HTTPError as err:
        raise DiscoveryError(f"cannot be reached: {type(err).__name__}") from err
    except httpx.InvalidURL as err:
        raise DiscoveryError("base_url is no URL") from err
    except (KeyError, TypeError, ValueError) as err:
        raise DiscoveryError("its list of models makes no sense") from err


async def _get(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], params: dict[str, str]
) -> dict[str, Any]:
    response = await client.get(url, headers=headers, params=params)
    if response.status_code != 200:
        raise DiscoveryError(f"answers {response.status_code}")
    body = response.json()
    if not isinstance(body, dict):
        raise DiscoveryError("its list of models makes no sense")
    return body


async def _anthropic(
    client: httpx.AsyncClient, url: str, headers: dict[str, str]
) -> list[DiscoveredModel]:
    models: list[DiscoveredModel] = []
    params = {"limit": "1000"}
    for _ in range(_MAX_PAGES):
        body = await _get(client, url, headers, params)
        models += [
            DiscoveredModel(
                name=item["id"], display_name=item.get("display_name"), owned_by="anthropic"
            )
            for item in _items(body, "data")
        ]
        if not body.get("has_more"):
            break
        params = {"limit": "1000", "after_id": body["last_id"]}
    return models


async def _gemini(
    client: httpx.AsyncClient, url: str, headers: dict[str, str]
) -> list[DiscoveredModel]:
    models: list[DiscoveredModel] = []
    params = {"pageSize": "1000"}
    for _ in range(_MAX_PAGES):
        body = await _get(client, url, headers, params)
        models += [
            DiscoveredModel(
                name=item["name"].removeprefix("models/"),
                display_name=item.get("displayName"),
                owned_by="google",
                context_window=item.get("inputTokenLimit"),
                max_output_tokens=item.get("outputTokenLimit"),
            )
            for item in _items(body, "models")
            if "generateContent" in item.get("supportedGenerationMethods", ["generateContent"])
        ]
        if not body.get("nextPageToken"):
            break
        params = {"pageSize": "1000", "pageToken": body["nextPageToken"]}
    return models


def _items(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [item for item in body[key] if isinstance(item, dict)]


def _openai_model(item: dict[str, Any]) -> DiscoveredModel:
    """Read OpenAI's form, and what OpenRouter and vLLM add to it."""
    architecture = item.get("architecture") or {}
    top = item.get("top_provider") or {}
    created = item.get("created")
    return DiscoveredModel(
        name=str(item["id"]),
        display_name=item.get("name"),
        owned_by=item.get("owned_by"),
        created=created if isinstance(created, int) and created > 0 else None,
        context_window=item.get("context_length") or item.get("max_model_len"),
        max_output_tokens=top.get("max_completion_tokens"),
        input_modalities=tuple(architecture.get("input_modalities") or ()),
        output_modalities=tuple(architecture.get("output_modalities") or ()),
        supported_parameters=tuple(item.get("supported_parameters") or ()),
        prices=_openrouter_prices(item.get("pricing")),
    )


def _openrouter_prices(pricing: Any) -> Prices | None:
    """Return OpenRouter's prices, USD per token as text; a negative one means that it varies."""
    if not isinstance(pricing, dict):
        return None

    def read(key: str) -> int | None:
        try:
            value = Decimal(str(pricing[key]))
        except (KeyError, InvalidOperation):
            return None
        return femto_usd(value, 1) if value >= 0 else None

    if read("prompt") is None or read("completion") is None:
        return None
    return Prices(
        input=read("prompt"),
        output=read("completion"),
        cache_read=read("input_cache_read"),
        cache_write=read("input_cache_write"),
        reasoning=read("internal_reasoning") or None,
        request=read("request") or None,
    )
