"""Opens PostgreSQL connections, each with the settings of its role, and turns PostgreSQL's errors into ours."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import asyncpg
from asyncpg import exceptions as pg

from maniac_core.storage.base import ConstraintError, Params, RefusedError, Row, StorageError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_TIMEOUT_S = 2.0
"""How long connecting may take; a waiting request fails promptly if the server is down."""
LOCK_TIMEOUT_S = 5.0
"""How long a write waits for another process that writes."""
_MARGIN_S = 2.0
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
_ARGUMENT = re.compile(r"(invalid input for query argument \$\d+).*", re.DOTALL)
_NUL = "\0"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Errors that another try of the same transaction may avoid.
_PASSING = (pg.DeadlockDetectedError, pg.SerializationError, pg.InvalidCachedStatementError)
_ABOUT_VALUES = (
    *(pg.DataError, pg.IntegrityConstraintViolationError, pg.ProgramLimitExceededError),
    # Raised by an operator's trigger.
    pg.RaiseError,
)
_ABOUT_PROGRAM = (TypeError, ValueError, LookupError, pg.SyntaxOrAccessError)
UNUSABLE = (TimeoutError, pg.InternalClientError)
"""What a connection fails with that is not closed and of no use: the server may still work, or has ended the session."""
FAILURES = (pg.PostgresError, pg.InterfaceError, OSError, *UNUSABLE, *_ABOUT_PROGRAM)
"""Everything that a statement can fail with."""


async def connect(url: str, timeout_s: float, **settings: str) -> Connection:
    """Open a connection whose statements are ended by the server after `timeout_s`.

    `settings` are the server's own, for this connection.

    Raises:
        StorageError: the server cannot be reached, or refuses.
    """
    try:
        connection: Connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            **connection_options(timeout_s, **settings),
        )
    except FAILURES as err:
        raise as_storage_error(err) from None
    await prepare_connection(connection)
    return connection


def connection_options(timeout_s: float, **settings: str) -> dict[str, Any]:
    """Return the options that all connections share, as asyncpg takes them."""
    return {
        # The server ends what takes too long; this is for a server or a network that answers nothing.
        "command_timeout": timeout_s + _MARGIN_S,
        "statement_cache_size": 512,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 0,
        "server_settings": {
            "application_name": "maniac-gateway",
            "jit": "off",  # Every statement is short; compiling one takes longer than running it.
            "statement_timeout": _milliseconds(timeout_s),
            "lock_timeout": _milliseconds(min(LOCK_TIMEOUT_S, timeout_s)),
            # A core that froze in mid-transaction must not hold up the others.
            "idle_in_transaction_session_timeout": _milliseconds(timeout_s),
            **settings,
        },
    }


async def prepare_connection(connection: Connection) -> None:
    """Make sums of integers come back as integers, as from every engine."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text"
    )


@functools.lru_cache(maxsize=1024)
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement with `$1` for its first `:name`, and so on, and the names in that order."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    return _PARAMETER.sub(number, sql), tuple(numbers)


def arguments(names: Iterable[str], params: Params) -> list[Any]:
    """Return the values of a statement's parameters.

    Raises:
        StorageError: one is missing.
    """
    try:
        return [without_nul(params[name]) for name in names]
    except KeyError as err:
        raise StorageError(f"the statement lacks its parameter {err}") from None


def without_nul(value: Any) -> Any:
    """Return the value as PostgreSQL's text can hold it: U+FFFD stands for U+0000, stored and looked up alike."""
    if isinstance(value, str) and _NUL in value:
        return value.replace(_NUL, _REPLACEMENT)
    return value


def as_rows(records: Iterable[asyncpg.Record]) -> list[Row]:
    """Return what a statement yields."""
    return [dict(record) for record in records]


def as_storage_error(err: Exception) -> StorageError:
    """Return the error to raise for what asyncpg raised; its text names no value of a row."""
    if isinstance(err, StorageError):
        return err
    if isinstance(err, OSError) and err.strerror:
        return StorageError(f"the database cannot be reached: {err.strerror}")
    # Not str(): that has the detail too, which quotes the row.
    text = _ARGUMENT.sub(r"\1", str(err.args[0]) if err.args else "")
    if isinstance(err, pg.UniqueViolationError):
        return ConstraintError(text)
    if isinstance(err, pg.LockNotAvailableError):
        return StorageError("the database is locked by another process")
    kind = RefusedError if _is_about_values(err) else StorageError
    return kind(f"{type(err).__name__}: {text}".removesuffix(": "))


def is_about_one_row(err: Exception) -> bool:
    """Whether other rows may well be written: the values are at fault, not the server, the network or a lock."""
    return isinstance(err, (*_ABOUT_VALUES, *_ABOUT_PROGRAM)) and not isinstance(err, StorageError)


def _is_about_values(err: Exception) -> bool:
    """Whether the values are at fault, and not a schema that another version of the program expects."""
    return is_about_one_row(err) and not isinstance(err, pg.SyntaxOrAccessError)


def is_passing(err: Exception) -> bool:
    """Whether the same transaction may well succeed if it is tried again at once."""
    return isinstance(err, _PASSING)


def does_not_fit(err: Exception) -> bool:
    """Whether a text holds what PostgreSQL's cannot, or is too long for an index."""
    return isinstance(err, pg.CharacterNotInRepertoireError | pg.ProgramLimitExceededError)


async def close(connection: Connection) -> None:
    """Close, politely if the server answers."""
    try:
        await connection.close(timeout=CONNECT_TIMEOUT_S)
    except FAILURES:
        connection.terminate()


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
