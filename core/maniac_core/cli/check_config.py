"""`maniac-gateway check-config`: prints what core and edge would run with, without secrets."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any

import msgspec

from maniac_core.cli.settings import edge_document, listen_address, load_core
from maniac_core.config import Config, ConfigError, ProviderConfig, resolve_keys

_USERINFO = re.compile(r"(://[^/@:]*:)[^/@]*@")


def run(arguments: argparse.Namespace) -> int:
    """Print the effective configuration as JSON and return the exit status; 1: it cannot be used."""
    try:
        config = load_core(arguments)
        listen_address(config.core)
        edge = msgspec.json.decode(edge_document(arguments))
    except ConfigError as err:
        sys.stderr.write(f"maniac-gateway: {err}\n")
        return 1
    text = msgspec.json.format(msgspec.json.encode(_document(config, edge)), indent=2).decode()
    sys.stdout.write(_USERINFO.sub(r"\1***@", text) + "\n")
    return 0


def _document(config: Config, edge: Any) -> dict[str, Any]:
    core = msgspec.to_builtins(config.core, enc_hook=str)
    core["internal_key"] = "***" if os.environ.get(config.core.internal_key_env) else None
    return {
        "source": config.source,
        "core": core,
        "edge": edge,
        "providers": {name: _provider(table) for name, table in config.providers.items()},
    }


def _provider(provider: ProviderConfig) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(provider)
    table["api_key"] = ["***" for _ in resolve_keys(provider)]
    return table
