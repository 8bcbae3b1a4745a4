"""Decoding of requests: typed structs from bodies and queries, and exact errors for mismatches.

Chat requests answer 400 with one error (`decode_request`); management requests answer 422 and name each invalid field
(`decode_body`, `read_query`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from maniac_edge.errors import EdgeError, param_of
from maniac_edge.schemas.common import FieldError

_T = TypeVar("_T")

_PATH = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"(required|unknown) field `([^`]*)`")
_RANGE = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)")
_EXPECTED = re.compile(r"Expected `(.*)`, got `(\w+)`")
_RANGE_TYPES = {
    ">=": "greater_than_equal",
    "<=": "less_than_equal",
    ">": "greater_than",
    "<": "less_than",
}
_JSON_NAMES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_TYPE_NAMES = {"object": "dict_type", "array": "list_type", "str": "string_type"}

_as_anything = msgspec.json.Decoder(msgspec.Raw).decode
as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_json(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the top level of a JSON object, its values unread but well-formed.

    Where a key is repeated the last one counts, here and in every decoder that reads the same body.

    Raises:
        EdgeError: INVALID_JSON if it is not JSON or not UTF-8, INVALID_VALUE if it is not an object.
    """
    try:
        # Strings that no decoder looks into are passed on verbatim, so UTF-8 is checked over the whole.
        if not body.isascii():
            body.decode()
        return _top_level(body)
    except msgspec.ValidationError:
        raise EdgeError("INVALID_VALUE", "The request body must be a JSON object.") from None
    except UnicodeDecodeError as err:
        raise EdgeError(
            "INVALID_JSON", f"The request body is not UTF-8: invalid byte at {err.start}."
        ) from None
    except msgspec.DecodeError as err:
        raise EdgeError("INVALID_JSON", _malformed(body, str(err))) from None
    except RecursionError:
        raise EdgeError("INVALID_JSON", "The request body is nested too deeply.") from None


def decode_request(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Decode a body that `check_json` has passed, for endpoints whose validation answers 400.

    Raises:
        EdgeError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as err:
        problem = explain(err)
        param = param_of(problem.loc)
        raise EdgeError(
            "MISSING_REQUIRED_PARAMETER" if problem.type == "missing" else "INVALID_VALUE",
            f"{param}: {problem.msg}" if param else problem.msg,
            param=param,
        ) from None
    except RecursionError:
        raise EdgeError("INVALID_JSON", "The request body is nested too deeply.") from None


def read_object(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the top level of a management request's body, as `check_json` does.

    Raises:
        EdgeError: INVALID_JSON, or VALIDATION_ERROR if it is not an object.
    """
    try:
        return check_json(body)
    except EdgeError as err:
        if err.code != "invalid_value":
            raise
        raise validation_error(
            [FieldError(loc=["body"], msg="Must be an object.", type="dict_type")]
        ) from None


def decode_body(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Decode the body of a management request.

    Raises:
        EdgeError: INVALID_JSON, or VALIDATION_ERROR naming the field.
    """
    read_object(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as err:
        problem = explain(err)
        raise validation_error(
            [FieldError(loc=["body", *problem.loc], msg=problem.msg, type=problem.type)]
        ) from None
    except RecursionError:
        raise EdgeError("INVALID_JSON", "The request body is nested too deeply.") from None


def read_query(query: bytes, shape: type[_T]) -> _T:
    """Read a query string into a struct; keys it does not have are ignored, the last of repeated ones counts.

    Raises:
        EdgeError: VALIDATION_ERROR naming every invalid parameter.
    """
    given = dict(query_pairs(query))
    values: dict[str, Any] = {}
    problems: list[FieldError] = []
    for field in msgspec.structs.fields(shape):  # type: ignore[arg-type]
        name = field.encode_name
        if name in given:
            try:
                values[field.name] = msgspec.convert(given[name], field.type, strict=False)
            except msgspec.ValidationError as err:
                problem = explain(err)
                problems.append(FieldError(loc=["query", name], msg=problem.msg, type=problem.type))
        elif field.required:
            problems.append(FieldError(loc=["query", name], msg="Field required.", type="missing"))
    if problems:
        raise validation_error(problems)
    return shape(**values)


@contextlib.contextmanager
def invalid_value() -> Generator[None, None, None]:
    """Turn the 422 of an invalid query into a 400, for endpoints of OpenAI's surface."""
    try:
        yield
    except EdgeError as err:
        raise EdgeError("INVALID_VALUE", err.message, param=err.param) from None


def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """Return the decoded parameters of a query string, in order."""
    if not query:
        return []
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def validation_error(problems: list[FieldError]) -> EdgeError:
    """Return the 422 for a management request with these invalid fields."""
    first = problems[0]
    param = param_of(first.loc[1:])
    message = f"{param}: {first.msg}" if param else first.msg
    return EdgeError("VALIDATION_ERROR", message, param=param, violations=tuple(problems))


def json_object(value: msgspec.Raw | msgspec.UnsetType | None, param: str) -> bytes:
    """Return a JSON object's text; empty for null or absent.

    Raises:
        EdgeError: INVALID_VALUE, if it is something else.
    """
    return _json_of(value, param, b"{", "an object")


def json_array(value: msgspec.Raw | msgspec.UnsetType | None, param: str) -> bytes:
    """Return a JSON array's text; empty for null or absent.

    Raises:
        EdgeError: INVALID_VALUE, if it is something else.
    """
    return _json_of(value, param, b"[", "an array")


def body_object(
    value: msgspec.Raw | msgspec.UnsetType | None, field: str, decoder: msgspec.json.Decoder[Any]
) -> bytes:
    """Return the text of a management request's JSON object after checking it; empty for null or absent.

    Raises:
        EdgeError: VALIDATION_ERROR naming the field inside it.
    """
    if not value or bytes(value) == b"null":
        return b""
    try:
        decoder.decode(value)
    except msgspec.ValidationError as err:
        problem = explain(err)
        loc: list[str | int] = ["body", field, *problem.loc]
        raise validation_error([FieldError(loc=loc, msg=problem.msg, type=problem.type)]) from None
    return bytes(value)


def explain(error: msgspec.ValidationError) -> FieldError:
    """Return what msgspec found, as a path from the root, a sentence and a kind."""
    text = str(error)
    loc: list[str | int] = []
    is_element = False
    if match := _PATH.search(text):
        text = text[: match.start()]
        is_element = match.group(1).endswith("]")
        loc = [int(index) if index else key for key, index in _STEP.findall(match.group(1))]
    if match := _FIELD.search(text):
        missing = match.group(1) == "required"
        message = "Field required." if missing else "Extra inputs are not permitted."
        return FieldError(
            loc=[*loc, match.group(2)],
            msg=message,
            type="missing" if missing else "extra_forbidden",
        )
    if match := _RANGE.match(text):
        sign, limit = match.groups()
        return FieldError(loc=loc, msg=f"Must be {sign} {limit}.", type=_RANGE_TYPES[sign])
    if match := _EXPECTED.match(text):
        expected, got = match.groups()
        if got == "null" and loc and not is_element:
            # Null is "not given", and every field that need not be given takes it.
            return FieldError(loc=loc, msg="Field required.", type="missing")
        names = [_JSON_NAMES.get(name, name) for name in expected.split(" | ")]
        return FieldError(
            loc=loc,
            msg=f"Must be {' or '.join(names)}, not {_JSON_NAMES.get(got, got)}.",
            type=_TYPE_NAMES.get(expected, f"{expected}_type" if expected.isalpha() else "type"),
        )
    if text.startswith("Invalid enum value"):
        return FieldError(loc=loc, msg=f"{text}.", type="enum")
    return FieldError(loc=loc, msg=f"{text}.", type="value_error")


def _top_level(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return as_object(body)
    except msgspec.ValidationError:
        # A decoder that expects an object does not read on in something else, which may be malformed further on.
        _as_anything(body)
        raise


def _json_of(
    value: msgspec.Raw | msgspec.UnsetType | None, param: str, opening: bytes, kind: str
) -> bytes:
    if not value:  # Unset, or the empty Raw.
        return b""
    text = bytes(value)
    if text == b"null":
        return b""
    if text[:1] != opening:
        raise EdgeError("INVALID_VALUE", f"{param} must be {kind}.", param=param)
    return text


def _malformed(body: bytes, reason: str) -> str:
    if not body.strip():
        return "The request body is empty; a JSON object is expected."
    if reason == "Input data was truncated":
        # Also what msgspec says of half a surrogate pair.
        reason = "it ends too early, or a string holds half of a surrogate pair"
    return f"The request body is not valid JSON: {reason.removeprefix('JSON is malformed: ')}."
