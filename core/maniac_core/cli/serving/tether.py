"""Starts a program that dies with its parent: `tether.py PARENT_PID PROGRAM ARGUMENT…`.

It is run as a file, by a bare interpreter, because it stands before every start of a child: a few milliseconds, and
nothing done between fork and exec. Only Linux has the tie; elsewhere a child outlives a parent that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Ask the kernel for SIGKILL at the parent's death, then become the program."""
    if sys.platform == "linux":
        # Not SIGTERM: whoever starts the gateway again must find its ports free at once, and an answer that was
        # acknowledged is on disk whatever the signal.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have died before the kernel was asked.
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the parent's own command


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
