"""Captures records until it is killed, and prints each id once the capture is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import Attempt, CompletionRecord
from maniac_core.domain.ids import completion_id, now_s, now_us
from maniac_core.storage import open_database
from maniac_core.storage.base import Database

_CALLER = Caller(key=1, project=1, organization=1, project_id="p", organization_id="o")
_USAGE = Usage(input_tokens=1, output_tokens=2)


def _record() -> CompletionRecord:
    attempt = Attempt(
        number=0,
        provider="openai",
        model="gpt-4o",
        started_us=now_us(),
        latency_us=1,
        time_to_first_token_us=None,
        outcome="ok",
        http_status=200,
        error_reason=None,
        error_message=None,
        usage=_USAGE,
        spend_nano_usd=5,
    )
    return CompletionRecord(
        id=completion_id(),
        caller=_CALLER,
        created=now_s(),
        request_id="r",
        status="completed",
        store=True,
        streamed=False,
        requested_model="openai/gpt-4o",
        model="openai/gpt-4o",
        provider="openai",
        finish_reason="stop",
        usage=_USAGE,
        usage_source="provider",
        spend_nano_usd=5,
        time_to_first_token_us=None,
        latency_us=1,
        metadata=b'{"user":"u"}',
        trace=Trace(id="t"),
        input=b'{"messages":"%s"}' % (b"x" * 3000),
        output=b"[]",
        attempts=(attempt,),
    )


async def _client(database: Database) -> None:
    while True:
        record = _record()
        await database.capture(record)
        print(record.id, flush=True)  # noqa: T201  # The acknowledgement, as a client would see it.


async def main() -> None:
    """Run 40 clients at once."""
    database = open_database(CoreConfig(database_url=sys.argv[1], data_dir=Path(sys.argv[2])))
    await database.start()
    await asyncio.gather(*[_client(database) for _ in range(40)])


asyncio.run(main())
