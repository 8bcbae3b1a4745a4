"""Examples: checks what was handed in for registration, and makes the record that is kept of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from maniac_core.domain.chat import MAX_TAGS, Usage
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.examples import (
    Example,
    ExampleInput,
    ExampleOutput,
    InputMessage,
    OutputChoice,
)
from maniac_core.domain.ids import completion_id, now_s
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.openai.answer import finish_of
from maniac_core.providers.openai.usage import usage_of
from maniac_core.providers.translation.counts import MAX_COST_USD, MAX_TOKENS
from maniac_core.providers.translation.foreign_json import loose_object
from maniac_core.services.capture.capture import Call
from maniac_core.services.routing.router import Router

_T = TypeVar("_T")

_decode = msgspec.json.Decoder().decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_PATH = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_FIELD = re.compile(r"(required|unknown) field `([^`]*)`")
_EXPECTED = re.compile(r"Expected `(.*)`, got `(\w+)`")
_JSON_NAMES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_PART_TYPES = ("text", "image_url", "file", "input_audio")
_INTEGERS = ("top_logprobs", "max_tokens", "max_completion_tokens", "n", "seed")
# Not parameters of the model: what is about them is kept in columns of their own, or means nothing afterwards.
_CONSUMED = frozenset(
    {
        *("model", "models", "tags", "metadata", "trace", "store", "stream", "stream_options"),
        *("container", "container_id"),
    }
)
_INT64_MAX = 2**63 - 1
# Bounds that keep the sums of millions of examples within 64 bits.
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_MAX_SPEND_USD = 10**6
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999: no protobuf timestamp goes beyond it."""
_MAX_ID = 512


class ExampleReader:
    """Makes records for one container, on behalf of one call."""

    def __init__(self, call: Call, container: Container, router: Router) -> None:
        self._call = call
        self._container = container
        self._router = router
        self._models: dict[str, tuple[str, str | None, str | None]] = {}

    def record(self, example: Example) -> CompletionRecord:
        """Return the record of an example; its id is output.id, or a new one.

        Raises:
            GatewayError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
        """
        members, given = _read(example.input, ExampleInput, "input")
        _check_input(given)
        metadata = example.metadata
        if metadata is not None:
            _read(metadata, dict[str, Any], "metadata")
        output, answer, usage = None, None, None
        if example.output is not None:
            raw, answer = _read(example.output, ExampleOutput, "output")
            _check_output(answer)
            output = _encode(_choices(raw["choices"], answer.choices)) if answer.choices else None
            usage = _usage(raw["usage"]) if answer.usage else None
        tags = example.tags or tuple((answer and answer.tags) or given.tags or ())
        if len(tags) > MAX_TAGS:
            raise _invalid("tags", f"must not hold more than {MAX_TAGS} items")
        trace = given.trace or (answer.trace if answer else None)
        model, provider, model_id = self._served(given, answer)
        return CompletionRecord(
            id=(answer.id if answer else None) or completion_id(),
            caller=self._call.caller,
            created=_created(answer),
            request_id=self._call.request_id,
            status="registered",
            store=True,
            streamed=False,
            requested_model=given.model or next(iter(given.models or ()), ""),
            model=model,
            provider=provider,
            model_id=model_id,
            container=self._container.key,
            container_label=self._container.label,
            finish_reason=_finish(answer.choices[0]) if answer and answer.choices else None,
            usage=usage or Usage(),
            usage_source="caller" if usage else "none",
            spend_nano_usd=None
            if answer is None or answer.spend is None
            else round(answer.spend * 1e9),
            time_to_first_token_us=None,
            latency_us=0,
            tags=tags,
            metadata=metadata if metadata is not None else _metadata(given, answer),
            trace=trace.as_trace() if trace else None,
            input=_request(members),
            output=output,
        )

    def _served(
        self, given: ExampleInput, answer: ExampleOutput | None
    ) -> tuple[str | None, str | None, str | None]:
        """Return slug, provider and model id; without an answer nobody has served it."""
        if answer is None:
            return None, None, None
        name = answer.model or given.model
        if not name or name.startswith(("maniac:", "maniac/")):
            return None, answer.provider or None, answer.model_id
        known = self._models.get(name)
        if known is None:
            found = self._router.find(name)
            known = (found.slug, found.provider, found.model_id) if found else (name, None, None)
            self._models[name] = known
        slug, provider, model_id = known
        return slug, answer.provider or provider, answer.model_id or model_id


def _read(data: bytes, shape: type[_T], where: str) -> tuple[Mapping[str, msgspec.Raw], _T]:
    """Return an object's members verbatim, and its typed form, after reading every value in it once."""
    try:
        value = _decode(data)
    except RecursionError:
        raise _error(Reason.ERROR_REASON_INVALID_JSON, where, "is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        problem = str(err).removeprefix("JSON is malformed: ")
        raise _error(
            Reason.ERROR_REASON_INVALID_JSON, where, f"is not valid JSON: {problem}"
        ) from None
    if not isinstance(value, dict):
        raise _invalid(where, "must be an object")
    try:
        return _members(data), msgspec.convert(value, shape)
    except msgspec.ValidationError as err:
        raise _explained(err, where) from None


def _explained(error: msgspec.ValidationError, where: str) -> GatewayError:
    text = str(error)
    if match := _PATH.search(text):
        text, where = text[: match.start()], where + match[1]
    if match := _FIELD.search(text):
        param = f"{where}.{match[2]}"
        if match[1] == "required":
            return _missing(param)
        return _invalid(param, "is not a known key")
    if match := _EXPECTED.match(text):
        expected = " or ".join(_JSON_NAMES.get(name, name) for name in match[1].split(" | "))
        return _invalid(where, f"must be {expected}, not {_JSON_NAMES.get(match[2], match[2])}")
    return _invalid(where, text[0].lower() + text[1:])


def _check_input(given: ExampleInput) -> None:
    if not given.messages:
        raise _invalid("input.messages", "must not be empty")
    for position, message in enumerate(given.messages):
        _check_parts(message, f"input.messages[{position}].content")
    for name in _INTEGERS:
        value = getattr(given, name)
        if value is None:
            continue
        if isinstance(value, float) and not value.is_integer():
            raise _invalid(f"input.{name}", "must be a whole number")
        if not -_INT64_MAX <= value <= _INT64_MAX:
            raise _invalid(f"input.{name}", "is out of range")
    if given.n is not None and given.n < 1:
        raise _invalid("input.n", "must be 1 or more")
    form = given.response_format
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        raise _missing("input.response_format.json_schema")


def _check_parts(message: InputMessage, where: str) -> None:
    if not isinstance(message.content, list):
        return
    for position, part in enumerate(message.content):
        at = f"{where}[{position}]"
        kind = part.type or next(
            (name for name in _PART_TYPES if getattr(part, name) is not None), None
        )
        if kind is None:
            raise _missing(f"{at}.type")
        if kind not in _PART_TYPES:
            raise _invalid(f"{at}.type", f"is not one of {', '.join(_PART_TYPES)}")
        if kind != "input_audio" and getattr(part, kind) is None:
            raise _missing(f"{at}.{kind}")


def _check_output(answer: ExampleOutput) -> None:
    if answer.id is not None and len(answer.id) > _MAX_ID:
        raise _invalid("output.id", f"is longer than {_MAX_ID} characters")
    spend = answer.spend
    if spend is not None and not (math.isfinite(spend) and 0 <= spend <= _MAX_SPEND_USD):
        raise _invalid("output.spend", f"must be USD, from 0 to {_MAX_SPEND_USD}")
    for position, choice in enumerate(answer.choices):
        if choice.index is None:
            continue
        if isinstance(choice.index, float) and not choice.index.is_integer():
            raise _invalid(f"output.choices[{position}].index", "must be a whole number")
        if not 0 <= choice.index < 2**31:
            raise _invalid(f"output.choices[{position}].index", "is out of range")


def _usage(raw: msgspec.Raw) -> Usage | None:
    # Of a provider such a count is taken as missing; here somebody can mend it.
    given = loose_object(raw)
    for names, largest in ((_COUNTS, MAX_TOKENS), (("cost",), MAX_COST_USD)):
        for value in map(given.get, names):
            if isinstance(value, int | float) and value > largest:
                raise _invalid("output.usage", "is out of range")
    return usage_of(raw)


def _request(members: Mapping[str, msgspec.Raw]) -> bytes:
    """Return the request as it is kept: messages first, then parameters; null means not given."""
    parameters = {
        key: value
        for key, value in members.items()
        if key not in _CONSUMED and bytes(value) != b"null"
    }
    return _encode({"messages": members["messages"], **parameters})


class _RawChoice(msgspec.Struct):
    message: msgspec.Raw


_raw_choices = msgspec.json.Decoder(list[_RawChoice]).decode


def _choices(raw: msgspec.Raw, choices: list[OutputChoice]) -> list[dict[str, Any]]:
    return [
        {
            "index": position if choice.index is None else int(choice.index),
            "message": given.message,
            "finish_reason": _finish(choice),
            "logprobs": None,
        }
        for position, (choice, given) in enumerate(zip(choices, _raw_choices(raw), strict=True))
    ]


def _finish(choice: OutputChoice) -> str | None:
    """Return the finish reason in the closed set of the API."""
    try:
        return finish_of(choice.finish_reason)
    except UpstreamFailure:
        return "error"


def _created(answer: ExampleOutput | None) -> int:
    created: Any = answer.created if answer else None
    if isinstance(created, float) and created.is_integer():
        created = int(created)
    if type(created) is int and 0 <= created <= _LAST_SECOND:
        return created
    return now_s()


def _metadata(given: ExampleInput, answer: ExampleOutput | None) -> bytes | None:
    metadata = (answer.metadata if answer else None) or given.metadata
    return _encode(metadata) if metadata is not None else None


def _missing(param: str) -> GatewayError:
    return _error(Reason.ERROR_REASON_MISSING_REQUIRED_PARAMETER, param, "is required")


def _invalid(param: str, problem: str) -> GatewayError:
    return _error(Reason.ERROR_REASON_INVALID_VALUE, param, problem)


def _error(reason: Reason.ValueType, param: str, problem: str) -> GatewayError:
    return GatewayError(reason, f"{param}: {problem}.", param=param)
