"""Registrations while the database goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from maniac_core import storage
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.containers import Container
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.examples import Example
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.examples import ExampleReader
from maniac_core.services.history.registration import Registration
from maniac_core.services.limits.quotas import Quotas
from maniac_core.services.routing.router import Router
from maniac_core.storage.base import Database
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.files import FileStore

INPUT = b'{"messages":[{"role":"user","content":"Hi"}]}'
OUTPUT = b'{"id":"%d","choices":[{"message":{"role":"assistant","content":"Yo"}}]}'
CALLER = Caller(key=1, project=1, organization=1, project_id="p", organization_id="o")
CONTAINER = Container(
    key=1,
    id="c",
    project_id="p",
    organization_id="o",
    label="box",
    initial_model="m",
    created=1,
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    config = CoreConfig(data_dir=tmp_path)
    storage.migrate_database(config)
    opened = storage.open_database(config)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def registration(database: Database) -> Registration:
    call = Call(caller=CALLER, request_id="r")
    reader = ExampleReader(call, CONTAINER, Router({}, {}))
    store = CompletionStore(database)
    quotas = Quotas(CoreConfig(), store, FileStore(database))
    return Registration(store, CALLER, CONTAINER.label, reader, quotas)


def examples(count: int, *, named: bool) -> list[Example]:
    return [
        Example(index=i, input=INPUT, output=OUTPUT % i if named else None) for i in range(count)
    ]


@pytest.mark.parametrize("named", [True, False])
async def test_a_call_of_which_nothing_could_be_kept_fails(
    database: Database, registration: Registration, named: bool
) -> None:
    """The caller may repeat it: nothing was committed."""
    await database.close()
    with pytest.raises(GatewayError) as caught:
        await registration.add(examples(40, named=named))
    assert caught.value.reason == Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE
    assert caught.value.mapping.http_status == 503


@pytest.mark.parametrize("named", [True, False])
async def test_a_call_that_began_well_reports_what_it_lost(
    database: Database, registration: Registration, named: bool
) -> None:
    """What was kept is counted, and each item that was not is an error that can be tried again."""
    await registration.add(examples(3, named=named))
    await database.close()
    await registration.add(
        [Example(index=100 + i, input=INPUT, output=OUTPUT % (100 + i)) for i in range(2)]
    )
    result = registration.result

    assert (result.received, result.inserted, result.failed) == (5, 3, 2)
    assert [(error.index, error.code) for error in result.errors] == [
        (100, "dependency_unavailable"),
        (101, "dependency_unavailable"),
    ]
