"""The seam of persistence: a Database executes named statements; stores per resource give them meaning.

Statements live in `sql/queries.sql`, one text for every engine wherever possible. Only the engines know SQL dialects,
connections and threads; only the stores know statements; services know stores only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.errors import DependencyError

Params = Mapping[str, Any]
Row = Mapping[str, Any]
BODY_COLUMNS = ("input", "output", "route")
"""What of a completion is a body: the request, the answer, and how the request came to be."""
NO_PARAMS: Params = MappingProxyType({})


class StorageError(DependencyError):
    """The database cannot be reached or refused to work; nothing of the failed write is kept."""

    def __init__(self, happened: str) -> None:
        super().__init__(happened, "The database cannot be reached; try again shortly.")


class ConstraintError(StorageError):
    """A write broke a uniqueness rule; the message names the index or the columns."""


class RefusedError(StorageError):
    """The values of a write are at fault: the database takes others, and would refuse these again."""


class ClaimLostError(ConstraintError):
    """The record is kept, but another request has its Idempotency-Key: its answer is not what the key stands for."""


class Where(msgspec.Struct, frozen=True):
    """A condition that is put together for one statement, which takes it as its parameter `filters`.

    The text is made of fixed pieces only; whatever a caller gave is in the parameters.
    """

    text: str
    params: Params = {}


class Statement(msgspec.Struct, frozen=True):
    """A named statement with its parameters."""

    name: str
    params: Params = {}


class Database(Protocol):
    """One engine."""

    @property
    def commits(self) -> int:
        """How many transactions were committed since the start."""

    @property
    def readers(self) -> int:
        """How many reads can run at a time."""

    @property
    def reads(self) -> int:
        """How many reads run or wait for their turn."""

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record with its attempts, counters and roll-ups; the future is done once that is committed.

        The hot path: it only queues, and whatever waits is committed together. Call it on the event loop.
        The future raises:
            ClaimLostError: the record is kept, and another request has the key that it claims.
            ConstraintError: the project has a record of that id.
            RefusedError: the database takes no record with these values.
            StorageError: nothing of the record is kept.
        """

    async def fetch_all(self, name: str, params: Params = NO_PARAMS) -> list[Row]:
        """Read; never waits for writers.

        Raises:
            StorageError: the database cannot be reached.
        """

    async def fetch_one(self, name: str, params: Params = NO_PARAMS) -> Row | None:
        """Read the first row."""

    async def write(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Execute in order as one transaction; returns the rows of each (RETURNING), after the commit.

        Raises:
            ConstraintError: a uniqueness rule; nothing is kept.
            StorageError: nothing is kept.
        """

    def on_change(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call back, on the event loop, within one second of a change that any process made to a cached table.

        The callback gets the names of those tables (api_keys, projects, …). Register it before `start`.
        """

    def on_contact(self, callback: Callable[[bool], None]) -> None:
        """Call back, on the event loop, with False when changes can't be heard of any more, with True when they can.

        In between, caches may be out of date. Changes made meanwhile are reported before the True.
        Register it before `start`.
        """

    async def settled_position(self) -> int:
        """Return the last position of the ledger up to which everything is decided.

        What is read afterwards shows all rows up to there that there will ever be. It is not before the last row whose
        capture had ended when this was called, unless another capture takes unusually long.

        Raises:
            StorageError: the database cannot be reached.
        """

    def text_condition(self, wanted: Sequence[tuple[str, str]]) -> Where | None:
        """Return what an index of texts is asked to find completions that may hold texts, by `input.text` or `output.text`.

        None: it cannot help. Whether there is an index `text_index_covered` says.
        """

    async def drop_bodies(self, before: int) -> int:
        """Drop bodies from before a time (Unix seconds) in whole parts, where they are kept in parts.

        What a dataset has taken stays, and the ledger says whose content is gone. Returns how many parts went; the
        rest is for RetentionStore.

        Raises:
            StorageError: some may be left, for another time.
        """

    async def start(self) -> None:
        """Open, check that the schema is current and begin to watch for changes.

        Raises:
            StorageError: cannot be opened, or the schema is older or newer than this program.
        """

    async def close(self) -> None:
        """Finish what waits, then close."""
