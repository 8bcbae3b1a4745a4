"""The cost of tokens: one model's price row and the price of a usage in integers.

Prices are femto-USD (1e-15 USD) per token, so that every row of the price data is a whole number of them: 1 USD per
million tokens is 1,000,000,000. Sums are exact; only the result is rounded, to nano-USD.
"""

from __future__ import annotations

import functools
from decimal import Decimal

import msgspec

from maniac_core.domain.chat import Usage

_FEMTO_PER_NANO = 1_000_000


class Prices(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Prices of one model at one time, in femto-USD per token. None: no price of its own."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    """None: as `input`."""
    cache_write: int | None = None
    """None: as `input`."""
    cache_write_1h: int | None = None
    """None: as `cache_write`."""
    reasoning: int | None = None
    """None: as `output`."""
    input_audio: int | None = None
    """None: as `input`."""
    output_audio: int | None = None
    """None: as `output`."""
    request: int | None = None
    """Femto-USD per request."""
    above: tuple[tuple[int, Prices], ...] = ()
    """Rows for long prompts, longest first: a row holds for all tokens when the prompt has more than that many."""

    def cost_nano_usd(self, usage: Usage) -> int | None:
        """Return what a usage costs, rounded half up; None when some of its tokens have no price."""
        row = self
        if self.above:
            prompt_tokens = usage.prompt_tokens
            for start, above in self.above:
                if prompt_tokens > start:
                    row = above
                    break
        audio_in = min(usage.input_audio_tokens or 0, usage.input_tokens)
        audio_out = min(usage.output_audio_tokens or 0, usage.output_tokens)
        counts = (
            usage.input_tokens - audio_in,
            usage.output_tokens - audio_out,
            usage.cache_read_tokens,
            usage.reasoning_tokens,
            usage.cache_write_tokens,
            usage.cache_write_1h_tokens,
            audio_in,
            audio_out,
        )
        cost = row.request or 0
        for tokens, price in zip(counts, row.per_token, strict=True):
            if tokens:
                if price is None:
                    return None
                cost += tokens * price
        return (cost + _FEMTO_PER_NANO // 2) // _FEMTO_PER_NANO

    @functools.cached_property
    def per_token(self) -> tuple[int | None, ...]:
        """The prices of all kinds of tokens, in the order of `cost_nano_usd`."""
        price_in, price_out = self.input, self.output
        write = price_in if self.cache_write is None else self.cache_write
        return (
            price_in,
            price_out,
            price_in if self.cache_read is None else self.cache_read,
            price_out if self.reasoning is None else self.reasoning,
            write,
            write if self.cache_write_1h is None else self.cache_write_1h,
            price_in if self.input_audio is None else self.input_audio,
            price_out if self.output_audio is None else self.output_audio,
        )

    def ceiling_nano_usd(
        self, prompt_tokens: int, output_tokens: int, *, may_hear: bool = False
    ) -> int | None:
        """Return the most that so many tokens cost, whichever of them are cached, spoken or thought; None: unknown.

        `may_hear`: whether tokens of the prompt may be audio.
        """
        most = 0
        for start, row in ((-1, self), *self.above):
            if prompt_tokens <= start:
                continue
            text_in, heard_in, price_out = row.dearest
            price_in = heard_in if may_hear else text_in
            if price_in is None or price_out is None:
                return None
            cost = (row.request or 0) + prompt_tokens * price_in + output_tokens * price_out
            most = max(most, cost)
        return -(-most // _FEMTO_PER_NANO)

    @functools.cached_property
    def dearest(self) -> tuple[int | None, int | None, int | None]:
        """The most that a token costs: of a prompt without audio, of one with it, and of an answer."""
        text_in = _dearest(self.input, self.cache_read, self.cache_write, self.cache_write_1h)
        return (
            text_in,
            _dearest(text_in, self.input_audio),
            _dearest(self.output, self.reasoning, self.output_audio),
        )

    @functools.cached_property
    def usd_json(self) -> msgspec.Raw:
        """`usd` as JSON."""
        return msgspec.Raw(msgspec.json.encode(self.usd()))

    def usd(self) -> dict[str, str]:
        """Return the prices that are set as decimal text: USD per token, `request` USD per request."""
        return {
            name: usd_text(value)
            for name in self.__struct_fields__
            if name != "above" and (value := getattr(self, name)) is not None
        }


def _dearest(*prices: int | None) -> int | None:
    known = [price for price in prices if price is not None]
    return max(known) if known else None


FREE = Prices(input=0, output=0)


def femto_usd(usd: Decimal, per: int) -> int:
    """Return a price of so many USD per so many units as femto-USD per unit."""
    return round(usd.scaleb(15) / per)


def usd_text(femto: int) -> str:
    """Return femto-USD as USD in plain decimal notation, such as `0.0000025`."""
    text = format(Decimal(femto).scaleb(-15), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
