"""Header blocks: what the specification's examples say, and what nobody should send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maniac_common.hop import huffman
from maniac_common.hop.hpack import Decoder, HpackError, TooLargeError, encode

_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)
_VALUES = st.text(st.characters(max_codepoint=255), max_size=300)


def test_the_requests_of_the_specification_are_decoded_in_their_order() -> None:
    """Appendix C.4: three requests on one connection, with Huffman codes and the dynamic table."""
    decoder = Decoder(4096)
    first = decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    second = decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf"))
    third = decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))

    common = ((":method", "GET"), (":scheme", "http"), (":path", "/"))
    assert first == (*common, (":authority", "www.example.com"))
    assert second == (*first, ("cache-control", "no-cache"))
    assert third == (
        *((":method", "GET"), (":scheme", "https"), (":path", "/index.html")),
        *((":authority", "www.example.com"), ("custom-key", "custom-value")),
    )


def test_entries_leave_the_table_when_it_shrinks() -> None:
    decoder = Decoder(4096)
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.decode(b"\xbe") == (("a", "b"),)
    # To nothing and back.
    decoder.decode(b"\x20\x3f\xe1\x1f")
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


def test_an_entry_that_is_larger_than_the_table_empties_it() -> None:
    decoder = Decoder(100_000)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40\x01a\x7f\x81\x1f" + b"x" * 4096)
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # header 0
        b"\xbe",  # an empty table
        b"\x40",  # no name
        b"\x00\x05ab",  # a name that is cut
        b"\x00\x01a\x05b",  # a value that is cut
        b"\x00\x01a\xff\xff\xff\xff\xff\x0f",  # a length that no memory has
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x82\x20",  # a table that changes after a header
        b"\x00\x81\xff\x00",  # eight bits of padding
        b"\x00\x84\xff\xff\xff\xff\x00",  # a code that ends the text
        b"\x00\x81\x00\x00",  # padding of zeros
    ],
)
def test_what_is_not_well_formed_is_refused(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder(4096).decode(block)


def test_headers_beyond_the_limit_are_refused() -> None:
    """Also when the block is small: the table makes each byte a header of its own."""
    decoder = Decoder(4096)
    decoder.decode(b"\x40\x01a\x7f\x01" + b"x" * 128)
    with pytest.raises(TooLargeError):
        decoder.decode(b"\xbe" * 40)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8))
def test_what_is_encoded_is_decoded(headers: list[tuple[str, str]]) -> None:
    assert Decoder(1 << 20).decode(encode(headers)) == tuple(headers)


def test_values_are_never_put_into_a_table() -> None:
    assert encode([("x-secret", "s")])[0] == 0x10


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(block: bytes) -> None:
    with contextlib.suppress(HpackError):
        Decoder(4096).decode(block)


@given(st.binary(max_size=50))
def test_any_bytes_are_a_text_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        huffman.decode(data)
