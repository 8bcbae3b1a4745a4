"""What is reserved for a prompt is never less than what its provider counts, by the published rules."""

from __future__ import annotations

import base64
import json
import random
import string
import struct
from collections.abc import Callable
from math import ceil
from typing import Any

import pytest
from maniac_core.providers.pricing.image_size import image_size
from maniac_core.providers.pricing.media_rules import DEAREST, family_of
from maniac_core.providers.pricing.pdf_pages import pdf_pages
from maniac_core.providers.pricing.prompt_bound import (
    UnboundedError,
    most_prompt_tokens,
    most_text_tokens,
)
from media_files import data_url, file_part, gif, image_part, jpeg, pdf, png, webp

SIZES = [
    *((1, 1), (100, 100), (384, 384), (512, 512), (513, 512), (768, 768), (1024, 1024)),
    *((1092, 1092), (1568, 1568), (1800, 2400), (2048, 4096), (4032, 3024), (8000, 8000)),
    *((2048, 16), (3, 5000), (2049, 513), (960, 540), (30, 3000)),
]


def bound(model: str, *parts: dict[str, object]) -> int:
    """Return the tokens of some parts, without what frames them."""
    empty = most_prompt_tokens(model, [{"role": "user", "content": []}], {})
    return most_prompt_tokens(model, [{"role": "user", "content": list(parts)}], {}) - empty


def tiles(base: int, each: int) -> Callable[[int, int], int]:
    """OpenAI's text on its older models, step by step."""

    def rule(width: float, height: float) -> int:
        scale = min(1, 2048 / max(width, height))
        width, height = width * scale, height * scale
        if min(width, height) > 768:
            scale = 768 / min(width, height)
            width, height = width * scale, height * scale
        return base + each * ceil(width / 512) * ceil(height / 512)

    return rule


def patches(factor: float, most: int = 1536) -> Callable[[int, int], int]:
    return lambda w, h: ceil(min(most, ceil(w / 32) * ceil(h / 32)) * factor - 1e-9)


def claude(longest: int) -> Callable[[int, int], int]:
    def rule(width: float, height: float) -> int:
        scale = min(1, longest / max(width, height))
        return ceil(width * scale * height * scale / 750)

    return rule


def gemini(width: int, height: int) -> int:
    if max(width, height) <= 384:
        return 258
    scale = min(1, 3072 / max(width, height))
    return 258 * ceil(width * scale / 768) * ceil(height * scale / 768)


PUBLISHED: list[tuple[str, Callable[[int, int], int], int]] = [
    # model, tokens of an image of high detail, of low detail
    ("gpt-4o", tiles(85, 170), 85),
    ("gpt-4o-2024-08-06", tiles(85, 170), 85),
    ("gpt-4o-mini", tiles(2833, 5667), 2833),
    ("openai/gpt-4o-mini-2024-07-18", tiles(2833, 5667), 2833),
    ("ft:gpt-4o-mini-2024-07-18:me::x", tiles(2833, 5667), 2833),
    ("gpt-4-turbo", tiles(85, 170), 85),
    ("gpt-4.1", tiles(85, 170), 85),
    ("gpt-4.1-mini", patches(1.62), 0),
    ("gpt-4.1-nano-2025-04-14", patches(2.46), 0),
    ("gpt-5", tiles(70, 140), 70),
    ("gpt-5-chat-latest", tiles(70, 140), 70),
    ("gpt-5-mini", patches(1.62), 0),
    ("gpt-5-nano", patches(2.46), 0),
    ("gpt-5.1", tiles(70, 140), 70),
    ("gpt-5.4", patches(1.2, 10_000), 0),
    ("o1", tiles(75, 150), 75),
    ("o3", tiles(75, 150), 75),
    ("o4-mini", patches(1.72), 0),
    ("gpt-7-mini", tiles(2833, 5667), 2833),
    ("claude-3-5-sonnet-latest", claude(1568), 0),
    ("anthropic/claude-sonnet-4.5", claude(1568), 0),
    ("claude-opus-4-7", claude(2576), 0),
    ("eu.anthropic.claude-opus-5-v1:0", claude(2576), 0),
    ("gemini-2.5-flash", gemini, 258),
    ("models/gemini-2.0-flash", gemini, 258),
    ("gemini-3-pro-preview", lambda _w, _h: 1120, 0),
    *(("llava-next", rule, 0) for rule in (tiles(2833, 5667), patches(2.46), claude(2576), gemini)),
]


@pytest.mark.parametrize(("model", "published", "low"), PUBLISHED)
def test_images_cost_no_more_than_is_reserved(
    model: str, published: Callable[[int, int], int], low: int
) -> None:
    """By size, whatever the file's format; an image that is only named is as large as any."""
    largest = max(published(*size) for size in SIZES if max(size) <= 4096)
    unknown = bound(model, image_part("https://example.com/cat.png"))
    assert unknown >= largest
    assert bound(model, image_part(data_url(b"no image at all", "image/png"))) >= largest
    for size in SIZES:
        url = data_url(png(*size), "image/png")
        assert bound(model, image_part(url)) >= published(*size), size
        assert bound(model, image_part(url, "high")) >= published(*size), size
        assert bound(model, image_part(url, "low")) >= low, size


def test_an_image_is_not_reserved_for_beyond_its_rule() -> None:
    """The example that the rules are known by, exactly: what is too much would refuse ordinary requests."""
    url = data_url(png(1024, 1024), "image/png")
    assert bound("gpt-4o-mini", image_part(url)) == 25_501
    assert bound("gpt-4o", image_part(url)) == 765
    assert bound("gpt-4o", image_part(url, "low")) == 85
    assert bound("o3", image_part(url)) == 675
    assert bound("claude-sonnet-4-5", image_part(url)) == 1_399
    assert bound("gpt-5-mini", image_part(url)) == 1_659


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (3000, 5), (16383, 16383)])
def test_sizes_are_read_from_every_format(size: tuple[int, int]) -> None:
    """Each as its encoders write it; a cut one has no size."""
    files = [
        png(*size),
        jpeg(*size),
        jpeg(*size, profile=200_000),
        gif(*size),
        gif(*size, screen=(1, 1)),
        *(webp(*size, kind) for kind in ("VP8X", "VP8L", "VP8 ")),
    ]
    for data in files:
        assert image_size(data) == size
        for end in range(min(len(data), 40)):
            assert image_size(data[:end]) in (None, size)
    large = image_part(data_url(jpeg(100, 100, profile=200_000), "image/jpeg"))
    assert bound("gpt-4o-mini", large) == bound(
        "gpt-4o-mini", image_part(data_url(png(100, 100), ""))
    )


@pytest.mark.parametrize("pages", [1, 2, 50, 999])
def test_pages_are_counted_in_the_file(pages: int) -> None:
    """In plain objects and in compressed ones; what is drawn on a page is none."""
    assert pdf_pages(pdf(pages)) == pages
    assert pdf_pages(pdf(pages, is_compressed=True)) == pages
    assert pdf_pages(pdf(pages).replace(b"/Page /", b"/P#61ge /")) == pages
    # An earlier version of the document is still in the file.
    assert pdf_pages(pdf(pages) + pdf(3, is_compressed=True)) == pages + 3


def test_a_word_in_a_text_hides_no_page() -> None:
    """Of a title, a name or a comment: a stream begins behind its dictionary only."""
    page = b"%d 0 obj<</Type/Page/Parent 2 0 R/Contents 9 0 R>>endobj\n"
    content = b"9 0 obj<</Length 2>>\nstream\r\nBT\r\nendstream endobj\n"
    for title in (
        b"/Title(A live stream)",
        b"/streams[1]",
        b"/A(>> stream)%stream\n",
        b"%>>stream\n",
    ):
        head = b"%PDF-1.4\n1 0 obj<<" + title + b">>endobj\n"
        pages = b"".join(page % number + content for number in range(10, 30))
        assert pdf_pages(head + pages + b"%%EOF") == 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.4\n%%EOF",
        pdf(5, extra=b"<</Encrypt 7 0 R>>"),
        pdf(5, is_compressed=True).replace(b"/FlateDecode", b"/LZWDecode  "),
        pdf(5, is_compressed=True).replace(b"stream\r\n", b"stream\r\n#", 2),
        b"stream" * 100_000,
    ],
)
def test_a_document_that_cannot_be_read_is_as_long_as_any(data: bytes) -> None:
    """Up to what its bytes can hold, and what providers take."""
    assert pdf_pages(data) is None
    page = family_of("claude-sonnet-4-5").page
    url = data_url(data, "application/pdf")
    expected = page * max(1, min(1_000, len(url.partition(",")[2])))
    assert bound("claude-sonnet-4-5", file_part(url)) >= expected


@pytest.mark.parametrize(
    ("model", "page"),
    [
        ("claude-sonnet-4-5", 3_000 + 1_600),
        ("claude-opus-4-7", 3_000 + 4_784),
        ("claude-3-7-sonnet", 3_000 + 1_600),
        ("gemini-2.5-pro", 258),
        ("gemini-3-flash", 1_120),
        ("gpt-4o", 3_000 + 85 + 6 * 170),
        ("gpt-4o-mini", 3_000 + 2_833 + 6 * 5_667),
        ("something-else", 3_000 + 4_784),
    ],
)
def test_pages_cost_no_more_than_is_reserved(model: str, page: int) -> None:
    """As text and as image, whatever stands on them, also where a file passes as an image."""
    url = data_url(pdf(50, is_compressed=True), "application/pdf")
    assert bound(model, file_part(url)) >= 50 * page
    assert bound(model, image_part(url)) >= 50 * page
    assert bound(model, file_part(url.partition(",")[2])) >= 50 * page


def test_other_files_cost_no_more_than_is_reserved() -> None:
    """Sound by its length, text by its bytes; a file that only has a name cannot be reserved for."""
    wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 48_000, 96_000, 2, 16)
    wav += bytes(960_000)
    for data, media_type in ((wav, "audio/wav"), (bytes(8_000 * 10), "audio/mp3")):
        heard = bound("gemini-2.5-flash", file_part(data_url(data, media_type)))
        assert 32 * 10 <= heard < 32 * 250
    # The bytes per second that it claims are more than its samples have.
    claims = wav[:28] + b"\xff" * 4 + wav[32:]
    assert bound("gemini-2.5-flash", file_part(data_url(claims, "audio/wav"))) >= 32 * 10
    assert bound("gpt-4o", file_part(data_url(b"1,2,3\n" * 100, "text/csv"))) >= 600
    for file in ({"file_id": "file-1"}, {"file_data": "https://example.com/a.pdf"}):
        with pytest.raises(UnboundedError) as told:
            bound("gpt-4o", {"type": "file", "file": file})
        assert told.value.param == "messages[0].content[0].file"
    with pytest.raises(UnboundedError):
        most_prompt_tokens("gpt-4o", [{"role": "assistant", "audio": {"id": "a"}}], {})


def test_a_part_counts_with_all_that_it_has() -> None:
    """A text beside an image is not missed, whatever the part calls itself."""
    url = data_url(png(512, 512), "image/png")
    part = {**image_part(url), "type": "text", "text": "1" * 5_000}
    assert bound("gpt-4o", part) >= 5_000 + 255


_chance = random.Random(7)
DENSE = {
    "digits": "".join(_chance.choices(string.digits, k=4_000)),
    "csv": ",".join(str(_chance.randrange(100)) for _ in range(3_000)),
    "json": json.dumps([_chance.randrange(10) for _ in range(3_000)]),
    "base64": base64.b64encode(_chance.randbytes(4_000)).decode(),
    "hex": _chance.randbytes(2_000).hex(),
    "cjk": "".join(chr(_chance.randrange(0x4E00, 0x9FFF)) for _ in range(2_000)),
    "emoji": "".join(chr(_chance.randrange(0x1F300, 0x1F6FF)) for _ in range(1_000)),
    "whitespace": "".join(_chance.choices(" \t\n\r", k=4_000)),
    "spaces": " " * 4_000,
    "punctuation": "".join(_chance.choices(string.punctuation, k=4_000)),
    "capitals": "".join(_chance.choices(string.ascii_uppercase, k=4_000)),
    "rare letters": "".join(_chance.choices("qxzjwkg", k=4_000)),
    "surrogates": "\ud800" * 1_000,
}


@pytest.mark.parametrize("kind", DENSE)
def test_dense_text_is_reserved_a_token_for_a_byte(kind: str) -> None:
    """No tokenizer on bytes makes more of it; in messages, tools, schemas and few-shot alike."""
    text = DENSE[kind]
    size = len(text.encode(errors="surrogatepass"))
    assert most_text_tokens(text) == size
    if kind == "surrogates":
        return
    message = {"role": "user", "content": text, "name": "n"}
    assert most_prompt_tokens("gpt-4o", [message, message], {}) > 2 * size
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}]
    assert most_prompt_tokens("gpt-4o", [{"role": "assistant", "tool_calls": calls}], {}) > size
    for key in ("tools", "response_format", "functions", "anything"):
        assert most_prompt_tokens("gpt-4o", [], {key: [{"description": text}]}) > size


def test_prose_is_reserved_less() -> None:
    """At most four fifths of a token for a byte of ordinary sentences, and never less than two joined letters allow."""
    prose = (
        "the quick brown fox jumps over the lazy dog and then it sleeps for the rest of the day; "
    )
    assert 0.5 < most_text_tokens(prose * 50) / len(prose * 50) < 0.85
    # "ab" and "cd" are tokens, and no longer ones need be.
    assert most_text_tokens("abcdef" * 500) >= 3_000 * 2 / 3


@pytest.mark.recordings("openai-unary-*", "anthropic-unary-*", "gemini-unary-*", without="*http4*")
def test_recorded_prompts_have_no_more_tokens_than_is_reserved(recording: Any) -> None:
    """Against what the providers themselves counted."""
    try:
        answer = json.loads(recording.body)
    except ValueError:
        pytest.skip("no JSON")
    usage = answer.get("usage") or answer.get("usageMetadata") or {}
    counted = usage.get("prompt_tokens") or usage.get("promptTokenCount") or 0
    counted = counted or sum(value for key, value in usage.items() if key.endswith("input_tokens"))
    body = recording.request["body"]
    if not isinstance(body, dict):
        pytest.skip("no request")
    messages = body.pop("messages", None) or body.pop("contents", [])
    model = answer.get("model") or answer.get("modelVersion") or body.get("model") or ""
    if "search" in model or "web-search" in recording.name:
        pytest.skip("what a search finds is in no request")
    assert most_prompt_tokens(model, messages, body) >= counted


def test_a_model_of_no_family_costs_what_the_dearest_does() -> None:
    """Whatever the image."""
    for size in [*SIZES, None]:
        for model, _, _ in PUBLISHED:
            for is_low in (False, True):
                ours = family_of(model).image(size, is_low=is_low)
                assert DEAREST.image(size, is_low=is_low) >= ours
