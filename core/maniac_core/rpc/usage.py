"""UsageService: reports over plain RPCs."""

from __future__ import annotations

from maniac_gateway.v1 import usage_pb2

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.usage import Dimension, UsageGroup, UsageTotals
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.methods import unary
from maniac_core.rpc.chat.answer import usage_to_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.usage import MAX_GROUPS, UsageFilter, UsageService

_MAX_SKIP = 2**63 - 1
_DIMENSIONS: dict[int, Dimension] = {
    usage_pb2.USAGE_DIMENSION_DAY: "day",
    usage_pb2.USAGE_DIMENSION_MODEL: "model",
    usage_pb2.USAGE_DIMENSION_CONTAINER: "container",
    usage_pb2.USAGE_DIMENSION_KEY: "key",
    usage_pb2.USAGE_DIMENSION_TAG: "tag",
}


class UsageServicer:
    """Converts, calls the service, converts back."""

    def __init__(self, gate: Gate, usage: UsageService) -> None:
        self._gate = gate
        self._usage = usage

    @unary
    async def GetUsage(
        self, request: usage_pb2.GetUsageRequest, call: Call
    ) -> usage_pb2.GetUsageResponse:
        """Add up what was used."""
        skip = _skip(request)
        wanted = request.filter
        report = await self._usage.report(
            call.caller,
            first_day=request.first_day,
            last_day=request.last_day,
            by=[_dimension(value) for value in request.group_by],
            wanted=UsageFilter(
                model=wanted.model,
                container=wanted.container,
                key=wanted.key_id,
                tag=wanted.tag,
            ),
            limit=min(request.page_size or MAX_GROUPS, MAX_GROUPS),
            skip=skip,
        )
        end = skip + len(report.groups)
        return usage_pb2.GetUsageResponse(
            groups=[_group_to_proto(group) for group in report.groups],
            next_page_token=str(end) if report.groups and end < report.total_groups else "",
            total_size=report.total_groups,
            totals=_totals_to_proto(report.totals),
            refused=[
                usage_pb2.UsageRefusals(code=code, request_count=count)
                for code, count in sorted(report.refused.items())
            ],
        )


def _skip(request: usage_pb2.GetUsageRequest) -> int:
    if request.page_size < 0:
        raise _invalid("page_size", "must be 0 or more")
    if request.skip < 0:
        raise _invalid("skip", "must be 0 or more")
    token = request.page_token
    if token and not (token.isascii() and token.isdigit() and len(token) < 10):
        raise _invalid("page_token", "is invalid")
    return min(request.skip + int(token or "0"), _MAX_SKIP)


def _dimension(value: int) -> Dimension:
    if value not in _DIMENSIONS:
        raise _invalid("group_by", "must be day, model, container, key or tag")
    return _DIMENSIONS[value]


def _group_to_proto(group: UsageGroup) -> usage_pb2.UsageGroup:
    return usage_pb2.UsageGroup(
        day=None if group.day is None else group.day.isoformat(),
        model=group.model,
        container=group.container,
        key_id=group.key,
        tag=group.tag,
        totals=_totals_to_proto(group.totals),
    )


def _totals_to_proto(totals: UsageTotals) -> usage_pb2.UsageTotals:
    return usage_pb2.UsageTotals(
        request_count=totals.requests,
        success_count=totals.successes,
        error_count=totals.errors,
        unknown_count=totals.unknown,
        usage=usage_to_proto(totals.usage),
        spend_nano_usd=totals.spend_nano_usd,
        unpriced_request_count=totals.unpriced,
    )


def _invalid(name: str, problem: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{name} {problem}.",
        param=name,
        violations=(Violation(("query", name), problem, "value_error"),),
    )
