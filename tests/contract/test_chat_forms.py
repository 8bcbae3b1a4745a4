"""A chat request is the same to the core in every form: as an edge sends it, and as the typed contract has it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maniac_core.domain.chat import ChatRequest
from maniac_core.domain.errors import GatewayError
from maniac_core.rpc.chat.json_request import request_from_json
from maniac_core.rpc.chat.request import request_from_proto
from maniac_edge.errors import EdgeError
from maniac_edge.wires.chat.request import parse_request
from relayed import params_of

_text = st.text(max_size=5)
_names = st.sampled_from(["f", "g", "é"])
_number = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _number | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_object = st.dictionaries(_text, _json, max_size=3)
_unknown = st.dictionaries(st.sampled_from(["x1", "cache_control", "user"]), _json, max_size=2)


def _shape(required: dict[str, Any], optional: dict[str, Any], *, open: bool = True) -> Any:  # noqa: A002
    """Return objects whose optional keys are there, null or absent, and which may have further keys."""
    known = st.fixed_dictionaries(
        required, optional={key: st.none() | value for key, value in optional.items()}
    )
    return st.builds(lambda a, b: {**b, **a}, known, _unknown) if open else known


_image = _shape({"url": _text}, {"detail": _text})
_file = _shape({}, {"file_data": _text, "file_id": _text, "filename": _text})
_part = st.one_of(
    _shape({"type": st.just("text"), "text": _text}, {}),
    _shape({"text": _text}, {"type": st.nothing()}),
    _shape({"type": st.just("image_url"), "image_url": _image}, {"text": _text}),
    _shape({"type": st.just("file"), "file": _file}, {}),
    _shape({"type": st.just("input_audio"), "input_audio": _object}, {}),
)
_call = _shape(
    {"id": _text, "function": _shape({"name": _text, "arguments": _text}, {})},
    {"type": st.just("function")},
)
_message = _shape(
    {"role": st.sampled_from(["system", "user", "assistant", "developer", "tool"])},
    {
        "content": _text | st.lists(_part, max_size=2),
        "name": _text,
        "tool_calls": st.lists(_call, max_size=2),
        "tool_call_id": _text,
        "reasoning": _text,
        "reasoning_details": st.lists(_object, max_size=2),
        "refusal": _text,
    },
)
_function = _shape(
    {"name": _names}, {"description": _text, "parameters": _object, "strict": st.booleans()}
)
_tool = _shape({"function": _function}, {"type": st.just("function")})
_named = _shape({"function": _shape({"name": _names}, {})}, {"type": st.just("function")})
_allowed = _shape(
    {
        "mode": st.sampled_from(["auto", "required"]),
        "tools": st.lists(_named, min_size=1, max_size=2),
    },
    {},
)
_whole = st.integers(1, 2**53) | st.integers(1, 1000).map(float)
_request = _shape(
    {"messages": st.lists(_message, min_size=1, max_size=3), "model": _text},
    {
        "models": st.lists(_text, max_size=2),
        "frequency_penalty": _number,
        "temperature": _number,
        "logit_bias": st.dictionaries(_text, _number, max_size=1),
        "logprobs": st.booleans(),
        "max_tokens": _whole,
        "seed": _whole,
        "n": _whole,
        "reasoning": _shape({}, {"effort": st.sampled_from(["low", "high"])}),
        "response_format": st.one_of(
            _shape({"type": st.just("json_object")}, {}),
            _shape(
                {
                    "type": st.just("json_schema"),
                    "json_schema": _shape(
                        {"name": _names}, {"schema": _object, "strict": st.booleans()}
                    ),
                },
                {},
            ),
        ),
        "stop": _text | st.lists(_text, max_size=2),
        "tools": st.lists(_tool, max_size=2),
        "tool_choice": st.sampled_from(["none", "auto", "required"])
        | _named
        | _shape({"allowed_tools": _allowed}, {"type": st.just("allowed_tools")}),
        "stream": st.booleans(),
        "stream_options": _shape({}, {"include_usage": st.booleans()}),
        "tags": st.lists(_text, max_size=2),
        "metadata": _object,
        "store": st.booleans(),
        "trace": _shape({"id": _names}, {"name": _text, "metadata": _object}, open=False),
    },
)


def parsed(body: bytes) -> Any:
    """Return what an edge sends; None if it refuses the request."""
    try:
        return parse_request(body)
    except EdgeError:
        return None


def outcome(convert: Any, *args: Any, **options: Any) -> Any:
    """Return the core's form of a request with the order of its keys, or which field it refuses."""
    try:
        request: ChatRequest = convert(*args, **options)
    except GatewayError as error:
        return error.reason, error.param
    return msgspec.json.encode(request), msgspec.structs.asdict(request).keys()


@given(request=_request, is_spaced=st.booleans())
def test_json_and_the_typed_contract_make_the_same_request(
    request: dict[str, Any], is_spaced: bool
) -> None:
    """Whatever an edge lets pass, the core reads from its JSON what it reads from the typed message."""
    separators = (" , ", " : ") if is_spaced else (",", ":")
    start = parsed(json.dumps(request, separators=separators, ensure_ascii=is_spaced).encode())
    if start is None:
        return
    flags = {
        "has_unknown_keys": start.has_unknown_keys,
        "has_unknown_inner_keys": start.has_unknown_inner_keys,
    }

    assert outcome(request_from_json, start.body, **flags) == outcome(
        request_from_proto, params_of(start)
    )


@given(request=_request)
def test_a_request_is_read_the_same_by_either_decoder(request: dict[str, Any]) -> None:
    """A key that nobody knows, which the quick decoder refuses, changes nothing of the rest."""
    plain = parsed(json.dumps(request).encode())
    other = parsed(json.dumps({**request, "unknown key": 1}).encode())

    assert (plain is None) == (other is None)
    if plain is not None:
        assert other.body.replace(b',"unknown key":1', b"") == plain.body
        assert other.has_unknown_keys
        assert other.has_unknown_inner_keys == plain.has_unknown_inner_keys


@given(request=_request)
def test_what_an_edge_sends_is_sent_the_same_again(request: dict[str, Any]) -> None:
    """The form is one that the edge itself would not change."""
    start = parsed(json.dumps(request).encode())
    if start is None:
        return
    again = parse_request(bytes(start.body))

    assert again.body == start.body
    assert again.has_unknown_keys == start.has_unknown_keys
    assert again.has_unknown_inner_keys == start.has_unknown_inner_keys


BODY = b'{"messages":[{"role":"user","content":"x"}],"model":"m"%s}'
WRONG: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"5", None),
    (b"{", None),
    (b"[" * 100_000, None),
    (b'{"model":"m"}', None),
    (b'{"messages":[]}', "messages"),
    (b'{"messages":[{"role":"user"}]}', "messages[0]"),
    (b'{"messages":[{"role":"x","content":"x"}]}', "messages[0].role"),
    (b'{"messages":[{"role":"user","content":5}]}', "messages[0].content"),
    (b'{"messages":[{"role":"user","content":[{}]}]}', "messages[0].content[0]"),
    (b'{"messages":[{"role":"user","content":[{"type":"x"}]}]}', "messages[0].content[0].type"),
    (b'{"messages":[{"role":"user","content":"\xff"}]}', None),
    (BODY % b',"temperature":"hot"', "temperature"),
    (BODY % b',"temperature":1e999', "temperature"),
    (BODY % b',"max_tokens":9223372036854775808', "max_tokens"),
    (BODY % b',"metadata":5', "metadata"),
    (BODY % b',"trace":{"id":"t","metadata":[]}', "trace.metadata"),
    (BODY % b',"trace":{"id":""}', "trace.id"),
    (BODY % b',"stream_options":[]', None),
    (BODY % b',"tool_choice":"any"', "tool_choice"),
    (BODY % b',"tool_choice":{"type":"function"}', "tool_choice.function.name"),
    (BODY % b',"tool_choice":{"type":"allowed_tools"}', "tool_choice.allowed_tools"),
    (BODY % b',"tools":[{"type":"function","function":{"name":""}}]', "tools[0].function.name"),
    (BODY % b',"response_format":{"type":"json_schema"}', "response_format.json_schema"),
    (BODY % b',"reasoning":{"effort":["high"]}', "reasoning.effort"),
    (BODY % b',"tags":[%s"x"]' % (b'"x",' * 256), "tags"),
]


@pytest.mark.parametrize("has_unknown_keys", [False, True])
@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_no_edge_sends_is_refused(
    body: bytes, param: str | None, has_unknown_keys: bool
) -> None:
    """The core takes nobody's word for the form of a request: each fault is a refusal that names its field."""
    with pytest.raises(GatewayError) as caught:
        request_from_json(
            body, has_unknown_keys=has_unknown_keys, has_unknown_inner_keys=has_unknown_keys
        )

    assert caught.value.code in {"invalid_value", "missing_required_parameter"}
    assert caught.value.param == param
