"""How many requests run at the same time, for each owner."""

from __future__ import annotations

import contextlib

import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError
from maniac_core.services.limits.concurrency import Concurrency


def _caller(key: int | None, organization: int = 1, *, is_internal: bool = False) -> Caller:
    return Caller(
        key=key,
        project=1,
        organization=organization,
        project_id="p",
        organization_id="o",
        is_internal=is_internal,
    )


@pytest.mark.parametrize(
    ("per_organization", "per_key", "callers", "refused"),
    [
        (0, 0, [_caller(1)] * 50, None),
        (2, 0, [_caller(1), _caller(2), _caller(3)], r"limit of the organization .*\(2\)"),
        (2, 0, [_caller(1), _caller(2), _caller(1, 2), _caller(2, 2)], None),
        (9, 1, [_caller(1), _caller(2), _caller(1)], r"limit of the key .*\(1\)"),
        (0, 1, [_caller(None, is_internal=True)] * 5, None),
        (9, 9, [_caller(1), _caller(2), _caller(3), _caller(4)], r"limit of the project .*\(3\)"),
    ],
)
def test_places_are_taken_and_left(
    per_organization: int, per_key: int, callers: list[Caller], refused: str | None
) -> None:
    """The last of the callers is refused or not; whoever leaves, by whatever way, leaves a place, and nothing else."""
    # Of one project, the three that the table's other rows stay below.
    config = CoreConfig(
        concurrent_requests=per_organization,
        concurrent_requests_per_project=3 if per_organization == per_key == 9 else 0,
        concurrent_requests_per_key=per_key,
    )
    concurrency = Concurrency(config)
    with contextlib.ExitStack() as running:
        for caller in callers[:-1]:
            running.enter_context(concurrency.slot(caller))
        if refused is None:
            running.enter_context(concurrency.slot(callers[-1]))
        else:
            with (
                pytest.raises(GatewayError, match=refused) as caught,
                concurrency.slot(callers[-1]),
            ):
                raise AssertionError
            assert (caught.value.code, caught.value.retry_after_s) == ("rate_limit_exceeded", 1)
    assert not concurrency.running
    with contextlib.suppress(KeyError), concurrency.slot(callers[-1]):
        raise KeyError
    assert not concurrency.running
