"""`maniac-gateway check-config`: prints what core and edge would run with, without secrets."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import msgspec

from maniac_core.cli import prerequisites
from maniac_core.cli.failures import report
from maniac_core.cli.settings import edge_document, listen_address, load_core
from maniac_core.config.core import Config, ConfigError
from maniac_core.config.provider import ProviderConfig, resolve_keys
from maniac_core.masking import mask


def run(arguments: argparse.Namespace) -> int:
    """Print the effective configuration as JSON and return the exit status; 1: it cannot be used."""
    try:
        config = load_core(arguments)
        listen_address(config.core)
        prerequisites.check(config.core, os.environ)
        edge = msgspec.json.decode(edge_document(arguments))
    except ConfigError as err:
        report(err, arguments)
        return 1
    document = msgspec.json.encode(_masked(_document(config, edge)))
    sys.stdout.write(msgspec.json.format(document, indent=2).decode() + "\n")
    return 0


def _document(config: Config, edge: Any) -> dict[str, Any]:
    core = msgspec.to_builtins(config.core, enc_hook=str)
    core["internal_key"] = "***" if os.environ.get(config.core.internal_key_env) else None
    return {
        "source": config.source,
        "core": core,
        "edge": edge,
        "providers": {name: _provider(table) for name, table in config.providers.items()},
        "aliases": msgspec.to_builtins(config.aliases),
    }


def _masked(value: Any) -> Any:
    """Return JSON without the secrets that addresses in its texts may hold."""
    match value:
        case str():
            return mask(value)
        case dict():
            return {key: _masked(item) for key, item in value.items()}
        case list() | tuple():
            return [_masked(item) for item in value]
    return value


def _provider(provider: ProviderConfig) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(provider)
    table["api_key"] = ["***" for _ in resolve_keys(provider)]
    return table
