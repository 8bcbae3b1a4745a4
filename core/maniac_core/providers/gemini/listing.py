"""The list of models in Gemini's form."""

from __future__ import annotations

import msgspec

from maniac_core.providers.listing import (
    ABSENT,
    DiscoveredModel,
    ModelPage,
    Reader,
    count,
    text,
    words,
)

_GENERATES = "generateContent"


class _List(msgspec.Struct):
    models: msgspec.Raw = ABSENT
    nextPageToken: str | None = None  # noqa: N815 - the wire's name


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    display_name: msgspec.Raw = ABSENT
    input_token_limit: msgspec.Raw = ABSENT
    output_token_limit: msgspec.Raw = ABSENT
    supported_generation_methods: msgspec.Raw = ABSENT


_list = msgspec.json.Decoder(_List).decode
_entry = msgspec.json.Decoder(_Entry).decode


def read_gemini_models(body: bytes) -> ModelPage:
    """Read a page.

    Raises:
        ValueError: it is not a list of models.
    """
    page, reader = _list(body), Reader()
    models = reader.models(page.models, _model)
    return ModelPage(models=models, next=page.nextPageToken or None, odd=tuple(reader.odd))


def _model(reader: Reader, raw: msgspec.Raw) -> DiscoveredModel | None:
    entry = _entry(raw)
    field = reader.field
    methods = field("supportedGenerationMethods", entry.supported_generation_methods, words)
    if methods is not None and _GENERATES not in methods:
        return None
    return DiscoveredModel(
        name=entry.name.removeprefix("models/"),
        display_name=field("displayName", entry.display_name, text),
        owned_by="google",
        context_window=field("inputTokenLimit", entry.input_token_limit, count),
        max_output_tokens=field("outputTokenLimit", entry.output_token_limit, count),
    )
