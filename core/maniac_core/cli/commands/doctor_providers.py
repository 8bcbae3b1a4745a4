"""The part of `doctor` that looks at providers: is there a key, does it answer, does it accept the key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from maniac_core.cli.findings import Finding, fail, ok, warn
from maniac_core.config.core import Config, local_provider
from maniac_core.config.known import some_variables
from maniac_core.config.provider import (
    LOCAL_PROVIDER,
    ProviderConfig,
    resolve_keys,
    variables_of,
)
from maniac_core.providers.base import HttpCall
from maniac_core.providers.base_url import base_url_hint, shown_url
from maniac_core.providers.discovery import Discovery, DiscoveryError
from maniac_core.providers.registry import DIALECTS, signer_of
from maniac_core.providers.signing import CredentialsError, Signer
from maniac_core.providers.transport import Transport, upstream_transport

_TIMEOUT_S = 5.0
_CREDENTIALS_S = 15.0


async def check_providers(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Ask every provider for its models, with every key."""
    own_server = local_provider(config.core)
    asked = {
        name: provider
        for name, provider in config.providers.items()
        if not (name == LOCAL_PROVIDER and provider == own_server)
    }
    if not config.providers:
        return [
            warn(
                "providers",
                f"none; set one of {some_variables()} or another of docs/providers.md, configure "
                "[providers.NAME], or pull a model",
            )
        ]
    transport = upstream_transport(environ)
    try:
        found = await asyncio.gather(
            *(_check(transport, name, provider, environ) for name, provider in asked.items())
        )
    finally:
        await transport.aclose()
    return [finding for findings in found for finding in findings]


async def _check(
    transport: Transport, name: str, provider: ProviderConfig, environ: Mapping[str, str]
) -> list[Finding]:
    subject = f"provider {name}"
    if provider.kind == "scripted":
        return [ok(subject, "answers by its rules and calls nobody")]
    keys = resolve_keys(provider, environ)
    if provider.api_key_env and not keys:
        return [fail(subject, f"no key; set {variables_of(provider)}")]
    findings = []
    for number, key in enumerate(keys or (None,), start=1):
        known_as = subject if len(keys) < 2 else f"{subject}, key {number}"
        findings.append(await _ask(transport, known_as, name, provider, key))
    return findings


async def _ask(
    transport: Transport, subject: str, name: str, provider: ProviderConfig, key: str | None
) -> Finding:
    dialect = DIALECTS[provider.kind]
    try:
        request = dialect.models_request(name, provider, key, None)
        url = shown_url(request.url) if request else ""
    except ValueError as err:
        return fail(subject, f"base_url is not a valid URL ({err})")
    if (signer := signer_of(name, provider)) is not None:
        return await _credentials(subject, signer)
    if request is None:
        return ok(subject, "has its key; it lists no models, so nothing was asked")
    try:
        await Discovery(name, provider, dialect, transport, timeout_s=_TIMEOUT_S).models(key)
    except DiscoveryError as err:
        match err.status:
            case None:
                return fail(subject, f"{url} {err}; check base_url and the network")
            case 401 | 403:
                variables = variables_of(provider) or "api_key_env"
                return fail(subject, f"{url} refuses the key ({err.status}); check {variables}")
            case 404:
                hint = base_url_hint(provider.kind, provider.base_url)
                return warn(subject, f"{url} is not there (404); {hint or 'check base_url'}")
        return warn(subject, f"{url} answers {err.status}; see the status page of the provider")
    return ok(subject, f"{url} answers" + (" and accepts the key" if key else ""))


async def _credentials(subject: str, signer: Signer) -> Finding:
    try:
        async with asyncio.timeout(_CREDENTIALS_S):
            await signer.sign(HttpCall(url="https://localhost/", headers=(), body=b""))
    except CredentialsError as err:
        return fail(subject, str(err))
    except TimeoutError:
        return fail(subject, f"gets no credentials within {_CREDENTIALS_S:.0f} s")
    return ok(subject, "has credentials; it lists no models, so nothing was asked")
