"""Usage reports."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import Offset
from maniac_edge.schemas.completions import Usage

_PATTERN = "^((day|model|container|key|tag)(,|$))*$"


class UsageQuery(msgspec.Struct):
    """Which requests, and what they are grouped by."""

    from_: Annotated[
        str | None,
        Meta(description="First day, `YYYY-MM-DD` in UTC; 30 days up to `to` by default."),
    ] = msgspec.field(default=None, name="from")
    to: Annotated[
        str | None, Meta(description="Last day, `YYYY-MM-DD` in UTC; today by default.")
    ] = None
    group_by: Annotated[
        str,
        Meta(
            description="One or several of day, model, container, key and tag, with commas between. A request with"
            " several tags is in several groups.",
            pattern=_PATTERN,
        ),
    ] = "day"
    model: Annotated[str | None, Meta(description="Slug.")] = None
    container: Annotated[str | None, Meta(description="Label, id or `maniac:label`.")] = None
    key: Annotated[str | None, Meta(description="Id of an API key.")] = None
    tag: Annotated[
        str | None, Meta(description="A tag that the requests carried; then the only group by tag.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Offset = 0


class UsageTotals(msgspec.Struct, kw_only=True):
    """Sums over requests."""

    request_count: int
    success_count: Annotated[int, Meta(description="Answered whole, or registered.")]
    error_count: Annotated[
        int, Meta(description="Failed, refused or broken off; not those that callers cancelled.")
    ]
    unknown_count: Annotated[
        int,
        Meta(
            description="Of unknown outcome: the gateway was killed, or is held up, while a provider was called. The"
            " most that they can have cost is in `spend`."
        ),
    ]
    usage: Usage
    spend: Annotated[float, Meta(description="USD, over the requests whose price is known.")]
    unpriced_request_count: Annotated[
        int, Meta(description="Requests that used tokens of an unknown price; not in `spend`.")
    ]


class UsageGroup(UsageTotals, kw_only=True):
    """One group of requests; it has the keys that it was grouped by."""

    object: Literal["usage"] = "usage"
    day: Annotated[str | UnsetType, Meta(description="`YYYY-MM-DD` in UTC.")] = UNSET
    model: Annotated[
        str | UnsetType | None, Meta(description="Slug; null: no model was reached.")
    ] = UNSET
    container: Annotated[str | UnsetType | None, Meta(description="Label; null: none.")] = UNSET
    key: Annotated[str | UnsetType | None, Meta(description="Id; null: an internal service.")] = (
        UNSET
    )
    tag: Annotated[str | UnsetType | None, Meta(description="Null: without tags.")] = UNSET


class UsageRefusals(msgspec.Struct, kw_only=True):
    """Requests that were refused for one reason."""

    code: Annotated[str, Meta(description="The `error.code` of the answers.")]
    request_count: int


class UsageReport(msgspec.Struct, kw_only=True):
    """The newest day first, then by the other groups in their order."""

    object: Literal["list"] = "list"
    data: list[UsageGroup]
    total: Annotated[int, Meta(description="How many groups there are in all.")]
    totals: Annotated[UsageTotals, Meta(description="Over all groups, each request once.")]
    refused: Annotated[
        list[UsageRefusals],
        Meta(
            description="Requests with a valid key that were refused before anything was recorded of them, such as above"
            " a rate limit; they are in no group and not in `totals`. Empty with a model, a container or a tag."
        ),
    ]
