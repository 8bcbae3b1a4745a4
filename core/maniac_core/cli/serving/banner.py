"""The text that `serve` prints: where it listens, the first key, and a request to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from maniac_core.cli.serving.first_key import KEY_VARIABLE, FirstKey
from maniac_core.config.core import Config
from maniac_core.config.known import KNOWN_PROVIDERS, some_variables
from maniac_core.config.provider import DEMO_PROVIDER, LOCAL_PROVIDER, demo_provider

# Stands for a name that only the reader knows.
_SOME_MODEL = "MODEL"


def addresses(config: Config, url: str) -> str:
    """Return where everything is, a line each."""
    return (
        f"HTTP    {url}/v1  (reference: {url}/docs)\n"
        f"gRPC    {config.core.listen}\n"
        f"data    {config.core.data_dir}\n"
    )


def keys(key: FirstKey, environ: Mapping[str, str]) -> str:
    """Return the new key, or how to make one. One that came from the environment is not shown."""
    if key.secret is None:
        foreign = f"; {KEY_VARIABLE} does not hold one of them" if key.is_foreign else ""
        return f"keys    made earlier{foreign}; `maniac-gateway keys create` makes another\n"
    if environ.get(KEY_VARIABLE) == key.secret:
        return f"\nThe API key is the value of {KEY_VARIABLE}.\n\n"
    return f"\nAPI key, shown this once (only its hash is kept):\n\n    {key.secret}\n\n"


def models(config: Config, problem: str | None) -> str:
    """Return what can be called, and why the embedded model cannot, if so."""
    lines = [f"models  {', '.join(_models(config)) or 'none'}"]
    if problem is not None:
        lines.append(f"        no embedded model: {problem}")
    if config.providers == {DEMO_PROVIDER: demo_provider()}:
        lines.append(
            f"        {DEMO_PROVIDER} only repeats what it is sent; for real answers set one of "
            f"{some_variables()} or another of docs/providers.md, or name a provider in a --config file"
        )
    return "\n".join(lines) + "\n"


def first_request(config: Config, url: str, secret: str, environ: Mapping[str, str]) -> str:
    """Return a curl line with the new key in it, or the variable that the key came from."""
    bearer = f"${KEY_VARIABLE}" if environ.get(KEY_VARIABLE) == secret else secret
    model = _first_model(config)
    gap = f"\nPut a model of that provider in place of {_SOME_MODEL}.\n"
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
    }
    return (
        "\nA first completion:\n\n"
        f"    curl -N {url}/v1/chat/completions \\\n"
        f'      -H "Authorization: Bearer {bearer}" \\\n'
        '      -H "Content-Type: application/json" \\\n'
        f"      -d {shlex.quote(json.dumps(body))}\n"
        f"{gap if model.endswith(f'/{_SOME_MODEL}') else ''}\n"
    )


def _first_model(config: Config) -> str:
    """Return the slug for a first request: the embedded model, else one of the first provider that names one.

    A provider that passes every name on has none to show, and leaves a gap to fill.
    """
    names = sorted(config.providers, key=lambda name: name != LOCAL_PROVIDER)
    for name in names:
        known = KNOWN_PROVIDERS.get(name)
        models = config.providers[name].models or (known.first_model if known else "",)
        if models[0]:
            return f"{name}/{models[0]}"
    # A scripted provider answers to any name.
    is_scripted = config.providers[names[0]].kind == "scripted"
    return f"{names[0]}/{'anything' if is_scripted else _SOME_MODEL}"


def _models(config: Config) -> list[str]:
    return [
        slug
        for name, provider in config.providers.items()
        for slug in ([f"{name}/{model}" for model in provider.models] or [f"{name}/…"])
    ]
