"""What a benchmark run leaves behind: one JSON file per run under bench/results."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.host import Machine, Software
from bench.load import LoadResult
from bench.procstat import Memory

DIRECTORY = Path(__file__).with_name("results")
DIRECT = "direct"
"""Name of the target that is the mock upstream itself."""
PLAIN = "plain uvicorn app"
"""Name of the target that the others are compared with, by ratio."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load."""

    stream: str | None
    """A name of `target.SCRIPTS`; None: whole answers."""
    connections: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one target."""

    target: str
    scenario: Scenario
    round: int
    load: LoadResult
    cpu_us: dict[str, int]
    """CPU time spent during the load, by role, in microseconds."""

    @property
    def cpu_per_request_us(self) -> float:
        """CPU time per answer over all roles."""
        return sum(self.cpu_us.values()) / max(1, self.load.requests)

    @property
    def cpu_per_delta_us(self) -> float:
        """CPU time per delta over all roles; what the request itself costs is spread over its deltas."""
        return sum(self.cpu_us.values()) / max(1, self.load.deltas)


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One server of the run."""

    name: str
    version: str
    features: tuple[str, ...]
    memory_idle: dict[str, Memory]
    """By role, before the first load."""
    memory_after: dict[str, Memory]
    """By role, after the last load."""
    answered: int
    """Requests it answered in all, warm-up included."""
    captured: int | None
    """Completions it has on record at the end; None: it keeps none, or none that can be counted."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `bench.run`."""

    started: str
    """ISO 8601, UTC."""
    is_quick: bool
    """Too short for numbers to quote."""
    pinning: str
    seconds: float
    """Of each load."""
    rounds: int
    machine: Machine
    load_average_after: tuple[float, float, float]
    software: Software
    targets: list[TargetReport]
    samples: list[Sample]
    unavailable: dict[str, str]
    """What was not measured, and why."""

    def select(self, target: str, scenario: Scenario) -> list[Sample]:
        """Return the samples of a target in a scenario, in the order of rounds."""
        found = (s for s in self.samples if s.target == target and s.scenario == scenario)
        return sorted(found, key=lambda sample: sample.round)

    def added_p50_us(self, target: str, scenario: Scenario) -> float | None:
        """Return the median over the rounds of what the target's p50 is above the direct one of that round."""
        direct = {s.round: s.load.p50_us for s in self.select(DIRECT, scenario)}
        return median(
            s.load.p50_us - direct[s.round]
            for s in self.select(target, scenario)
            if s.round in direct
        )


def median(values: Iterable[float]) -> float | None:
    """Return the median, or None without values."""
    listed = list(values)
    return statistics.median(listed) if listed else None


def save(run: Run) -> Path:
    """Write a run to its file and return the path."""
    DIRECTORY.mkdir(exist_ok=True)
    stamp = run.started[:16].replace(":", "")
    kind = "quick-" if run.is_quick else ""
    path = DIRECTORY / f"{kind}{stamp}-{run.machine.host}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    return path


def read(path: Path) -> Run:
    """Read a run back.

    Raises:
        msgspec.DecodeError: not a file of this form.
    """
    return msgspec.json.decode(path.read_bytes(), type=Run)


def newest() -> Path | None:
    """Return the newest file of a run that was not quick, or None."""
    paths = sorted(path for path in DIRECTORY.glob("*.json") if not path.name.startswith("quick-"))
    return paths[-1] if paths else None
