"""Regression guard: runs two revisions side by side in one session and compares them by ratio.

    python -m bench.compare main HEAD
    python -m bench.compare HEAD . --threshold 1.10

`.` is the working tree as it is, in the environment that runs this; any other revision gets a worktree and an
environment of its own under the cache directory. Both gateways stay up and are loaded in turn, first one and then
the other in front, so that what the machine does meets both.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.gateway import COMMAND, gateway
from bench.host import ROOT
from bench.others import cache_directory
from bench.process import Running, stop_on_sigterm
from bench.results import Sample, Scenario, median
from bench.run import Plan, measure, mock_upstream, run_load

_UNARY = Scenario(stream=None, connections=32)
_SINGLE = Scenario(stream=None, connections=1)
_PACED = Scenario(stream="paced", connections=64)
_METRICS: tuple[tuple[str, Scenario, Callable[[Sample], float]], ...] = (
    ("CPU per request, us", _UNARY, lambda sample: sample.cpu_per_request_us),
    ("p50 at 1 connection, us", _SINGLE, lambda sample: sample.load.p50_us),
    ("CPU per paced delta, us", _PACED, lambda sample: sample.cpu_per_delta_us),
)


def prepare(revision: str) -> tuple[Path, Path]:
    """Return the command and the working tree of a revision, made if they are not there yet.

    Raises:
        subprocess.CalledProcessError: no such revision, or it cannot be installed.
    """
    if revision == ".":
        return COMMAND, ROOT
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    tree = cache_directory() / "revisions" / commit
    command = tree / ".venv" / "bin" / "maniac-gateway"
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", str(tree), commit)
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(tree / ".venv")], check=True)
        pip = tree / ".venv" / "bin" / "pip"
        subprocess.run([str(pip), "install", "--quiet", "--editable", str(tree)], check=True)
    return command, tree


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def _alternate(a: Running, b: Running, plan: Plan) -> list[Sample]:
    scenarios = [scenario for _, scenario, _ in _METRICS]
    for running in (a, b):
        run_load(running.target, _UNARY, 1.0, plan.load_cpu)
    samples = []
    for number in range(plan.rounds):
        pair = (a, b) if number % 2 == 0 else (b, a)
        for scenario in scenarios:
            samples += [measure(running, scenario, number, plan) for running in pair]
    return samples


def _judge(samples: list[Sample], threshold: float) -> bool:
    """Print the ratios and tell whether none is above the threshold."""
    is_good = not any(sample.load.errors for sample in samples)
    for name, scenario, value in _METRICS:
        chosen = [sample for sample in samples if sample.scenario == scenario]
        a = median(value(sample) for sample in chosen if sample.target == "A") or 0.0
        b = median(value(sample) for sample in chosen if sample.target == "B") or 0.0
        ratio = b / a if a else float("inf")
        is_good = is_good and ratio <= threshold
        verdict = "  REGRESSION" if ratio > threshold else ""
        print(f"{name:26} A {a:9.1f}   B {b:9.1f}   B/A {ratio:.3f}{verdict}")
    return is_good


def main() -> int:
    """Compare; the exit status is 1 when B is worse than A by more than the threshold, or an answer was wrong."""
    parser = argparse.ArgumentParser(description="compare two revisions by ratio")
    parser.add_argument("a", metavar="REV_A", help="the one to compare with")
    parser.add_argument("b", metavar="REV_B", help="the one in question")
    parser.add_argument("--threshold", type=float, default=1.10, help="largest ratio B/A")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--pin", action="store_true", help="gateways on CPU 0, the rest on CPU 1")
    options = parser.parse_args()
    stop_on_sigterm()
    plan = Plan(
        seconds=options.seconds,
        rounds=options.rounds,
        gateway_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
    )
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as temporary,
        contextlib.ExitStack() as stack,
    ):
        directory = Path(temporary)
        upstream = stack.enter_context(mock_upstream(directory, plan.load_cpu))
        pair = []
        for name, revision in (("A", options.a), ("B", options.b)):
            command, tree = prepare(revision)
            ours = gateway(
                upstream.target.url,
                directory / name,
                name=name,
                command=command,
                tree=tree,
                cpu=plan.gateway_cpu,
            )
            pair.append(stack.enter_context(ours))
            print(f"{name}: {revision} ({pair[-1].version})", flush=True)
        samples = _alternate(pair[0], pair[1], plan)
    return 0 if _judge(samples, options.threshold) else 1


if __name__ == "__main__":
    sys.exit(main())
