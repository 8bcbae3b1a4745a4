"""Fills a data folder with captured completions, through the storage package, as live traffic would have.

    python -m bench.seed --data-dir /tmp/big --rows 2000000

Models, containers, metadata and traces are spread over projects as they are in practice: few are used much, many
little. What was written is described in `seed.json` beside the database: keys to read it with, and values to ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import uvloop
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import Attempt, CompletionRecord, Status
from maniac_core.domain.containers import Container
from maniac_core.domain.ids import completion_id, request_id, uuid_id
from maniac_core.services.access.authenticator import hash_key
from maniac_core.storage import migrate_database, open_database
from maniac_core.storage.base import Database
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.keys import KeyStore

from bench.target import PROMPT

MODELS = (
    *("openai/gpt-4o-mini", "openai/gpt-4o", "openai/gpt-4.1-mini", "openai/gpt-4.1"),
    *("anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"),
    *("gemini/gemini-2.5-pro", "openai/o4-mini", "openai/gpt-4.1-nano"),
)
_BATCH = 2000
_DAYS = 180
_STATUSES: tuple[tuple[Status, int], ...] = (
    *(("completed", 965), ("failed", 20)),
    *(("cancelled", 8), ("truncated", 2), ("registered", 5)),
)
_T = TypeVar("_T")
_json = msgspec.json.Encoder()


class SeededProject(msgspec.Struct, frozen=True, kw_only=True):
    """One project of a seeded database."""

    name: str
    key: str
    containers: tuple[str, ...]
    """Labels, the most used first."""
    completions: int
    """How many were written."""


class Seeded(msgspec.Struct, frozen=True, kw_only=True):
    """What `seed.json` holds."""

    rows: int
    projects: tuple[SeededProject, ...]
    """The largest first."""
    models: tuple[str, ...] = MODELS
    """The most used first."""

    @staticmethod
    def read(data_dir: Path) -> Seeded:
        """Read it back.

        Raises:
            OSError: the folder was not seeded.
        """
        return msgspec.json.decode((data_dir / "seed.json").read_bytes(), type=Seeded)


class _Project(msgspec.Struct, frozen=True, kw_only=True):
    caller: Caller
    name: str
    key: str
    containers: tuple[Container, ...]


class _Spread:
    """Draws values of which the first are common and the last are rare (Zipf)."""

    def __init__(self, source: random.Random) -> None:
        self._random = source

    def draw(self, values: Sequence[_T], count: int) -> list[_T]:
        """Return that many draws."""
        weights = [1 / rank for rank in range(1, len(values) + 1)]
        return self._random.choices(values, weights, k=count)


def seed(data_dir: Path, *, rows: int, projects: int, seed_number: int) -> Seeded:
    """Write that many completions, spread over projects that are made with it; blocks.

    Raises:
        StorageError: the database cannot be written.
    """
    config = CoreConfig(data_dir=data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    migrate_database(config)
    seeded = uvloop.run(_fill(open_database(config), rows, projects, random.Random(seed_number)))
    path = data_dir / "seed.json"
    path.touch(mode=0o600)
    path.write_bytes(_json.encode(seeded))
    return seeded


async def _fill(database: Database, rows: int, projects: int, source: random.Random) -> Seeded:
    await database.start()
    try:
        made = [await _make_project(database, number) for number in range(projects)]
        written = await _write(database, made, rows, source)
    finally:
        await database.close()
    return Seeded(
        rows=rows,
        projects=tuple(
            SeededProject(
                name=project.name,
                key=project.key,
                containers=tuple(container.label for container in project.containers),
                completions=written[project.name],
            )
            for project in made
        ),
    )


async def _make_project(database: Database, number: int) -> _Project:
    """Make a project with its key and containers; project 0 is the default one."""
    name = "default" if number == 0 else f"project-{number}"
    key = f"mk-seed-{number:04d}-{uuid_id()}"
    keys = KeyStore(database)
    secret_hash = hash_key(key)
    await keys.create(
        name="seed", secret_hash=secret_hash, prefix=key[:9], project=name, organization="default"
    )
    row = await keys.resolve(secret_hash)
    assert row is not None
    store = ContainerStore(database)
    now = int(time.time()) - _DAYS * 86_400
    for index in range(20):
        container = Container(
            key=0,
            id=uuid_id(),
            project_id=row.caller.project_id,
            organization_id=row.caller.organization_id,
            label=f"task-{number}-{index}",
            initial_model=MODELS[index % len(MODELS)],
            created=now + index,
        )
        await store.add(row.caller.project, container)
    labels = [f"task-{number}-{index}" for index in range(20)]
    found = [await store.find_by_label(row.caller.project, label) for label in labels]
    containers = tuple(container for container in found if container is not None)
    return _Project(caller=row.caller, name=name, key=key, containers=containers)


async def _write(
    database: Database, projects: Sequence[_Project], rows: int, source: random.Random
) -> dict[str, int]:
    written = dict.fromkeys((project.name for project in projects), 0)
    records = _records(projects, rows, source)
    done, started = 0, time.perf_counter()
    while batch := list(itertools.islice(records, _BATCH)):
        for project, record in batch:
            written[project.name] += record.is_listed
        await asyncio.gather(*[database.capture(record) for _, record in batch])
        done += len(batch)
        if done % (50 * _BATCH) == 0 or done == rows:
            rate = done / (time.perf_counter() - started)
            print(f"{done:,} of {rows:,} rows, {rate:,.0f}/s", flush=True)
    return written


def _records(
    projects: Sequence[_Project], rows: int, source: random.Random
) -> Iterator[tuple[_Project, CompletionRecord]]:
    spread = _Spread(source)
    bodies = [_bodies(source) for _ in range(500)]
    statuses, weights = zip(*_STATUSES, strict=True)
    first = int(time.time()) - _DAYS * 86_400
    customers = [f"customer-{number}" for number in range(2000)]
    features = [f"feature-{number}" for number in range(25)]
    for at in range(0, rows, _BATCH):
        count = min(_BATCH, rows - at)
        columns = zip(
            range(at, at + count),
            spread.draw(projects, count),
            spread.draw(MODELS, count),
            source.choices(statuses, weights, k=count),
            spread.draw(customers, count),
            spread.draw(features, count),
            spread.draw(range(20), count),
            source.choices(bodies, k=count),
            strict=True,
        )
        for number, project, model, status, customer, feature, which, body in columns:
            # Two in three go through a container, and every third belongs to a trace of up to five.
            container = project.containers[which] if number % 3 else None
            metadata = {
                "customer": customer,
                "feature": feature,
                "environment": "production" if number % 10 else "staging",
                "run": f"run-{number // 1000}",
            }
            trace = f"trace-{project.name}-{number // 15}" if number % 3 == 0 else None
            yield (
                project,
                _record(
                    project.caller,
                    created=first + number * _DAYS * 86_400 // rows,
                    model=model,
                    status=status,
                    container=container,
                    metadata=_json.encode(metadata),
                    tags=("seed", f"of-{customer}"),
                    trace=trace,
                    store=number % 50 != 0,
                    body=body,
                ),
            )


def _record(
    caller: Caller,
    *,
    created: int,
    model: str,
    status: Status,
    container: Container | None,
    metadata: bytes,
    tags: tuple[str, ...],
    trace: str | None,
    store: bool,
    body: tuple[bytes, bytes, Usage],
) -> CompletionRecord:
    provider, _, name = model.partition("/")
    is_good = status in ("completed", "registered")
    question, answer, usage = body
    latency_us = 400_000 + usage.output_tokens * 9_000
    spend = usage.input_tokens * 150 + usage.output_tokens * 600
    reason = None if is_good else "UPSTREAM_ERROR"
    attempt = Attempt(
        number=0,
        provider=provider,
        model=name,
        started_us=created * 1_000_000,
        latency_us=latency_us,
        time_to_first_token_us=350_000,
        outcome="ok" if is_good else "failed",
        http_status=200 if is_good else 500,
        error_reason=reason,
        error_message=None,
        usage=usage,
        spend_nano_usd=spend,
    )
    return CompletionRecord(
        id=completion_id(),
        caller=caller,
        created=created,
        request_id=request_id(),
        status=status,
        store=store,
        streamed=usage.output_tokens % 2 == 0,
        requested_model=f"maniac:{container.label}" if container else model,
        model=model,
        provider=provider,
        container=container.key if container else None,
        container_label=container.label if container else None,
        finish_reason="stop" if is_good else None,
        error_reason=reason,
        usage=usage,
        usage_source="provider",
        spend_nano_usd=spend,
        time_to_first_token_us=350_000,
        latency_us=latency_us,
        tags=tags,
        metadata=metadata,
        trace=Trace(id=trace, span_id=request_id(), name="seed") if trace else None,
        input=question if store else None,
        output=answer if store and is_good else None,
        attempts=(attempt,),
    )


def _bodies(source: random.Random) -> tuple[bytes, bytes, Usage]:
    """Return a request, an answer and their usage; lengths as in chat traffic, a few hundred tokens."""
    words = PROMPT.split()
    asked, answered = source.randint(20, 400), source.randint(5, 300)
    question = " ".join(source.choices(words, k=asked))
    answer = " ".join(source.choices(words, k=answered))
    message = {"role": "assistant", "content": answer}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    request = {"messages": [{"role": "user", "content": question}], "temperature": 0.2}
    usage = Usage(input_tokens=asked * 4 // 3, output_tokens=answered * 4 // 3)
    return _json.encode(request), _json.encode(choices), usage


def main() -> None:
    """Seed and say what was written."""
    parser = argparse.ArgumentParser(description="fill a data folder with captured completions")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--projects", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="the same number, the same values")
    options = parser.parse_args()
    seeded = seed(
        options.data_dir,
        rows=options.rows,
        projects=options.projects,
        seed_number=options.seed,
    )
    for project in seeded.projects:
        print(f"{project.name}: {project.completions:,} listed, key {project.key}")


if __name__ == "__main__":
    main()
