"""Which scope a method needs. The rule is by name, so that a new method cannot be forgotten."""

from __future__ import annotations

from functools import cache

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.scopes import Scope

_PACKAGE = "/maniac_gateway.v1."
_READING = ("Get", "List", "Explain", "Export", "Download")
_INFERENCE = ("Stream", "Replay")
_ADMINISTRATION = frozenset({"KeyService"})
_OPEN = frozenset({"AccessService"})
_ANSWERING = frozenset({"CreateChatCompletion", "CreateEmbeddings", "Call", "CountTokens"})


@cache
def required_scope(method: str) -> Scope | None:
    """Return the scope that a method needs, given as `/PACKAGE.SERVICE/METHOD`; None: any good key will do.

    Methods outside the contract (health, reflection) need none.
    """
    if not method.startswith(_PACKAGE):
        return None
    service, _, name = method.removeprefix(_PACKAGE).partition("/")
    if service in _OPEN:
        return None
    if service in _ADMINISTRATION:
        return "admin"
    if name in _ANSWERING or name.startswith(_INFERENCE):
        return "inference"
    return "read" if name.startswith(_READING) else "write"


def insufficient_scope(scope: Scope) -> GatewayError:
    """Return the error of a key that lacks a scope."""
    return GatewayError(
        Reason.ERROR_REASON_INSUFFICIENT_SCOPE,
        f"This API key lacks the scope {scope!r}. Use a key that has it: "
        f"`maniac-gateway keys create --scope {scope}` makes one.",
        details={"scope": scope},
    )
