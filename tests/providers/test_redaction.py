"""Keys in what providers say: whole, in part, masked, across the cut, in every field."""

from __future__ import annotations

import json

import pytest
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.redaction import Redactor
from maniac_core.providers.registry import DIALECTS

# Of no known form, so that only the configuration tells that it is a key.
KEY = "Q7vX2mZ9kLpR4tWs8nYc"
SHORT = "tiny-key"


def told(text: str, *, status: int = 400, keys: tuple[str, ...] = (KEY, SHORT)) -> UpstreamFailure:
    body = json.dumps({"error": {"message": text, "param": text}}).encode()
    failure = DIALECTS["openai"].failure(status, {}, body)
    Redactor(keys).clean(failure)
    return failure


def parts(key: str, size: int) -> set[str]:
    return {key[start : start + size] for start in range(len(key) - size + 1)}


@pytest.mark.parametrize("before", [0, 5, 90, 99, 480, 489, 495, 499, 500, 1990, 1995, 1999])
@pytest.mark.parametrize("filler", ["x", "x ", "   "])
def test_no_cut_leaves_a_part_of_a_key(before: int, filler: str) -> None:
    """Where a message is shortened, and where its reading ends, there is no beginning of a key."""
    failure = told((filler * 2000)[:before] + " " + KEY + " and more words that follow")
    for field in (failure.message, failure.param or ""):
        assert not any(part in field for part in parts(KEY, 4))
    assert len(failure.message) <= 500
    assert len(failure.param or "") <= 100


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        SHORT,
        KEY[:12],
        KEY[-12:],
        f"{KEY[:4]}****{KEY[-4:]}",
        f"{KEY[:4]}...{KEY[-4:]}",
        f"{KEY[:3]}…{KEY[-3:]}",
        f"{KEY[:6]}••••••",
        f"***{KEY[-4:]}",
        f"{KEY[:4]}xxxxxxxx{KEY[-4:]}",
        f"ending in {KEY[-4:]}",
        f"starting with {KEY[:6]}",
        f"({KEY})",
        f'"{KEY}"',
        f"key={KEY}&x=1",
        f"Bearer {KEY}",
    ],
)
def test_a_key_is_hidden_however_it_is_shown(shown: str) -> None:
    """Whole or in part, and with its middle masked."""
    failure = told(f"Refused: {shown}. See the manual.")
    for field in (failure.message, failure.param or ""):
        assert "[redacted]" in field
        assert not any(part in field for part in parts(KEY, 3))
        assert SHORT not in field
    assert "See the manual." in failure.message


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-a1b2c3d4e5f6",
        "sk-ant-api03-a1b2c3d4",
        "AIzaSyA1b2c3d4e5f6g7",
        "gsk_a1b2c3d4e5f6",
        "xai-a1b2c3d4e5f6",
        "sk-ab***xyz",
        "sk-ab…yz",
        "sk-a...wxyz",
        "AIza***wxyz",
        "gsk_ab****yz",
        "hf_a1b2c3d4",
        "ya29.a0AfH6SMB",
    ],
)
def test_keys_of_known_forms_are_hidden_without_being_configured(key: str) -> None:
    """A provider may echo a key that is not one of the gateway's."""
    failure = told(f"Wrong key {key} given", keys=())
    assert failure.message == "Wrong key [redacted] given"


def test_words_that_are_no_keys_stay() -> None:
    """Neither ellipses nor names of models are taken for keys."""
    text = "Model claude-3-5-sonnet... was not found; use gpt-4o-mini *now*, see https://x/y"
    assert told(text).message == text


def test_a_field_that_is_called_like_a_key_is_hidden() -> None:
    """The path of what is malformed holds names that the provider chose."""
    body = json.dumps({"choices": [{"message": {"content": "x", KEY: [[[]]] * 2}}]})
    deep = body.replace("[[[]], [[]]]", "[" * 90 + "]" * 90).encode()
    with pytest.raises(UpstreamFailure) as caught:
        DIALECTS["openai"].decode(deep)
    Redactor((KEY,)).clean(caught.value)
    assert caught.value.reason == Reason.ERROR_REASON_UPSTREAM_ERROR
    assert "choices[0].message.[redacted] is nested" in caught.value.message
