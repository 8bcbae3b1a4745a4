"""The user that gives a command, for the audit log."""

from __future__ import annotations

import getpass

from maniac_core.domain.audit import Actor


def operator() -> Actor:
    """Return the user that runs this process."""
    try:
        return Actor(kind="command", name=getpass.getuser())
    except (KeyError, OSError):
        # In a container the user may have no name.
        return Actor(kind="command")
