"""The list of models in Anthropic's form."""

from __future__ import annotations

import msgspec

from maniac_core.providers.listing import ABSENT, DiscoveredModel, ModelPage, Reader, text


class _List(msgspec.Struct):
    data: msgspec.Raw = ABSENT
    has_more: bool = False
    last_id: str | None = None


class _Entry(msgspec.Struct):
    id: str
    display_name: msgspec.Raw = ABSENT


_list = msgspec.json.Decoder(_List).decode
_entry = msgspec.json.Decoder(_Entry).decode


def read_anthropic_models(body: bytes) -> ModelPage:
    """Read a page.

    Raises:
        ValueError: it is not a list of models.
    """
    page, reader = _list(body), Reader()
    models = reader.models(page.data, _model)
    return ModelPage(
        models=models, next=page.last_id if page.has_more else None, odd=tuple(reader.odd)
    )


def _model(reader: Reader, raw: msgspec.Raw) -> DiscoveredModel:
    entry = _entry(raw)
    return DiscoveredModel(
        name=entry.id,
        display_name=reader.field("display_name", entry.display_name, text),
        owned_by="anthropic",
    )
