"""Secrets in texts for people."""

from __future__ import annotations

import pytest
from maniac_core.masking import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p/w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p?w#x@host/db", "postgresql://me:***@host/db"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("https://token@host/v1", "https://***@host/v1"),
        ("https://host/v1?key=abc&b=c#d", "https://host/v1?key=***&b=***#***"),
        ("https://host/v1?abc", "https://host/v1?***"),
        ("https://host/@scope/v1", "https://host/@scope/v1"),
        ("cannot reach http://a:b@h/v1 (refused)", "cannot reach http://a:***@h/v1 (refused)"),
        ("host=h user=u password=pw dbname=d", "host=h user=u password=*** dbname=d"),
        ("password='a b' host=h", "password=*** host=h"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("unix:data/core.sock", "unix:data/core.sock"),
    ],
)
def test_only_secrets_are_masked(text: str, masked: str) -> None:
    """Where it is and whose stays to be read."""
    assert mask(text) == masked
