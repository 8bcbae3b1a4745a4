"""The body of a registration, cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maniac_edge.errors import EdgeError
from maniac_edge.requests.item_stream import ItemStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},:\né ', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='a"\\]}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(body: bytes, size: int, limit: int = 1 << 20) -> tuple[str | None, list[bytes | None]]:
    """Return the container and the items of a body that comes in pieces of that size."""
    stream = ItemStream(limit)
    items: list[bytes | None] = []
    for start in range(0, len(body), size):
        items += stream.feed(body[start : start + size])
    stream.finish()
    return stream.container, items


@given(
    items=st.lists(VALUES, max_size=4),
    size=st.integers(1, 40),
    last=st.booleans(),
    pretty=st.booleans(),
)
def test_items_are_found_wherever_the_body_is_cut(
    items: list[Any], size: int, last: bool, pretty: bool
) -> None:
    """Any JSON values come out as they went in, in either order of the keys, with and without blanks."""
    pairs = [("container", 'b"x\\'), ("items", items)]
    body = json.dumps(dict(reversed(pairs) if last else pairs), indent=2 if pretty else None)
    container, found = read(body.encode(), size)

    assert container == 'b"x\\'
    assert [json.loads(item or b"") for item in found] == items


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_item_above_the_limit_is_passed_over(size: int) -> None:
    """Its place in the order is kept, and those around it are not touched."""
    big = '{"text": "' + ']}\\"' * 100 + '"}'
    _, items = read(f'{{"container":"c","items":[1,{big},[2]]}}'.encode(), size, limit=50)
    assert items == [b"1", None, b"[2]"]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("nul", "validation_error"),
        ("[]", "validation_error"),
        ("}", "invalid_json"),
        ("{}", "validation_error"),
        ('{"container":"c"}', "validation_error"),
        ('{"items":[]}', "validation_error"),
        ('{"container":1,"items":[]}', "validation_error"),
        ('{"container":"c","items":{}}', "validation_error"),
        ('{"container":null,"items":[]}', "validation_error"),
        ('{"container":"c","items":[],"x":1}', "validation_error"),
        ('{"container":"c","container":"d","items":[]}', "validation_error"),
        ('{"container":"c","items":[],"items":[]}', "validation_error"),
        ('{"container":"c","items":[1,]}', "invalid_json"),
        ('{"container":"c","items":[,]}', "invalid_json"),
        ('{"container":"c","items":[1}', "invalid_json"),
        ('{"container":"c","items":[{"a":1]', "invalid_json"),
        ('{"container":"c","items":["', "invalid_json"),
        ('{"container":"c","items":[]', "invalid_json"),
        ('{"container":"c","items":[]}}', "invalid_json"),
        ('{"container":"c","items":[],}', "invalid_json"),
        ('{"container":"c" "items":[]}', "invalid_json"),
        ('{"container" "c"}', "invalid_json"),
        ('{"container":"\\x","items":[]}', "invalid_json"),
        ('{container:"c"}', "invalid_json"),
        ('{"' + "k" * 5000 + '":1}', "invalid_json"),
    ],
)
def test_what_is_around_the_items_has_to_be_right(body: str, code: str, size: int) -> None:
    """Malformed JSON and an object of another form are told apart, however the body is cut."""
    with pytest.raises(EdgeError) as caught:
        read(body.encode(), size)
    assert caught.value.code == code
