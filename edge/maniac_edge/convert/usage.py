"""Usage reports: between JSON and the contract's messages."""

from __future__ import annotations

from typing import Any

from maniac_gateway.v1 import usage_pb2
from msgspec import UNSET, UnsetType

from maniac_edge.convert.completions import usage_to_json
from maniac_edge.schemas import usage as schema


def request_from_json(query: schema.UsageQuery) -> usage_pb2.GetUsageRequest:
    """Return the message for a report."""
    names = [name for name in query.group_by.split(",") if name]
    return usage_pb2.GetUsageRequest(
        first_day=query.from_ or "",
        last_day=query.to or "",
        group_by=[
            usage_pb2.UsageDimension.Value(f"USAGE_DIMENSION_{name.upper()}") for name in names
        ],
        filter=usage_pb2.UsageFilter(
            model=query.model or "",
            container=query.container or "",
            key_id=query.key or "",
            tag=query.tag or "",
        ),
        page_size=query.limit,
        skip=query.offset,
    )


def report_to_json(report: usage_pb2.GetUsageResponse) -> schema.UsageReport:
    """Return a page of a report."""
    return schema.UsageReport(
        data=[_group(group) for group in report.groups],
        total=report.total_size,
        totals=schema.UsageTotals(**_totals(report.totals)),
        refused=[
            schema.UsageRefusals(code=one.code, request_count=one.request_count)
            for one in report.refused
        ],
    )


def _group(group: usage_pb2.UsageGroup) -> schema.UsageGroup:
    return schema.UsageGroup(
        day=group.day if group.HasField("day") else UNSET,
        model=_name(group, "model"),
        container=_name(group, "container"),
        key=_name(group, "key_id"),
        tag=_name(group, "tag"),
        **_totals(group.totals),
    )


def _totals(totals: usage_pb2.UsageTotals) -> dict[str, Any]:
    return {
        "request_count": totals.request_count,
        "success_count": totals.success_count,
        "error_count": totals.error_count,
        "unknown_count": totals.unknown_count,
        "usage": usage_to_json(totals.usage),
        "spend": totals.spend_nano_usd / 1e9,
        "unpriced_request_count": totals.unpriced_request_count,
    }


def _name(group: usage_pb2.UsageGroup, field: Any) -> str | UnsetType | None:
    return (getattr(group, field) or None) if group.HasField(field) else UNSET
