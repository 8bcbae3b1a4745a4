"""Quotas of completions: what runs is counted until its record is there, however old the last count is."""

from __future__ import annotations

from typing import Any, cast

import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError
from maniac_core.services.limits import quotas
from maniac_core.services.limits.quotas import Quotas

CALLER = Caller(key=1, project=1, organization=1, project_id="p", organization_id="o")


class _Stored:
    """What the database says."""

    completions = 0

    async def count(self, *_: object) -> int:
        return self.completions


async def test_what_runs_counts_beside_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call asks the database; calls that last longer than a count is used are in none of them."""
    monkeypatch.setattr(quotas, "_FRESH_S", 0.0)
    stored = _Stored()
    config = CoreConfig(project_max_completions=2)
    limits = Quotas(config, cast(Any, stored), cast(Any, None))

    with await limits.room(CALLER), await limits.room(CALLER):
        with pytest.raises(GatewayError, match="has 2"):
            await limits.room(CALLER)
        await limits.room(CALLER, 0)
    stored.completions = 1
    with await limits.room(CALLER), pytest.raises(GatewayError):
        await limits.room(CALLER)
