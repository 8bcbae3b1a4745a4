"""Lists of models, as providers give them: what all dialects need to read one, tolerant of single fields.

A list is foreign: a field of another form than expected counts as not said, an entry without a usable name is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from maniac_core.providers.pricing.prices import Prices

_T = TypeVar("_T")
ABSENT = msgspec.Raw(b"null")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MAX_NAME = 256
_MAX_WORDS = 100
_MAX_COUNT = 2**53
# Commas in a list: what it can hold is bounded by them before it is decoded.
_MAX_COMMAS = 500_000

_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class ModelsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How a list of models, or its next page, is asked for: a GET."""

    url: str
    headers: tuple[tuple[str, str], ...]


class DiscoveredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's description of one of its models; None: not given."""

    name: str
    """The provider's own name of it, as a request takes it."""
    display_name: str | None = None
    owned_by: str | None = None
    created: int | None = None
    """Unix seconds."""
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    supported_parameters: tuple[str, ...] = ()
    prices: Prices | None = None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list of models."""

    models: tuple[DiscoveredModel, ...]
    next: str | None = None
    """The token of the next page; None: there is none."""
    odd: tuple[str, ...] = ()
    """Fields that could not be read, such as `architecture`, for the log."""


class Reader:
    """Reads single fields of entries, and notes those that make no sense."""

    def __init__(self) -> None:
        self.odd: dict[str, None] = {}

    def field(self, name: str, raw: msgspec.Raw, form: Callable[[msgspec.Raw], _T]) -> _T | None:
        """Return a field's value in its form; None where it is null or something else."""
        if raw in (ABSENT, b""):
            return None
        try:
            return form(raw)
        except _NOT_JSON:
            self.odd[name] = None
            return None

    def models(
        self, entries: msgspec.Raw, read: Callable[[Reader, msgspec.Raw], DiscoveredModel | None]
    ) -> tuple[DiscoveredModel, ...]:
        """Return the entries that can be read.

        Raises:
            ValueError: there is no list.
        """
        try:
            raws = _raw_list(entries)
        except _NOT_JSON as err:
            raise ValueError("no list of models") from err
        models: list[DiscoveredModel] = []
        for raw in raws:
            try:
                model = read(self, raw)
            except _NOT_JSON:
                self.odd["an entry"] = None
                continue
            if model is not None and 0 < len(model.name) <= _MAX_NAME and model.name.isprintable():
                models.append(model)
        return tuple(models)


def check_size(body: bytes) -> None:
    """Refuse a list that would take much more memory decoded than it does as bytes.

    Raises:
        ValueError: it holds too many values.
    """
    if body.count(b",") > _MAX_COMMAS:
        raise ValueError("too many values")


_as_text = msgspec.json.Decoder(str).decode
_as_int = msgspec.json.Decoder(float, strict=False).decode
_as_list = msgspec.json.Decoder(list[str]).decode


def text(raw: msgspec.Raw) -> str | None:
    """Read a text, of at most 256 characters."""
    return _as_text(raw)[:_MAX_NAME] or None


def count(raw: msgspec.Raw) -> int | None:
    """Read a positive number, also one that is written as text or as a float."""
    value = _as_int(raw)
    return int(value) if 0 < value < _MAX_COUNT else None


def words(raw: msgspec.Raw) -> tuple[str, ...]:
    """Read a list of words, of which at most 100 are kept."""
    return _bounded(_as_list(raw))


def _bounded(values: Iterable[str]) -> tuple[str, ...]:
    return tuple([value for value in values if len(value) <= _MAX_NAME][:_MAX_WORDS])
