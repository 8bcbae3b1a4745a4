"""`maniac-gateway core`: one core, in this process."""

from __future__ import annotations

import argparse
import logging
import os

import uvloop
from maniac_common import logs
from maniac_common.secrecy import protect_memory

from maniac_core.cli import prerequisites
from maniac_core.cli.database import require_file
from maniac_core.cli.failures import describe
from maniac_core.cli.hints import with_options
from maniac_core.cli.serving import ports
from maniac_core.cli.settings import listen_address, load_core
from maniac_core.masking import mask
from maniac_core.server import run_core
from maniac_core.storage.base import StorageError

_log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal and return the exit status."""
    # Only `serve` runs a server for the embedded model; it says so with the option.
    config = load_core(arguments, local_model=arguments.local_model or "off")
    host, port = listen_address(config.core)
    prerequisites.check(config.core, os.environ)
    grpc_port = ports.Wish(host, port, "--grpc-port", "[core] listen")
    ports.claim([grpc_port, *ports.relay_wishes(config.core)])
    logs.configure(config.core.log_format, "maniac_core")
    protect_memory()
    try:
        require_file(config.core)
        return uvloop.run(run_core(config, os.environ, has_demo=arguments.demo))
    except (OSError, StorageError) as err:
        _log.error("core: %s", mask(with_options(describe(err), arguments)))
        return 1
