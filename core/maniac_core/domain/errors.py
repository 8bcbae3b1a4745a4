"""GatewayError: the one exception that domain code raises for a failure reported to the caller."""

from __future__ import annotations

import functools
import traceback
from typing import Any

import msgspec
from maniac_gateway.v1 import errors_pb2

Reason = errors_pb2.ErrorReason


class Violation(msgspec.Struct, frozen=True):
    """One invalid field of a management request.

    `loc` is the path of the field, for example ("body", "messages", 0, "role").
    """

    loc: tuple[str | int, ...]
    message: str
    type: str


class GatewayError(Exception):
    """A failure with a reason of the error table.

    `message` is one sentence for a person and holds no secret and no prompt. `param` names the request field it is
    about. `details` is JSON-shaped. `retry_after_s` is whole seconds.
    """

    def __init__(
        self,
        reason: errors_pb2.ErrorReason.ValueType,
        message: str,
        *,
        param: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.param = param
        self.details = details
        self.retry_after_s = retry_after_s
        self.violations = violations

    @property
    def mapping(self) -> errors_pb2.ErrorMapping:
        """The reason's row of the error table."""
        return mapping_of(self.reason)

    @property
    def code(self) -> str:
        """The `error.code` of the public envelope."""
        return self.mapping.code


class DependencyError(GatewayError):
    """A part that the gateway needs cannot be reached or does not work.

    Callers get `message`. The error's own text says what happened, for the operator.
    """

    def __init__(self, happened: str, message: str) -> None:
        super().__init__(Reason.ERROR_REASON_DEPENDENCY_UNAVAILABLE, message, retry_after_s=1)
        self._happened = happened

    def __str__(self) -> str:
        """Return what happened."""
        return self._happened


def mapping_of(reason: errors_pb2.ErrorReason.ValueType) -> errors_pb2.ErrorMapping:
    """Return the row of the error table for a reason."""
    value = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number[reason]
    return value.GetOptions().Extensions[errors_pb2.error_mapping]


@functools.cache
def _codes() -> frozenset[str]:
    reasons = errors_pb2.ErrorReason.DESCRIPTOR.values
    return frozenset(
        one.GetOptions().Extensions[errors_pb2.error_mapping].code for one in reasons
    ) - {""}


def is_code(code: str) -> bool:
    """Whether the table of errors has a row with that public code."""
    return code in _codes()


def code_of(reason: str) -> str:
    """Return the public code of a reason, given by its name without prefix; empty for a name that is not known."""
    value = errors_pb2.ErrorReason.DESCRIPTOR.values_by_name.get(f"ERROR_REASON_{reason}")
    if value is None:
        return ""
    return value.GetOptions().Extensions[errors_pb2.error_mapping].code


def let_go(error: BaseException | None) -> None:
    """Drop the traceback so that its frames' locals can be freed: the request, a body that was too large.

    Errors that were kept in a variable are in a cycle with its frame, and the collector comes seldom.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
