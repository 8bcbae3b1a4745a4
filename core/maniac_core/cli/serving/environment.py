"""Which variables each child of `serve` gets: what it needs, by name, and nothing else. Secrets go to whom they serve."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from maniac_core.config.core import Config
from maniac_core.config.known import known_as
from maniac_core.config.provider import key_variables
from maniac_core.storage.engines import POSTGRES_SCHEMES

# Where programs, libraries and folders are; language and time; the interpreter, the loader and the allocator.
_EVERYWHERE = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|NO_COLOR|TZ|TZDIR|LANG|LANGUAGE|LC_\w+|TMPDIR|TMP|TEMP|XDG_\w+_(HOME|DIR)|"
    r"VIRTUAL_ENV|PYTHON\w*|LD_\w+|DYLD_\w+|MALLOC_\w+|SSL_CERT_(FILE|DIR)"
)
_PROXIES = re.compile(r"(?i)(https?|all|no)_proxy")
_TRACES = re.compile(r"OTEL_\w+|(REQUESTS|CURL)_CA_BUNDLE")
_GRPC = re.compile(r"GRPC_\w+")
_LLAMA = re.compile(r"(OMP|GOMP|KMP|GGML|LLAMA|CUDA|HIP|ROCR|VK)_\w+")
_CORE_SETTINGS = re.compile(r"MANIAC_CORE__\w+")
_EDGE_SETTINGS = re.compile(r"MANIAC_EDGE__\w+")
_POSTGRES = re.compile(r"PG\w+|KRB5\w+")
_GOOGLE = re.compile(r"(GOOGLE|CLOUDSDK|GCE_METADATA)_\w+|NO_GCE_CHECK")
_AWS = re.compile(r"AWS_\w+")


def for_core(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the core needs: the keys of its providers, and what its database and its object store ask for."""
    core = config.core
    patterns = [_EVERYWHERE, _PROXIES, _TRACES, _GRPC, _CORE_SETTINGS]
    if core.database_url.partition(":")[0] in POSTGRES_SCHEMES:
        patterns.append(_POSTGRES)
    if core.object_store_url.startswith("s3:"):
        patterns.append(_AWS)
        names = named_variables(config)
    else:
        names = named_variables(config) - {
            core.object_store_key_id_env,
            core.object_store_secret_env,
        }
    kinds = {provider.kind for provider in config.providers.values()}
    if "bedrock" in kinds:
        patterns.append(_AWS)
    if "vertex" in kinds:
        patterns.append(_GOOGLE)
    return _chosen(environ, patterns, names)


def for_edge(names: frozenset[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the edge needs, `names` among it; no provider's key, and nothing of the database."""
    patterns = [_EVERYWHERE, _GRPC, _EDGE_SETTINGS]
    if any(name.startswith("OTEL_") for name in environ):
        # The export of traces goes through a proxy; nothing else of the edge does.
        patterns += [_TRACES, _PROXIES]
    return _chosen(environ, patterns, names)


def for_model(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the embedded model's server needs: nothing that is secret."""
    return _chosen(environ, [_EVERYWHERE, _LLAMA], frozenset())


def named_variables(config: Config) -> frozenset[str]:
    """Return the names of the variables that the configuration refers to, and those of the known providers in it."""
    names = {
        value
        for field in msgspec.structs.fields(config.core)
        if field.name.endswith("_env") and (value := getattr(config.core, field.name))
    }
    for name, provider in config.providers.items():
        names.update(key_variables(provider))
        if row := known_as(name, provider.kind):
            names |= row.variables
    return frozenset(names)


def _chosen(
    environ: Mapping[str, str], patterns: list[re.Pattern[str]], names: frozenset[str]
) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name in names or any(pattern.fullmatch(name) for pattern in patterns)
    }
