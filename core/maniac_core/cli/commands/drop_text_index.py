"""`maniac-gateway drop-text-index`: drops the index that `[core] text_index` asks for."""

from __future__ import annotations

import argparse
import sys

from maniac_core.cli.database import require_file
from maniac_core.cli.settings import load_core
from maniac_core.storage.engines import drop_text_index


def run(arguments: argparse.Namespace) -> int:
    """Drop it and return the exit status."""
    config = load_core(arguments).core
    require_file(config)
    drop_text_index(config)
    sys.stdout.write("The index of texts is dropped.")
    if config.text_index:
        sys.stdout.write(" Unset [core] text_index, or the next start makes it again.")
    sys.stdout.write("\n")
    return 0
