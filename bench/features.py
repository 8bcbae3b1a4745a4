"""What each feature and each wire adds to a request, in instructions of edge and core together (valgrind's callgrind).

python -m bench.features
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.instructions import Load, Processes, ask, counted_gateway
from bench.process import StartError, stop_on_sigterm
from bench.target import Target, chat_body, request_head

_LOAD = Load(name="request", connections=32, requests=640)
_TOOL = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds a document by its title.",
        "parameters": {
            "type": "object",
            "properties": {"title": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["title"],
        },
    },
}
_CONTAINER = "bench"
Make = Callable[[int], tuple[dict[str, Any], dict[str, str]]]
"""From the number of a request to what it adds to the body and to the headers."""

FEATURES: dict[str, Make] = {
    "nothing": lambda _: ({}, {}),
    "three tags": lambda _: ({"tags": ["a", "b", "c"]}, {}),
    "metadata of three keys": lambda _: ({"metadata": {"user": "u1", "n": 7, "ok": True}}, {}),
    "a trace id": lambda n: ({"trace": {"id": f"trace-{n}"}}, {}),
    "traceparent": lambda n: ({}, {"traceparent": f"00-{n + 1:032x}-{n + 1:016x}-01"}),
    "a container": lambda _: ({"model": f"maniac:{_CONTAINER}"}, {}),
    "two tools": lambda _: ({"tools": [_TOOL, _TOOL]}, {}),
    "an idempotency key": lambda n: ({}, {"idempotency-key": f"key-{n}"}),
}
WIRES: dict[str, Callable[[Target], dict[str, Any]]] = {
    "/messages": lambda target: {
        "model": target.model,
        "max_tokens": 256,
        "messages": chat_body(target.model, None)["messages"],
    },
    "/responses": lambda target: {
        "model": target.model,
        "input": chat_body(target.model, None)["messages"],
    },
}
"""By path, the same conversation on another wire than chat, translated for a provider that speaks chat."""


def _requests(target: Target, make: Make) -> Callable[[int], bytes]:
    def request(number: int) -> bytes:
        more, headers = make(number)
        body = json.dumps({**chat_body(target.model, None), **more}, separators=(",", ":"))
        named = Target(url=target.url, key=target.key, model=target.model, headers=headers)
        return (request_head(named, "POST", "/chat/completions", len(body)) + body).encode()

    return request


def _wire_requests(target: Target, path: str) -> Callable[[int], bytes]:
    body = json.dumps(WIRES[path](target), separators=(",", ":"))
    request = (request_head(target, "POST", path, len(body)) + body).encode()
    return lambda _: request


def _make_container(target: Target) -> None:
    body = {"label": _CONTAINER, "initial_model": target.model, "api": "chat.completions"}
    request = urllib.request.Request(
        target.url + "/containers",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {target.key}", "content-type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
        pass


def _count(
    target: Target, processes: Processes, request: Callable[[int], bytes], first: int
) -> int:
    ask(target, _LOAD, 64, lambda number: request(first + number))
    for counted in processes.values():
        counted.count()
    ask(target, _LOAD, _LOAD.requests, lambda number: request(first + 1000 + number))
    return sum(counted.count() for counted in processes.values()) // _LOAD.requests


def main() -> int:
    """Count and print a table; the exit status is 2 if a process did not come up."""
    stop_on_sigterm()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="maniac-bench-") as directory,
            counted_gateway(Path(directory)) as (target, processes),
        ):
            _make_container(target)
            ask(target, _LOAD, 64)
            for counted in processes.values():
                counted.control("instrumentation", "on")
            plain = 0
            print("| with | instructions | to a plain request |\n| --- | --- | --- |")
            for number, (name, make) in enumerate(FEATURES.items()):
                count = _count(target, processes, _requests(target, make), 10_000 * number)
                plain = plain or count
                print(f"| {name} | {count:,} | {count / plain:.2f} |", flush=True)
            for path in WIRES:
                count = _count(target, processes, _wire_requests(target, path), 0)
                print(f"| {path} instead of chat | {count:,} | {count / plain:.2f} |", flush=True)
    except StartError as err:
        print(err, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
