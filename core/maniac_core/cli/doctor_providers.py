"""The part of `doctor` that looks at providers: is there a key, does it answer, does it accept the key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from maniac_core.cli.findings import Finding, fail, ok, warn
from maniac_core.config import (
    KNOWN_PROVIDERS,
    LOCAL_PROVIDER,
    Config,
    ProviderConfig,
    local_provider,
    resolve_keys,
)

_TIMEOUT_S = 5.0


async def check_providers(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Ask every provider for its models, with every key."""
    own_server = local_provider(config.core)
    asked = {
        name: provider
        for name, provider in config.providers.items()
        if not (name == LOCAL_PROVIDER and provider == own_server)
    }
    if not config.providers:
        variables = ", ".join(variable for _, _, variable in KNOWN_PROVIDERS.values())
        return [
            warn(
                "providers",
                f"none; set one of {variables}, configure [providers.NAME], or pull a model",
            )
        ]
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
        found = await asyncio.gather(
            *(_check(client, name, provider, environ) for name, provider in asked.items())
        )
    return [finding for findings in found for finding in findings]


async def _check(
    client: httpx.AsyncClient, name: str, provider: ProviderConfig, environ: Mapping[str, str]
) -> list[Finding]:
    subject = f"provider {name}"
    if provider.kind == "scripted":
        return [ok(subject, "answers by its rules and calls nobody")]
    keys = resolve_keys(provider, environ)
    if provider.api_key_env and not keys:
        names = provider.api_key_env
        wanted = names if isinstance(names, str) else " or ".join(names)
        return [fail(subject, f"no key; set {wanted}")]
    return [
        await _ask(client, subject if len(keys) < 2 else f"{subject}, key {number}", provider, key)
        for number, key in enumerate(keys or (None,), start=1)
    ]


async def _ask(
    client: httpx.AsyncClient, subject: str, provider: ProviderConfig, key: str | None
) -> Finding:
    url, headers = _models_request(provider, key)
    try:
        status = (await client.get(url, headers=headers)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        reason = str(err) or type(err).__name__
        return fail(subject, f"{url} cannot be reached ({reason}); check base_url and the network")
    if status in (401, 403):
        return fail(subject, f"{url} refuses the key ({status}); check {provider.api_key_env}")
    if status == 404:
        return warn(
            subject, f"{url} is not there (404); base_url may lack its version, such as /v1"
        )
    if status >= 400:
        return warn(subject, f"{url} answers {status}; its own status page may know more")
    return ok(subject, f"{url} answers" + (" and accepts the key" if key else ""))


def _models_request(provider: ProviderConfig, key: str | None) -> tuple[str, dict[str, str]]:
    base = provider.base_url.rstrip("/")
    match provider.kind:
        case "anthropic":
            return f"{base}/v1/models", {"x-api-key": key or "", "anthropic-version": "2023-06-01"}
        case "gemini":
            return f"{base}/v1beta/models", {"x-goog-api-key": key or ""}
        case _:
            return f"{base}/models", {"authorization": f"Bearer {key}"} if key else {}
