"""Services that several suites use: PostgreSQL, the one that runs on this machine or one made for the session."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import asyncpg
import httpx
import hypothesis
import pytest
from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.storage.postgres.migrate import migrate_postgres
from postgres_server import PostgresServer
from redis_server import RedisServer

_ROOT = Path(__file__).parents[1]
# What configures a gateway, a client or a database on the machine of whoever runs the tests is not for them.
_FOREIGN = re.compile(r"MANIAC_(?!TEST_|RECORDINGS)|(PG|AWS|GOOGLE|OTEL)_?[A-Z]")
_OF_PROVIDERS = frozenset().union(*(row.variables for row in KNOWN_PROVIDERS.values()))

_LONGEST_TEMP = 24


def _make_environment() -> None:
    for name in list(os.environ):
        if _FOREIGN.match(name) or name in _OF_PROVIDERS:
            del os.environ[name]
    # A proxy is for pip; what the tests talk to is on this machine.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"
    # The processes that tests start by the hundred would each compile what they import.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if not os.access(_ROOT, os.W_OK):
        cache = Path(tempfile.gettempdir()) / f"maniac-gateway-tests-{os.getuid()}" / "bytecode"
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(cache))
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
        # Examples that failed would be kept in the checkout.
        hypothesis.settings.register_profile("read-only", database=None)
        hypothesis.settings.load_profile("read-only")

    # Sockets lie in the folders of tests, and their paths have to fit into 107 bytes.
    if len(tempfile.gettempdir()) > _LONGEST_TEMP:
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"
    # A gateway under load has a file per connection; a user's shell often allows only 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


_make_environment()
_RUNNING = "postgresql://postgres@127.0.0.1:5432"
_MISSING = (
    "PostgreSQL is neither running on 127.0.0.1:5432 (superuser postgres, trusted) nor installed; "
    "on Debian: apt-get install postgresql"
)
_DAY_S = 86_400
_LAST_S = 20
# Foreign keys and triggers do not matter while everything goes.
_RESET = """
SET session_replication_role = replica;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$
DECLARE
  item record;
BEGIN
  FOR item IN SELECT tablename AS name FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT IN ('schema_migrations', 'cache_versions')
  LOOP
    EXECUTE format('DELETE FROM %I', item.name);
  END LOOP;
  FOR item IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'public' LOOP
    PERFORM setval(item.name::regclass, 1, false);
  END LOOP;
END
$$
"""


def _do_without(reason: str) -> NoReturn:
    """Skip, but not where all tests must run."""
    if os.environ.get("MANIAC_TEST_REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)


def _execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=30)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    # In a thread, because the test may have an event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests: at the end, one process would wait for the other."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_runtest_setup() -> None:
    """Let no test begin in the last seconds of a day (UTC), which may be those of a month: what it counts has one date."""
    left_s = _DAY_S - time.time() % _DAY_S
    if left_s < _LAST_S:
        time.sleep(left_s)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Leave the umask as it was: commands that a test runs in its own process set one."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let tests run where nothing lies: in the working tree there may be a data folder that is in use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Let all HTTP clients share what each would make anew: reading the CAs takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "httpx._transports.default.create_ssl_context",
            functools.cache(httpx.create_ssl_context),
        )
        yield


@pytest.fixture
def make_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Return a function that starts a server of the test's own, which the test may stop and start."""
    servers: list[PostgresServer] = []

    def make() -> PostgresServer:
        binaries = PostgresServer.binaries()
        if binaries is None:
            _do_without(_MISSING)
        servers.append(PostgresServer(binaries))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.remove()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own, which the test may kill and start."""
    program = RedisServer.program()
    if program is None:
        _do_without("Redis is not installed; on Debian: apt-get install redis-server")
    server = RedisServer(program)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[str]:
    """The address of a server, without a database."""
    try:
        _execute(f"{_RUNNING}/postgres", "SELECT 1")
    except (OSError, asyncpg.PostgresError):
        binaries = PostgresServer.binaries()
        if binaries is None:
            _do_without(_MISSING)
        server = PostgresServer(binaries)
        server.start()
        yield server.url
        server.remove()
    else:
        yield _RUNNING


@pytest.fixture(scope="session")
def _shared_postgres_url(_postgres_server: str) -> Iterator[str]:
    """The URL of a migrated database that tests use one after the other."""
    with _database(_postgres_server) as url:
        migrate_postgres(url)
        yield url


@pytest.fixture(scope="session")
def unused_postgres_url(_postgres_server: str) -> Iterator[str]:
    """The URL of a migrated database that nobody writes to: what the planner knows of its tables never changes."""
    with _database(_postgres_server) as url:
        migrate_postgres(url)
        yield url


@pytest.fixture
def empty_postgres_url(_postgres_server: str) -> Iterator[str]:
    """The URL of a database without a schema, of the test's own."""
    with _database(_postgres_server) as url:
        yield url


@pytest.fixture
def postgres_url(_shared_postgres_url: str) -> str:
    """The URL of a migrated database without data. Making a new one each time takes ten times as long."""
    _execute(_shared_postgres_url, _RESET)
    return _shared_postgres_url


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"maniac_test_{uuid.uuid4().hex}"
    _execute(f"{server}/postgres", f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    _execute(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")
