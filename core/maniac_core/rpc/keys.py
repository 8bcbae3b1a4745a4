"""KeyService: management of API keys, by internal services and keys of scope `admin`."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import keys_pb2

from maniac_core.domain.audit import actor
from maniac_core.domain.budgets import Limit, Period
from maniac_core.domain.callers import ApiKey
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.scopes import DEFAULT_SCOPES
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.services.access.keys import KeyService
from maniac_core.services.capture.capture import Call

_PERIODS: dict[int, Period] = {
    keys_pb2.BUDGET_PERIOD_DAY: "day",
    keys_pb2.BUDGET_PERIOD_MONTH: "month",
    keys_pb2.BUDGET_PERIOD_TOTAL: "total",
}


class KeyServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, keys: KeyService) -> None:
        self._gate = gate
        self._keys = keys

    @unary
    async def CreateKey(
        self, request: keys_pb2.CreateKeyRequest, call: Call
    ) -> keys_pb2.CreateKeyResponse:
        """Make a key."""
        key, secret = await self._keys.create(
            request.name,
            project=request.project or "default",
            organization=request.organization or "default",
            expires=request.expire_time.seconds if request.HasField("expire_time") else None,
            rate_limit=request.rate_limit if request.HasField("rate_limit") else None,
            token_limit=request.token_limit if request.HasField("token_limit") else None,
            budget=_budget(request.budget) if request.HasField("budget") else None,
            scopes=request.scopes or DEFAULT_SCOPES,
            by=actor(call.caller),
        )
        return keys_pb2.CreateKeyResponse(key=_to_proto(key), secret=secret)

    @unary
    async def ListKeys(
        self, request: keys_pb2.ListKeysRequest, _call: Call
    ) -> keys_pb2.ListKeysResponse:
        """List keys."""
        keys = await self._keys.list(request.project or None)
        return keys_pb2.ListKeysResponse(keys=[_to_proto(key) for key in keys])

    @unary
    async def RevokeKey(
        self, request: keys_pb2.RevokeKeyRequest, call: Call
    ) -> keys_pb2.RevokeKeyResponse:
        """Revoke a key."""
        key = await self._keys.revoke(request.id, actor(call.caller))
        return keys_pb2.RevokeKeyResponse(key=_to_proto(key))


def _budget(budget: keys_pb2.Budget) -> Limit:
    if budget.period not in _PERIODS:
        raise GatewayError(
            Reason.ERROR_REASON_VALIDATION_ERROR,
            "budget.period must be given.",
            param="budget.period",
        )
    return Limit(nano_usd=budget.limit_nano_usd, period=_PERIODS[budget.period])


def _to_proto(key: ApiKey) -> keys_pb2.ApiKey:
    return keys_pb2.ApiKey(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        project_id=key.project_id,
        organization_id=key.organization_id,
        create_time=Timestamp(seconds=key.created),
        expire_time=None if key.expires is None else Timestamp(seconds=key.expires),
        revoke_time=None if key.revoked is None else Timestamp(seconds=key.revoked),
        disabled=key.disabled,
        rate_limit=key.rate_limit,
        token_limit=key.token_limit,
        scopes=sorted(key.scopes),
    )
