"""Settings of a process: how it shares the processor with its threads, and when it collects garbage."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

_GC_THRESHOLD = 20_000
# How long a thread waits for the interpreter while the event loop has it. The one that commits needs it a dozen times
# per transaction, and answers wait for it.
_SWITCH_INTERVAL_S = 0.0005


def work_in_batches() -> None:
    """Use SCHED_BATCH, so that a waking thread does not preempt the running one and evict its caches."""
    # Threads that are made later inherit it. Only Linux knows it, and a sandbox may forbid it.
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def settle() -> None:
    """Leave what start-up made out of every collection, and collect rarely: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
