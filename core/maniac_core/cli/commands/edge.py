"""`maniac-gateway edge`: becomes one edge process."""

from __future__ import annotations

import argparse
import os

from maniac_core.cli.serving import ports
from maniac_core.cli.settings import edge_command, load_edge


def run(arguments: argparse.Namespace) -> int:
    """Replace this process by the edge; signals then reach it without a go-between."""
    edge = load_edge(arguments)
    ports.claim([ports.Wish(edge.host, edge.port, "--port", "--host")])
    command = edge_command(arguments)
    os.execv(command[0], command)  # noqa: S606 - our own command
