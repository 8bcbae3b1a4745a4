"""The process of the embedded model: `python -m maniac_core.local.server --model FILE --port N`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import xllamacpp
from maniac_common import logs

_CONTEXT_TOKENS = 4096
_SLOTS = 2
_NICENESS = 5
_ERRORS_ONLY = -1

_log = logging.getLogger("maniac_core.local.server")


def main(argv: list[str] | None = None) -> int:
    """Load the model, serve it on 127.0.0.1 until SIGTERM, and return the exit status."""
    parser = argparse.ArgumentParser(prog="maniac_core.local.server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--log-format", choices=("auto", "json", "pretty"), default="auto")
    arguments = parser.parse_args(argv)
    logs.configure(arguments.log_format, "maniac_core")
    # The default actions end the process at once, wherever llama.cpp is: it keeps nothing.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Generating takes every core for seconds; the gateway's own work must not wait behind it.
    os.nice(_NICENESS)
    try:
        server = xllamacpp.Server(server_parameters(arguments.model, arguments.port))
    except RuntimeError as err:
        # llama.cpp gives no reason here.
        _log.error(
            "local model: %s cannot be served on port %d (is it a GGUF file, is the port free, "
            "is there memory?): %s",
            *(arguments.model, arguments.port, err),
        )
        return 1
    _log.info("local model: %s at %s", arguments.model.name, server.listening_address)
    while True:
        signal.pause()


def server_parameters(model: Path, port: int) -> xllamacpp.CommonParams:
    """Return llama.cpp's parameters: reachable from this machine only, and nothing but the API."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {model.stem.lower()}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = _SLOTS
    # The context is divided among the slots.
    parameters.n_ctx = _CONTEXT_TOKENS * _SLOTS
    parameters.cpuparams.n_threads = os.cpu_count() or 1
    parameters.verbosity = _ERRORS_ONLY
    # It would keep up to 8 GiB of earlier prompts.
    parameters.cache_ram_mib = 0
    # Pages in a browser may not call it, and its slots, which show prompts, are not served.
    parameters.cors_origins = ""
    parameters.endpoint_slots = False
    parameters.ui = False
    parameters.offline = True
    return parameters


if __name__ == "__main__":
    sys.exit(main())
