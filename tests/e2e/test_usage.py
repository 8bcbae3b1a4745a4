"""Usage reports over HTTP, gRPC and the command line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import Gateway
from maniac_gateway.v1 import usage_pb2, usage_pb2_grpc
from upstream import Exchange, Upstream

USER = {"role": "user", "content": "Hi"}


class Reporter:
    """A project of its own, with a key and its id."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.project = f"p-{uuid.uuid4().hex[:8]}"
        made = run_command(gateway, "keys", "create", "--create-project", "--project", self.project)
        self.secret = made.strip()
        listed = run_command(gateway, "keys", "list", "--project", self.project)
        self.key_id = listed.splitlines()[1].split()[0]
        self.http = httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {self.secret}"}, timeout=60
        )

    def ask(self, model: str = "mock/m1", **more: Any) -> int:
        """Send a chat request."""
        body = {"model": model, "messages": [USER], **more}
        return self.http.post("/v1/chat/completions", json=body).status_code

    def usage(self, **query: Any) -> Any:
        """Return a report."""
        response = self.http.get("/v1/usage", params=query)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def reporter(gateway: Gateway, upstream: Upstream) -> Iterator[Reporter]:
    """Return a project with six requests in it: five that were answered, one that failed."""
    reporter = Reporter(gateway)
    reporter.http.post(
        "/v1/containers", json={"label": "box", "initial_model": "mock/m2"}
    ).raise_for_status()

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(400, b'{"error": {"message": "no"}}')

    assert reporter.ask(tags=["a", "b", "a"]) == 200
    assert reporter.ask(tags=["a"], stream=True) == 200
    assert reporter.ask("maniac:box") == 200
    assert reporter.ask("maniac:box", store=False, tags=["secret"]) == 200
    assert reporter.ask("mock:m2") == 200
    upstream.handler = refuse
    assert reporter.ask(tags=["b"]) == 400
    yield reporter
    reporter.http.close()


def test_a_report_by_day_is_the_default(reporter: Reporter) -> None:
    """One group for today, with requests, tokens and spend; an unknown price is counted, not taken for nothing."""
    report = reporter.usage()
    expected = {
        "request_count": 6,
        "success_count": 5,
        "error_count": 1,
        "unknown_count": 0,
        "spend": 0.0,
        "unpriced_request_count": 5,
    }
    today = datetime.now(UTC).date().isoformat()

    assert (report["object"], report["total"], len(report["data"])) == ("list", 1, 1)
    assert {key: report["totals"][key] for key in expected} == expected
    assert report["totals"]["usage"]["prompt_tokens"] == 5 * 9
    assert report["totals"]["usage"]["completion_tokens"] == 5 * 3
    assert report["data"][0] == {"object": "usage", "day": today, **report["totals"]}


def _counts(report: Any, *names: str) -> dict[Any, int]:
    return {
        tuple(group[name] for name in names): group["request_count"] for group in report["data"]
    }


def test_reports_by_model_container_key_and_tag(reporter: Reporter) -> None:
    """Requests with several tags are in several groups, those without any in one of their own."""
    usage = reporter.usage
    assert _counts(usage(group_by="model"), "model") == {("mock/m1",): 3, ("mock/m2",): 3}
    assert _counts(usage(group_by="container"), "container") == {(None,): 4, ("box",): 2}
    assert _counts(usage(group_by="key"), "key") == {(reporter.key_id,): 6}
    by_tag = usage(group_by="tag")
    assert _counts(by_tag, "tag") == {(None,): 3, ("a",): 2, ("b",): 2}
    assert by_tag["totals"]["request_count"] == 6
    both = usage(group_by="container,model")
    assert list(_counts(both, "container", "model")) == [
        (None, "mock/m1"),
        (None, "mock/m2"),
        ("box", "mock/m2"),
    ]
    assert _counts(usage(group_by=""), *()) == {(): 6}


def test_filters_and_pages(reporter: Reporter) -> None:
    """Filters take what lists take; what names nothing gives an empty report."""
    usage = reporter.usage

    def count(**query: Any) -> int:
        total: int = usage(**query)["totals"]["request_count"]
        return total

    assert count(model="mock:m2") == 3
    assert count(container="maniac:box") == 2
    assert count(key=reporter.key_id, tag="a") == 2
    assert count(to="2020-01-01") == 0
    assert count(**{"from": "2020-01-01", "to": datetime.now(UTC).date().isoformat()}) == 6
    for nothing in ({"container": "no"}, {"key": str(uuid.uuid4())}, {"model": "no"}):
        assert count(**nothing) == 0
    page = usage(group_by="tag", limit=1, offset=1)
    assert (page["total"], _counts(page, "tag")) == (3, {("a",): 2})


def test_other_projects_see_nothing_of_it(reporter: Reporter) -> None:
    """A report covers the key's project, and a key of another project names nothing."""
    other = Reporter(reporter.gateway)
    assert other.usage()["totals"]["request_count"] == 0
    assert other.usage(key=reporter.key_id)["totals"]["request_count"] == 0
    other.http.close()


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "20260101"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"offset": "-1"}, "offset"),
    ],
)
def test_a_query_that_makes_no_sense_is_422(
    gateway: Gateway, query: dict[str, str], param: str
) -> None:
    """Each names its parameter."""
    with gateway.client() as http:
        response = http.get("/v1/usage", params=query)
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)
    assert response.json()["detail"][0]["loc"] == ["query", param]


def test_the_same_over_grpc_and_on_the_command_line(reporter: Reporter) -> None:
    """An internal service pages through a report; the operator reads it as a table or as JSON."""
    request = usage_pb2.GetUsageRequest(
        group_by=[usage_pb2.USAGE_DIMENSION_TAG, usage_pb2.USAGE_DIMENSION_DAY], page_size=2
    )
    groups = []
    with grpc.insecure_channel(reporter.gateway.grpc_target) as channel:
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        metadata = (("authorization", f"Bearer {reporter.secret}"),)
        while True:
            page = stub.GetUsage(request, metadata=metadata)
            assert (page.total_size, page.totals.request_count) == (3, 6)
            groups += page.groups
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        for wrong in (
            usage_pb2.GetUsageRequest(page_token="x"),
            usage_pb2.GetUsageRequest(group_by=[usage_pb2.USAGE_DIMENSION_UNSPECIFIED]),
            usage_pb2.GetUsageRequest(page_size=-1),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetUsage(wrong, metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [(group.tag, group.totals.request_count) for group in groups] == [
        ("", 3),
        ("a", 2),
        ("b", 2),
    ]

    def run(*options: str) -> str:
        return run_command(reporter.gateway, "usage", "--project", reporter.project, *options)

    table = run("--by", "tag,model").splitlines()
    assert table[0].split()[:3] == ["TAG", "MODEL", "REQUESTS"]
    assert [line.split()[:3] for line in table[1:]] == [
        ["-", "mock/m2", "3"],
        ["a", "mock/m1", "2"],
        ["b", "mock/m1", "2"],
        ["total", "6", "1"],
    ]
    document = json.loads(run("--json", "--tag", "a", "--key", reporter.key_id))
    assert document["totals"]["requests"] == 2
