"""Runs wrk, where it is installed, with the same request as the client of this directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.target import Target, chat_request

# wrk reports in microseconds; its exit status says nothing about errors, so they are counted here.
_LUA = """\
request = function() return %s end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format('RESULT {"requests":%%d,"errors":%%d,"seconds":%%f,"p50_us":%%f,"p99_us":%%f}',
    summary.requests - e.status, e.connect + e.read + e.write + e.status + e.timeout,
    summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
"""


def is_available() -> bool:
    """Tell whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def run(target: Target, *, connections: int, seconds: float) -> dict[str, float]:
    """Return requests, errors, seconds, p50_us and p99_us of a run on one thread.

    Raises:
        RuntimeError: wrk failed.
    """
    host, port = target.address
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "request.lua"
        script.write_text(_LUA % _lua_string(chat_request(target)))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "60s", "-s", str(script), f"http://{host}:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            numbers: dict[str, float] = json.loads(line.removeprefix("RESULT "))
            return numbers
    raise RuntimeError(f"wrk: {done.stderr or done.stdout}")


def _lua_string(value: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in value) + '"'
