"""The table of dialects."""

from __future__ import annotations

from typing import get_args, get_type_hints

from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.registry import DIALECTS


def test_every_kind_has_a_dialect() -> None:
    """What the configuration accepts can be called, and nothing else is registered."""
    assert set(DIALECTS) == set(get_args(get_type_hints(ProviderConfig)["kind"]))
