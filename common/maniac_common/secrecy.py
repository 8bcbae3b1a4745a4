"""Keeps what a process holds in memory from other processes and from the disk."""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """Leave no core dump, and let no other process of this user read the memory or the environment (Linux).

    The limit is inherited by what this process starts, the rest is not.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
