"""What load is pointed at, and the exact bytes of the requests it gets."""

from __future__ import annotations

import argparse
import json
from urllib.parse import urlsplit

import msgspec

PROMPT = (
    "Summarise in one paragraph what a gateway does for the teams behind it, and for whom. " * 3
)
"""About the size of a short real prompt."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAI-compatible server."""

    url: str
    """With the version: `http://127.0.0.1:4000/v1`."""
    key: str = "none"
    model: str = "gpt-4o-mini"
    headers: dict[str, str] = {}
    """Further request headers."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            ValueError: not a plain http address.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{self.url}: want http://HOST:PORT/v1")
        return parts.hostname, parts.port or 80


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """The stream the mock upstream is asked for."""

    deltas: int
    pause_ms: int
    per_write: int
    """Deltas in one write of the upstream; 0: all."""


SCRIPTS = {
    "paced": Script(deltas=50, pause_ms=5, per_write=1),
    "separate": Script(deltas=100, pause_ms=0, per_write=1),
    "burst": Script(deltas=100, pause_ms=0, per_write=0),
}
"""Streams by name: like a model that answers quickly; as fast as single writes go; all at once."""


def chat_body(model: str, script: Script | None) -> dict[str, object]:
    """Return a chat request: whole, or streamed as the script says."""
    text = PROMPT
    if script is not None:
        text += f"[deltas={script.deltas} pause_ms={script.pause_ms} per_write={script.per_write}]"
    messages = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": text},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.2}
    return body if script is None else {**body, "stream": True}


def request_head(target: Target, method: str, path: str, length: int) -> str:
    """Return the head of a request of that body length, under the target's version path."""
    host, port = target.address
    fields = {
        "host": f"{host}:{port}",
        "authorization": f"Bearer {target.key}",
        "content-type": "application/json",
        "content-length": str(length),
        **target.headers,
    }
    lines = [f"{method} {urlsplit(target.url).path}{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


def chat_request(target: Target, script: Script | None = None) -> bytes:
    """Return a whole chat request, head and body."""
    body = json.dumps(chat_body(target.model, script), separators=(",", ":"))
    return (request_head(target, "POST", "/chat/completions", len(body)) + body).encode()


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to point at."""
    parser.add_argument("--url", required=True, help="base URL, like http://127.0.0.1:4000/v1")
    parser.add_argument("--key", default="none", help="API key")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")


def target_of(options: argparse.Namespace) -> Target:
    """Return what the options of `add_target_arguments` say."""
    pairs = (header.partition(":") for header in options.header)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Target(url=options.url, key=options.key, model=options.model, headers=headers)
