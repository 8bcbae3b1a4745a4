"""`maniac-gateway pull MODEL`: fetches a model file into the data folder."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys

from maniac_core.cli.failures import UsageError
from maniac_core.cli.serving.data_dir import prepare
from maniac_core.cli.settings import load_core
from maniac_core.config.core import DEFAULT_LOCAL_MODEL
from maniac_core.local.catalogue import MODELS
from maniac_core.local.pull import PullError, pull


def run(arguments: argparse.Namespace) -> int:
    """Fetch the model unless it is there, and return the exit status."""
    config = load_core(arguments)
    # As an exception, so that what was half done is removed.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    name: str = arguments.model
    prepare(config.core.data_dir)
    try:
        path, fetched = pull(name, config.core.data_dir / "models")
    except PullError as err:
        if isinstance(err.__cause__, OSError):
            raise err.__cause__ from None
        raise UsageError(str(err)) from None
    if fetched:
        sys.stdout.write(f"{name}: fetched to {path} (licence: {MODELS[name].licence})\n")
    else:
        sys.stdout.write(f"{name}: already at {path}\n")
    if importlib.util.find_spec("xllamacpp") is None:
        sys.stdout.write("To serve it, install llama.cpp too: .venv/bin/pip install '.[local]'\n")
    elif name != DEFAULT_LOCAL_MODEL:
        sys.stdout.write(f'To serve it, set [core] local_model = "{path}"\n')
    return 0
