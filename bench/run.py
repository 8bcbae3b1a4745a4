"""`make bench`: measures our gateway, the mock upstream directly, and whatever else is asked for, in one run.

    python -m bench.run --quick
    python -m bench.run --pin --others litellm portkey
    python -m bench.run --url http://127.0.0.1:8000/v1 --key sk-… --model gpt-4o-mini --pid 1234
    python -m bench.run --table

In each round every target gets every load once, so that a change of the machine's speed meets all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import procstat, results, table, wrk
from bench.gateway import gateway
from bench.host import ROOT, free_port, machine, module_command, software
from bench.load import LoadResult
from bench.others import OTHERS, other
from bench.process import Running, StartError, fetch, started, stop_on_sigterm
from bench.results import DIRECT, PLAIN, Run, Sample, Scenario, TargetReport
from bench.target import Target

SCENARIOS = tuple(Scenario(stream=None, connections=count) for count in (1, 32, 128)) + tuple(
    Scenario(stream=name, connections=64) for name in ("paced", "separate", "burst")
)
_POSTGRES = "MANIAC_BENCH_POSTGRES_URL"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure."""

    seconds: float
    rounds: int
    gateway_cpu: int | None
    load_cpu: int | None

    @property
    def pinning(self) -> str:
        """What runs where, in words."""
        if self.gateway_cpu is None:
            return "Nothing pinned: gateway, load and mock upstream share all CPUs"
        return f"Gateway pinned to CPU {self.gateway_cpu}, load and mock upstream to CPU {self.load_cpu}"


@contextlib.contextmanager
def mock_upstream(directory: Path, cpu: int | None = None) -> Iterator[Running]:
    """Run the mock upstream.

    Raises:
        StartError: it did not come up.
    """
    port = free_port()
    with started(
        module_command("mock_upstream", "--port", port),
        ready_url=f"http://127.0.0.1:{port}/v1/models",
        log=directory / "mock.log",
        cpu=cpu,
    ) as pid:
        target = Target(url=f"http://127.0.0.1:{port}/v1")
        yield Running(
            name=DIRECT,
            target=target,
            roles={"mock": [pid]},
            features=("the mock itself",),
            version="",
        )


@contextlib.contextmanager
def plain_app(directory: Path, cpu: int | None = None) -> Iterator[Running]:
    """Run the plain ASGI app.

    Raises:
        StartError: it did not come up.
    """
    port = free_port()
    with started(
        module_command("plain_app", "--port", port),
        ready_url=f"http://127.0.0.1:{port}/v1/models",
        log=directory / "plain.log",
        cpu=cpu,
    ) as pid:
        yield Running(
            name=PLAIN,
            target=Target(url=f"http://127.0.0.1:{port}/v1"),
            roles={"app": [pid]},
            features=("answers prepared bytes",),
            version="",
        )


def run_load(
    target: Target, scenario: Scenario, seconds: float, cpu: int | None = None
) -> LoadResult:
    """Run one load in a process of its own.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    arguments = ["--url", target.url, "--key", target.key, "--model", target.model]
    for name, value in target.headers.items():
        arguments += ["--header", f"{name}:{value}"]
    arguments += ["--connections", str(scenario.connections), "--seconds", str(seconds)]
    if cpu is not None:
        arguments += ["--cpu", str(cpu)]
    if scenario.stream:
        arguments += ["--stream", scenario.stream]
    elif wrk.is_available() and seconds >= 1:
        arguments += ["--driver", "wrk"]
    done = subprocess.run(
        module_command("load", *arguments), capture_output=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    return msgspec.json.decode(done.stdout, type=LoadResult)


def measure(running: Running, scenario: Scenario, number: int, plan: Plan) -> Sample:
    """Load a target and return what it did and what CPU time it took."""
    before = procstat.cpu_by_role(running.roles)
    load = run_load(running.target, scenario, plan.seconds, plan.load_cpu)
    after = procstat.cpu_by_role(running.roles)
    spent = {role: after[role] - before[role] for role in after}
    return Sample(target=running.name, scenario=scenario, round=number, load=load, cpu_us=spent)


def _start_all(
    stack: contextlib.ExitStack, options: argparse.Namespace, directory: Path, plan: Plan
) -> tuple[list[Running], dict[str, str]]:
    """Start every target; what does not come up is named with its reason, except for what this is all about."""
    upstream = stack.enter_context(mock_upstream(directory, plan.load_cpu))
    targets, unavailable = [upstream], {}
    url, cpu = upstream.target.url, plan.gateway_cpu
    targets.append(stack.enter_context(plain_app(directory, cpu)))
    targets.append(stack.enter_context(gateway(url, directory / "sqlite", cpu=cpu)))
    if options.postgres:
        name = "maniac-gateway, PostgreSQL"
        try:
            ours = gateway(url, directory / "pg", name=name, database_url=options.postgres, cpu=cpu)
            targets.append(stack.enter_context(ours))
        except StartError as err:
            unavailable["PostgreSQL"] = _last_line(err)
    else:
        unavailable["PostgreSQL"] = f"no --postgres URL and no {_POSTGRES}"
    for name in options.others:
        try:
            targets.append(stack.enter_context(other(name, url, directory, cpu=cpu)))
        except StartError as err:
            unavailable[name] = _last_line(err)
    if options.url:
        target = Target(url=options.url, key=options.key, model=options.model)
        roles = {"gateway": procstat.process_tree(options.pid)} if options.pid else {}
        targets.append(
            Running(name=options.name, target=target, roles=roles, features=(), version="")
        )
    return targets, unavailable


def _measure_all(targets: list[Running], plan: Plan) -> tuple[list[Sample], list[TargetReport]]:
    answered = dict.fromkeys((target.name for target in targets), 0)
    idle = {target.name: procstat.memory_by_role(target.roles) for target in targets}
    for target in targets:
        for scenario in (SCENARIOS[1], SCENARIOS[-1]):
            warm = run_load(target.target, scenario, min(1.0, plan.seconds), plan.load_cpu)
            answered[target.name] += warm.requests
    samples: list[Sample] = []
    for number in range(plan.rounds):
        for target in targets:
            for scenario in SCENARIOS:
                sample = measure(target, scenario, number, plan)
                samples.append(sample)
                answered[target.name] += sample.load.requests
                _print_progress(sample)
    reports = [
        TargetReport(
            name=target.name,
            version=target.version,
            features=target.features,
            memory_idle=idle[target.name],
            memory_after=procstat.memory_by_role(target.roles),
            answered=answered[target.name],
            captured=_captured(target),
        )
        for target in targets
    ]
    return samples, reports


def _captured(target: Running) -> int | None:
    if not target.name.startswith("maniac-gateway"):
        return None
    return int(json.loads(fetch(target.target, "/chat/completions?limit=1"))["total"])


def _print_progress(sample: Sample) -> None:
    kind, load = sample.scenario.stream or "unary", sample.load
    rate = f"{load.deltas_per_s:,.0f} deltas/s" if load.deltas else f"{load.requests_per_s:,.0f}/s"
    trouble = f", {load.errors} errors: {load.first_error[:200]}" if load.errors else ""
    print(
        f"{sample.target}: {kind} x{sample.scenario.connections}: {rate}{trouble}",
        file=sys.stderr,
        flush=True,
    )


def _last_line(err: Exception) -> str:
    return str(err).strip().splitlines()[-1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="measure the gateway")
    parser.add_argument("--quick", action="store_true", help="half a second each: is it working?")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pin", action="store_true", help="gateway on CPU 0, the rest on CPU 1")
    parser.add_argument("--others", nargs="*", default=[], choices=sorted(OTHERS))
    parser.add_argument("--postgres", default=os.environ.get(_POSTGRES), help="an empty database")
    parser.add_argument("--url", help="a further OpenAI-compatible gateway that is running")
    parser.add_argument("--key", default="none", help="its key")
    parser.add_argument("--model", default="gpt-4o-mini", help="its model")
    parser.add_argument("--name", default="other", help="its name")
    parser.add_argument("--pid", type=int, help="its process, to measure CPU and memory")
    parser.add_argument(
        "--table",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="write docs/performance.md from this file, or from the newest, and measure nothing",
    )
    return parser.parse_args()


def _write_table(given: Path) -> int:
    path = given.resolve() if given != Path() else results.newest()
    if path is None:
        print(f"no results in {results.DIRECTORY}", file=sys.stderr)
        return 1
    table.write_page(results.read(path), path)
    print(f"{table.PAGE} has the table of {path.name}")
    return 0


def main() -> int:
    """Measure and save, or write the table; returns the exit status, 1 if any answer was wrong or lost."""
    options = _options()
    stop_on_sigterm()
    if options.table is not None:
        return _write_table(options.table)
    plan = Plan(
        seconds=0.5 if options.quick else options.seconds,
        rounds=1 if options.quick else options.rounds,
        gateway_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
    )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    before = machine()
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory,
        contextlib.ExitStack() as stack,
    ):
        targets, unavailable = _start_all(stack, options, Path(directory), plan)
        samples, reports = _measure_all(targets, plan)
    run = Run(
        started=now,
        is_quick=options.quick,
        pinning=plan.pinning,
        seconds=plan.seconds,
        rounds=plan.rounds,
        machine=before,
        load_average_after=os.getloadavg(),
        software=software(),
        targets=reports,
        samples=samples,
        unavailable=unavailable,
    )
    path = results.save(run)
    print(table.render(run))
    print(f"written to {path.relative_to(ROOT)}")
    lost = [r for r in reports if r.captured is not None and r.captured < r.answered]
    for report in lost:
        print(f"{report.name}: answered {report.answered}, on record {report.captured}")
    return 1 if lost or any(sample.load.errors for sample in samples) else 0


if __name__ == "__main__":
    sys.exit(main())
