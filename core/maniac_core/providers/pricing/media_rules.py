"""The cost of images and documents in tokens, by the published rules of their model's family.

Where a rule can be read in several ways, the dearer one holds, and a model that no family knows costs what the dearest
of all would: this is for reserving, and what was reserved too much comes back with the answer.

Facts from the providers' pages on images, documents and prices.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import ceil
from typing import Protocol

import msgspec

from maniac_core.providers.pricing.image_size import Size

PAGE_TEXT_TOKENS = 3_000
"""The most that Anthropic names for the text of a page; OpenAI reads a page as text and image as well."""


def _fitting(size: Size, longest: int) -> Size:
    """Return the size after scaling both sides to the limits, rounded up."""
    scale = min(1.0, longest / max(size))
    return ceil(size[0] * scale), ceil(size[1] * scale)


class ImageRule(Protocol):
    """How images become tokens."""

    def tokens(self, size: Size | None, *, is_low: bool) -> int:
        """Return the most tokens of an image; `size` None: it is unknown. `is_low`: of low detail."""


class Tiles(msgspec.Struct, frozen=True):
    """OpenAI's older rule: squares of 512 pixels, after the image fits into 2,048 and its short side is 768."""

    base: int
    each: int

    def tokens(self, size: Size | None, *, is_low: bool) -> int:
        """See `ImageRule`."""
        if is_low:
            return self.base
        if size is None:
            size = (2048, 768)
        width, height = _fitting(size, 2048)
        scale = 768 / min(width, height)
        # Whether a small image is made larger is not said, so it is.
        width, height = (min(2048, ceil(side * scale)) for side in (width, height))
        return self.base + self.each * ceil(width / 512) * ceil(height / 512)


class Patches(msgspec.Struct, frozen=True):
    """OpenAI's newer rule: squares of 32 pixels, as many as the model takes at most; low detail costs no less."""

    per_thousand: int
    """Tokens of a thousand of them."""
    most: int = 1_536

    def tokens(self, size: Size | None, *, is_low: bool) -> int:
        """See `ImageRule`."""
        del is_low
        count = self.most
        if size is not None:
            count = min(count, ceil(size[0] / 32) * ceil(size[1] / 32))
        return ceil(count * self.per_thousand / 1000)


class Area(msgspec.Struct, frozen=True):
    """Anthropic's rule: a token for 750 pixels, or for each begun square of 28, after the long side fits."""

    longest: int

    def tokens(self, size: Size | None, *, is_low: bool) -> int:
        """See `ImageRule`."""
        del is_low
        width, height = _fitting(size or (self.longest, self.longest), self.longest)
        return max(ceil(width * height / 750), ceil(width / 28) * ceil(height / 28))


class Crops(msgspec.Struct, frozen=True):
    """Gemini's rules: 258 for each square of up to 768 pixels; from 3 on a number that the resolution sets."""

    each: int = 258
    high: int = 1_120
    pan_and_scan: int = 2_304

    def tokens(self, size: Size | None, *, is_low: bool) -> int:
        """See `ImageRule`."""
        del is_low
        if size is None:
            # Of a long image that is as large as one is kept.
            size = (3072, 384)
        if max(size) <= 384:
            return max(self.each, self.high)
        squares = ceil(size[0] / 768) * ceil(size[1] / 768)
        width, height = _fitting(size, 3072)
        unit = min(768, max(256, int(min(width, height) / 1.5)))
        squares = max(squares, ceil(width / unit) * ceil(height / unit))
        return max(self.each * squares, self.high, self.pan_and_scan)


class Family(msgspec.Struct, frozen=True):
    """The rules for some models."""

    rules: tuple[ImageRule, ...]
    page: int
    """The most tokens of a page of a document."""
    second: int = 32
    """Tokens of a second of audio."""

    def image(self, size: Size | None, *, is_low: bool) -> int:
        """Return the most tokens of an image by any rule that may hold."""
        return max(rule.tokens(size, is_low=is_low) for rule in self.rules)


def _openai(*rules: Tiles | Patches) -> Family:
    return Family(rules, PAGE_TEXT_TOKENS + max(rule.tokens(None, is_low=False) for rule in rules))


# The longest beginning of a model's name decides.
_OPENAI: dict[str, Family] = {
    # A model of a name that is not here: the dearest of each rule.
    "": _openai(Tiles(2_833, 5_667), Patches(2_460, 10_000)),
    "gpt-4": _openai(Tiles(85, 170)),
    "gpt-4o": _openai(Tiles(85, 170)),
    "chatgpt-4o": _openai(Tiles(85, 170)),
    "gpt-4o-mini": _openai(Tiles(2_833, 5_667)),
    "gpt-4.1": _openai(Tiles(85, 170), Patches(1_000)),
    "gpt-4.1-mini": _openai(Patches(1_620)),
    "gpt-4.1-nano": _openai(Patches(2_460)),
    "gpt-4.5": _openai(Tiles(85, 170)),
    "gpt-5": _openai(Tiles(70, 140), Patches(1_200)),
    "gpt-5-mini": _openai(Patches(1_620)),
    "gpt-5-nano": _openai(Patches(2_460)),
    "gpt-5.": _openai(Tiles(70, 140), Patches(2_460, 10_000)),
    "o1": _openai(Tiles(75, 150)),
    "o3": _openai(Tiles(75, 150)),
    "o4-mini": _openai(Patches(1_720)),
    "computer-use": _openai(Tiles(65, 129)),
}
_CLAUDE_IMAGE = Area(2_576)
_CLAUDE_OLD = Family((_CLAUDE_IMAGE,), PAGE_TEXT_TOKENS + 1_640)
_CLAUDE = Family((_CLAUDE_IMAGE,), PAGE_TEXT_TOKENS + 4_784)
_GEMINI = Family((Crops(),), 1_120)
_ALL = (*_OPENAI.values(), _CLAUDE, _GEMINI)
DEAREST = Family(
    tuple({rule for family in _ALL for rule in family.rules}), max(family.page for family in _ALL)
)
"""Of a model that belongs to no family that is known."""

_OPENAI_NAME = re.compile(r"(?:gpt-|chatgpt-|o\d|computer-use)[\w.-]*")
# Up to 4.6, images of pages are smaller.
_CLAUDE_OLD_NAME = re.compile(
    r"claude-(?:instant|[123]|(?:opus|sonnet|haiku)-4(?![-.][7-9](?!\d)))"
)


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """Return the family of a model by its name, whatever provider serves it."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:").removeprefix("openai.")
    if "claude" in name:
        return _CLAUDE_OLD if _CLAUDE_OLD_NAME.search(name) else _CLAUDE
    if "gemini" in name:
        return _GEMINI
    if _OPENAI_NAME.match(name) and "oss" not in name:
        return _OPENAI[max((one for one in _OPENAI if name.startswith(one)), key=len)]
    return DEAREST
