"""Reads a seeded data folder over HTTP while completions run, and reports matches, p50 and p99 of each kind of query.

    python -m bench.seed --data-dir /tmp/big --rows 2000000
    python -m bench.scale --data-dir /tmp/big --load 4

Fails when a p99 is above the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from bench.gateway import gateway
from bench.host import ROOT, module_command
from bench.process import Running, stop_on_sigterm
from bench.quantiles import quantile
from bench.run import mock_upstream
from bench.seed import Seeded, SeededProject
from bench.target import Target

_LIST = "/chat/completions"


class Reader:
    """Reads one project over one keep-alive connection."""

    def __init__(self, target: Target) -> None:
        self._base = urlsplit(target.url).path
        self._headers = {"authorization": f"Bearer {target.key}"}
        self._connection = http.client.HTTPConnection(*target.address, timeout=60)

    def get(self, path: str) -> Any:
        """GET a path under the base URL.

        Raises:
            RuntimeError: the answer is not 200.
        """
        self._connection.request("GET", self._base + path, headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {body[:300]!r}")
        return json.loads(body)

    def ids(self, **query: object) -> list[str]:
        """Return the ids of a page of completions."""
        return [item["id"] for item in self.get(_path(**query))["data"]]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _path(**query: object) -> str:
    given = {name.replace("__", "["): value for name, value in query.items()}
    pairs = {name + "]" if "[" in name else name: value for name, value in given.items()}
    return f"{_LIST}?{urlencode(pairs)}"


def _queries(reader: Reader, seeded: Seeded, project: SeededProject) -> dict[str, list[str]]:
    """Return the paths to read, by what they show; each list is gone through in turn."""
    filters: dict[str, dict[str, object]] = {
        "project": {},
        "common model": {"model": seeded.models[0]},
        "rare model": {"model": seeded.models[-1]},
        "common container": {"container": project.containers[0]},
        "rare container": {"container": project.containers[-1]},
        "container and model": {"container": project.containers[0], "model": seeded.models[0]},
        "common metadata": {"metadata__feature": "feature-0"},
        "rare metadata": {"metadata__customer": "customer-1999"},
        "two metadata": {"metadata__feature": "feature-0", "metadata__customer": "customer-0"},
        "metadata and model": {"metadata__feature": "feature-20", "model": seeded.models[-1]},
    }
    queries = {}
    for name, query in filters.items():
        queries[f"newest by {name}"] = [_path(**query)]
        queries[f"oldest by {name}"] = [_path(**query, order="asc")]
        # The hundred oldest, asked for from the newest end: as deep as it gets.
        deep = reader.ids(**query, order="asc", limit=100)
        if deep:
            queries[f"deep by {name}"] = [_path(**query, after=deep[-1])]
    spread = reader.ids(limit=100) + reader.ids(limit=100, order="asc")
    queries["one by id"] = [f"{_LIST}/{completion}" for completion in spread]
    queries["hundred newest"] = [_path(limit=100)]
    ever = urlencode({"from": "2000-01-01", "to": "2100-01-01"})
    queries["usage by tag"] = [f"/usage?{ever}&group_by=tag"]
    queries["usage by model"] = [f"/usage?{ever}&group_by=model"]
    return queries


def _read(reader: Reader, paths: list[str], repeats: int) -> list[float]:
    """Return how long each read took, in milliseconds."""
    times = []
    for path in itertools.islice(itertools.cycle(paths), repeats):
        started = time.perf_counter()
        reader.get(path)
        times.append((time.perf_counter() - started) * 1000)
    return times


@contextlib.contextmanager
def _completions(target: Target, connections: int) -> Iterator[None]:
    """Let completions run in another process meanwhile."""
    arguments = ["--url", target.url, "--key", target.key, "--model", target.model]
    arguments += ["--connections", str(connections), "--seconds", "3600"]
    if not connections:
        yield
        return
    process = subprocess.Popen(
        module_command("load", *arguments, "--stream", "paced"), cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _report(running: Running, seeded: Seeded, repeats: int, limit_ms: float) -> bool:
    """Read everything, print the times, and tell whether all stayed within the limit."""
    project = seeded.projects[0]
    target = msgspec.structs.replace(running.target, key=project.key)
    reader = Reader(target)
    try:
        total = reader.get(_path(limit=1))["total"]
        print(f"{seeded.rows:,} rows; project {project.name} lists {total:,}")
        slow = 0
        for name, paths in _queries(reader, seeded, project).items():
            _read(reader, paths, min(20, repeats))
            times = _read(reader, paths, repeats)
            p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
            slow += p99 > limit_ms
            matches = reader.get(paths[0]).get("total", 1)
            note = "  SLOW" if p99 > limit_ms else ""
            print(f"{name:32} {matches:9,}  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms{note}", flush=True)
    finally:
        reader.close()
    return slow == 0


def main() -> int:
    """Measure; the exit status is 1 when a query is slower than allowed."""
    parser = argparse.ArgumentParser(description="query times on a seeded data folder")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=300, help="reads of each query")
    parser.add_argument("--load", type=int, default=4, help="streams that run meanwhile; 0: none")
    parser.add_argument("--limit-ms", type=float, default=25.0, help="largest p99")
    options = parser.parse_args()
    stop_on_sigterm()
    seeded = Seeded.read(options.data_dir)
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as logs,
        mock_upstream(Path(logs)) as upstream,
        gateway(upstream.target.url, options.data_dir) as running,
    ):
        # The load writes to a project of its own, so that the totals that are read stand still.
        writer = msgspec.structs.replace(running.target, key=seeded.projects[-1].key)
        with _completions(writer, options.load):
            is_fast = _report(running, seeded, options.repeats, options.limit_ms)
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
