"""`maniac-gateway core`: one core, in this process."""

from __future__ import annotations

import argparse
import logging
import os

import uvloop

from maniac_core import logs
from maniac_core.cli.settings import load_core
from maniac_core.server import run_core
from maniac_core.storage.base import StorageError

_log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal and return the exit status."""
    # Only `serve` runs a server for the embedded model; it says so with the option.
    config = load_core(arguments, local_model=arguments.local_model or "off")
    logs.configure(config.core.log_format)
    try:
        return uvloop.run(run_core(config, os.environ, has_demo=arguments.demo))
    except (OSError, StorageError) as err:
        _log.error("core: %s", err)
        return 1
