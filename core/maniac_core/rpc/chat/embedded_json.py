"""JSON inside a request that is kept as it came, or decoded for what a dialect reads."""

from __future__ import annotations

import re

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import GatewayError, Reason

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any_object = msgspec.json.Decoder(JsonObject).decode
_PATH = re.compile(r" - at `(?:key in `)?\$([^`]*)`$")
_LONGEST_PARAM = 200


def raw_object(data: bytes, param: str) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, unread.

    Raises:
        GatewayError: INVALID_VALUE naming `param`: it is something else.
    """
    try:
        return _raw_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{param} must be a JSON object.", param=param
        ) from err
    except RecursionError:
        raise too_deep(param) from None


def decoded_object(data: bytes, param: str) -> JsonObject:
    """Return an object with all that is in it, for what a dialect reads.

    Raises:
        GatewayError: INVALID_VALUE with the path of a number that is out of range.
    """
    raw_object(data, param)
    try:
        return _any_object(data)
    except RecursionError:
        raise too_deep(param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        path = _PATH.search(str(err))
        raise out_of_range(param + path[1] if path is not None else param) from err


def out_of_range(param: str) -> GatewayError:
    """Return the error for a value that no program could hold."""
    return _unreadable(param, "is a number out of range, or text that is not UTF-8")


def too_deep(param: str) -> GatewayError:
    """Return the error for JSON that is nested too deeply."""
    return _unreadable(param, "is nested too deeply")


def _unreadable(param: str, problem: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_INVALID_VALUE, f"{param} {problem}.", param=param[:_LONGEST_PARAM]
    )
