"""Renders a run as Markdown, and puts it between the markers of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bench.host import ROOT
from bench.procstat import Memory
from bench.results import DIRECT, PLAIN, Run, Sample, Scenario, TargetReport, median

PAGE = ROOT / "docs" / "performance.md"
_START = "<!-- bench:start (written by `python -m bench.run --table`) -->"
_END = "<!-- bench:end -->"
_MIB = 2**20


def render(run: Run) -> str:
    """Return the tables of a run, and what is needed to judge them."""
    parts = [_conditions(run), _ratios(run), _unary(run), _streams(run)]
    parts += [_memory(run), _targets(run)]
    if run.unavailable:
        missing = [
            f"- {name}: not available ({reason})" for name, reason in run.unavailable.items()
        ]
        parts.append("Not measured:\n\n" + "\n".join(missing))
    return "\n\n".join(parts) + "\n"


def write_page(run: Run, source: Path) -> None:
    """Replace what is between the markers of docs/performance.md.

    Raises:
        ValueError: the page has no markers.
    """
    text = PAGE.read_text()
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"{PAGE} needs the lines {_START} and {_END}")
    block = f"{_START}\n\nFrom `{source.relative_to(ROOT)}`.\n\n{render(run)}\n{_END}"
    PAGE.write_text(before + block + after)


def _conditions(run: Run) -> str:
    machine, loads = run.machine, (run.machine.load_average, run.load_average_after)
    before, after = (" ".join(f"{value:.2f}" for value in load) for load in loads)
    lines = [
        f"{run.started}, revision `{run.software.revision}`, Python {run.software.python}.",
        f"{machine.cpu}, {machine.cores} CPUs, Linux {machine.kernel}.",
        f"Frequency governor {machine.governor or 'not shown'}.",
        f"Load average {before} before, {after} after.",
        f"{run.pinning}. {run.rounds} round(s) of {run.seconds:g} s each, medians.",
    ]
    if run.is_quick:
        lines.append("**A quick run: these numbers only show that the benchmark works.**")
    return "\n".join(lines)


def _ratios(run: Run) -> str:
    """Compare with the plain app: both were measured on the same machine in the same minutes."""
    unary, single = Scenario(stream=None, connections=32), Scenario(stream=None, connections=1)
    paced = Scenario(stream="paced", connections=64)
    app_cpu = median(s.cpu_per_request_us for s in run.select(PLAIN, unary))
    app_p50 = median(s.load.p50_us for s in run.select(PLAIN, single))
    if not app_cpu or not app_p50:
        return f"The {PLAIN} was not measured."
    rows = []
    for target in run.targets:
        if target.name in {DIRECT, PLAIN}:
            continue
        name = target.name
        measures = (
            (median(s.cpu_per_request_us for s in run.select(name, unary) if s.cpu_us), app_cpu),
            (median(s.load.p50_us for s in run.select(name, single)), app_p50),
            (median(s.cpu_per_delta_us for s in run.select(name, paced) if s.cpu_us), app_cpu),
        )
        cells = ("" if value is None else f"{value / base:.1f} x" for value, base in measures)
        rows.append((name, *cells))
    first = ("gateway", "CPU per request, 32 connections", "p50, 1 connection")
    columns = (*first, "CPU per paced delta, to the app's CPU per request")
    return f"To the {PLAIN}:\n\n" + _table(columns, rows)


def _unary(run: Run) -> str:
    scenarios = _scenarios(run, lambda scenario: scenario.stream is None)
    first = ("gateway", "connections", "requests/s", "CPU per request", "us by process")
    columns = (*first, "p50", "p99", "added p50", "errors")
    rows = []
    for target in run.targets:
        for scenario in scenarios:
            samples = run.select(target.name, scenario)
            if samples:
                head = (target.name, str(scenario.connections))
                rows.append((*head, *_unary_cells(run, target.name, scenario, samples)))
    return "Whole answers:\n\n" + _table(columns, rows)


def _unary_cells(
    run: Run, target: str, scenario: Scenario, samples: list[Sample]
) -> tuple[str, ...]:
    added = None if target == DIRECT else run.added_p50_us(target, scenario)
    return (
        _number(samples, lambda s: s.load.requests_per_s, "{:,.0f}"),
        _cpu(samples, lambda s: s.cpu_per_request_us),
        _by_role(samples, lambda s: s.load.requests),
        _milliseconds(median(s.load.p50_us for s in samples)),
        _milliseconds(median(s.load.p99_us for s in samples)),
        _milliseconds(added),
        str(sum(s.load.errors for s in samples)),
    )


def _streams(run: Run) -> str:
    scenarios = _scenarios(run, lambda scenario: scenario.stream is not None)
    first = ("gateway", "streams", "deltas/s", "CPU per delta", "us by process")
    columns = (*first, "TTFT p50", "TTFT p99", "stream p50", "stream p99", "errors")
    rows = []
    for target in run.targets:
        for scenario in scenarios:
            samples = run.select(target.name, scenario)
            if samples:
                kind = f"{scenario.connections} {scenario.stream}"
                rows.append((target.name, kind, *_stream_cells(samples)))
    return "Streams:\n\n" + _table(columns, rows)


def _stream_cells(samples: list[Sample]) -> tuple[str, ...]:
    return (
        _number(samples, lambda s: s.load.deltas_per_s, "{:,.0f}"),
        _cpu(samples, lambda s: s.cpu_per_delta_us),
        _by_role(samples, lambda s: s.load.deltas),
        _milliseconds(median(s.load.ttft_p50_us for s in samples)),
        _milliseconds(median(s.load.ttft_p99_us for s in samples)),
        _milliseconds(median(s.load.p50_us for s in samples)),
        _milliseconds(median(s.load.p99_us for s in samples)),
        str(sum(s.load.errors for s in samples)),
    )


def _memory(run: Run) -> str:
    columns = ("gateway", "process", "RSS idle", "PSS idle", "RSS after", "PSS after")
    rows = []
    for target in run.targets:
        for role, idle in target.memory_idle.items():
            after = target.memory_after[role]
            rows.append((target.name, role, *_mebibytes(idle), *_mebibytes(after)))
    return "Memory in MiB, before the first load and after the last:\n\n" + _table(columns, rows)


def _targets(run: Run) -> str:
    columns = ("gateway", "version", "what it does per request", "answered", "on record")
    return "What was on:\n\n" + _table(columns, [_target_cells(target) for target in run.targets])


def _target_cells(target: TargetReport) -> tuple[str, ...]:
    captured = "" if target.captured is None else f"{target.captured:,}"
    features = ", ".join(target.features)
    return (target.name, target.version, features, f"{target.answered:,}", captured)


def _scenarios(run: Run, wanted: Callable[[Scenario], bool]) -> list[Scenario]:
    return list(dict.fromkeys(s.scenario for s in run.samples if wanted(s.scenario)))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(samples: list[Sample], value: Callable[[Sample], float], form: str) -> str:
    middle = median(map(value, samples))
    return "" if middle is None else form.format(middle)


def _cpu(samples: list[Sample], value: Callable[[Sample], float]) -> str:
    if not samples[0].cpu_us:
        return "not known"
    if not all(s.load.requests for s in samples):
        return "failed"
    return _number(samples, value, "{:,.1f} us")


def _by_role(samples: list[Sample], count: Callable[[Sample], int]) -> str:
    roles = samples[0].cpu_us
    if len(roles) < 2:
        return ""
    middles = {role: median(s.cpu_us[role] / max(1, count(s)) for s in samples) for role in roles}
    return ", ".join(f"{role} {middle or 0:,.1f}" for role, middle in middles.items())


def _milliseconds(value_us: float | None) -> str:
    return "" if value_us is None else f"{value_us / 1000:,.2f} ms"


def _mebibytes(used: Memory) -> tuple[str, str]:
    return f"{used.rss / _MIB:.0f}", f"{used.pss / _MIB:.0f}"
