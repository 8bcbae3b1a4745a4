"""`maniac-gateway migrate`: brings the database to the newest schema, or moves it to PostgreSQL."""

from __future__ import annotations

import argparse
import sys

from maniac_core.cli.commands.move import move_to
from maniac_core.cli.database import migrated
from maniac_core.cli.serving.data_dir import prepare
from maniac_core.cli.settings import load_core


def run(arguments: argparse.Namespace) -> int:
    """Apply what is missing, say what that was, and return the exit status; with `--to`, move."""
    config = load_core(arguments)
    if arguments.to is not None:
        return move_to(config.core, arguments.to)
    prepare(config.core.data_dir)
    applied = migrated(config.core)
    for name in applied:
        sys.stdout.write(f"applied {name}\n")
    if not applied:
        sys.stdout.write("the schema is current\n")
    return 0
