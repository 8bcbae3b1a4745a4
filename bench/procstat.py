"""CPU time and memory of running processes, read from /proc.

CPU comes from /proc/PID/stat, which sums all threads, ended ones too; its unit is the clock tick (10 ms), so a
difference over a run of seconds is exact to a percent or better.

    python -m bench.procstat PID --seconds 5
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")

Roles = Mapping[str, Iterable[int]]
"""Process ids by what they are: edge, core, …"""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one role, in bytes, summed over its processes."""

    rss: int
    pss: int
    """RSS with shared pages divided among those who share them: what sums up to the truth."""
    anonymous: int
    """Pages of the process's own: without mapped files, which grow with the database, not with a leak."""


def cpu_us(pid: int) -> int:
    """Return the CPU time a process has used, user and system, all threads, in microseconds.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return _cpu_us_of(Path(f"/proc/{pid}/stat"))


def thread_cpu_us(pid: int) -> dict[str, int]:
    """Return the CPU time of each running thread, in microseconds, by `name/thread id`."""
    times: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            times[f"{name}/{task.name}"] = _cpu_us_of(task / "stat")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended between the listing and the look.
    return times


def memory(pids: Iterable[int]) -> Memory:
    """Return the memory of these processes together."""
    sums = dict.fromkeys(("Rss", "Pss", "Pss_Anon"), 0)
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in sums:
                sums[key] += int(rest.split()[0]) * 1024
    return Memory(rss=sums["Rss"], pss=sums["Pss"], anonymous=sums["Pss_Anon"])


def cpu_by_role(roles: Roles) -> dict[str, int]:
    """Return the CPU time of each role, in microseconds."""
    return {role: sum(map(cpu_us, pids)) for role, pids in roles.items()}


def memory_by_role(roles: Roles) -> dict[str, Memory]:
    """Return the memory of each role."""
    return {role: memory(pids) for role, pids in roles.items()}


def process_tree(root: int) -> list[int]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_fields(entry / "stat")[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended between the listing and the look.
            children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(sorted(children.get(pid, ())))
    return tree


def command_line(pid: int) -> list[str]:
    """Return the arguments a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]


def _cpu_us_of(stat: Path) -> int:
    fields = _fields(stat)
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def _fields(stat: Path) -> list[str]:
    """Return the fields from the state on: the name before it may hold blanks and brackets."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(f"{stat}: no such process") from None


def main() -> None:
    """Print what a process and its children used over some seconds."""
    parser = argparse.ArgumentParser(description="CPU and memory of a process and its children")
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    pids = process_tree(options.pid)
    before = {pid: thread_cpu_us(pid) for pid in pids}
    time.sleep(options.seconds)
    for pid in pids:
        used = memory([pid])
        print(f"{pid} {' '.join(command_line(pid))[:100]}")
        print(f"  rss {used.rss / 2**20:.1f} MiB, pss {used.pss / 2**20:.1f} MiB")
        for thread, after in thread_cpu_us(pid).items():
            spent_us = after - before[pid].get(thread, 0)
            print(f"  {thread}: {spent_us / options.seconds / 1e4:.1f} % of a CPU")


if __name__ == "__main__":
    main()
