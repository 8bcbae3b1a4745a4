"""Checks what only a core would find out when it starts, so that a command can say it in one line before."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from maniac_common.telemetry import exports_traces

from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.config.edge_access import edge_secret, relay_address, server_tls
from maniac_core.services.limits.redis_windows import redis_windows


def check(config: CoreConfig, environ: Mapping[str, str]) -> None:
    """Return if a core can be made of the configuration.

    Raises:
        ConfigError: a secret, a certificate or an address cannot be used, or an extra is not installed.
    """
    edge_secret(config, environ)
    server_tls(config)
    relay_address(config)
    if config.redis_url:
        redis_windows(config)
    try:
        wants_traces = exports_traces(environ)
    except ValueError as err:
        raise ConfigError(str(err)) from None
    if wants_traces:
        # It says itself what is missing.
        importlib.import_module("maniac_core.services.observe.tracing")
