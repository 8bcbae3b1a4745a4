"""Registering examples over HTTP and with the official client."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest
from gateway import CONFIG, KEY, Gateway
from pages import run_example
from registering import INPUT, PATH, output, register
from upstream import Upstream

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def label(http: httpx.Client) -> str:
    """A container of the test's own."""
    name = f"box-{uuid.uuid4().hex[:8]}"
    made = http.post("/v1/containers", json={"label": name, "initial_model": "mock/m1"})
    assert made.status_code == 200, made.text
    return name


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_examples_are_kept_as_they_were_given(http: httpx.Client, base: str, label: str) -> None:
    """What input and output say comes back on the record, and the summary has its counts and usage."""
    identity = f"log-{uuid.uuid4().hex}"
    answer = output(
        "Hello!", id=identity, created=1_600_000_000, model="mock:m1", usage=USAGE, spend=0.25
    )
    answer["choices"][0]["finish_reason"] = "function_call"
    given = {**INPUT, "model": f"maniac:{label}", "temperature": 0.5, "trace": {"id": "t?/1"}}
    item = {"input": given, "output": answer, "tags": ["a"], "metadata": {"n": 1, "x": [2.5]}}
    response = http.post(
        f"{base}/chat/completions/register",
        json={"container": f"maniac:{label}", "items": [item]},
    )
    stored = http.get(f"{base}/chat/completions/{identity}").json()

    assert response.json() == {
        "ok": True,
        "container": label,
        "summary": {"received": 1, "inserted": 1, "skipped": 0, "failed": 0, "usage": USAGE},
        "errors": [],
    }
    assert stored["created"] == 1_600_000_000
    assert (stored["model"], stored["provider"], stored["container"]) == ("mock/m1", "mock", label)
    assert stored["choices"][0]["message"] == {"role": "assistant", "content": "Hello!"}
    assert stored["choices"][0]["finish_reason"] == "tool_calls"
    assert {key: stored["usage"][key] for key in USAGE} == USAGE
    assert (stored["usage_source"], stored["status"]) == ("caller", "registered")
    assert stored["spend"] == 0.25
    assert (stored["tags"], stored["metadata"]) == (["a"], {"n": 1, "x": [2.5]})
    assert stored["trace"]["id"] == "t?/1"


def test_an_example_without_an_answer_has_no_choices(http: httpx.Client, label: str) -> None:
    """It is listed with a new id, without usage, and without a model: nobody has served it."""
    before = int(time.time())
    given = {**INPUT, "model": "mock/m1", "tags": ["own"], "metadata": {"k": "v"}}
    answer = register(http, label, {"input": given}, {"input": given, "output": None})
    listed = http.get("/v1/chat/completions", params={"container": label}).json()

    assert answer["summary"]["inserted"] == 2
    assert listed["total"] == 2
    for record in listed["data"]:
        assert record["choices"] == []
        assert (record["usage"], record["model"], record["spend"]) == (None, None, None)
        assert (record["tags"], record["metadata"]) == (["own"], {"k": "v"})
        assert record["created"] >= before


def test_an_id_that_is_there_is_skipped(http: httpx.Client, label: str) -> None:
    """A repeated call, and a repeated id within one call, change nothing."""
    items = [
        {"input": INPUT, "output": output(str(i), id=f"{label}-{i}", usage=USAGE)} for i in range(3)
    ]
    first = register(http, label, *items, items[0])
    second = register(http, label, *items)
    listed = http.get("/v1/chat/completions", params={"container": label}).json()

    assert [first["summary"][key] for key in ("inserted", "skipped")] == [3, 1]
    assert [second["summary"][key] for key in ("inserted", "skipped", "failed")] == [0, 3, 0]
    assert second["ok"] is True
    assert second["summary"]["usage"]["total_tokens"] == 0
    assert listed["total"] == 3


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json", None)),
        (b'{"container":"LABEL","items":[', (400, "invalid_json", None)),
        (b'[{"input":{}}]', (422, "validation_error", None)),
        (b'{"items":[]}', (422, "validation_error", "container")),
        (b'{"container":"LABEL"}', (422, "validation_error", "items")),
        (b'{"container":"LABEL","items":{}}', (422, "validation_error", "items")),
        (b'{"container":["LABEL"],"items":[]}', (422, "validation_error", "container")),
        (b'{"container":"LABEL","items":[],"extra":1}', (422, "validation_error", "extra")),
        (b'{"container":"nothing","items":[]}', (404, "container_not_found", "container")),
        (
            b'{"container":"nothing","items":[{"input":{}}]}',
            (404, "container_not_found", "container"),
        ),
    ],
)
def test_a_bad_envelope_refuses_the_call(
    http: httpx.Client, label: str, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    """The status, the code and the field say what is wrong; on 422 also `detail`."""
    response = http.post(PATH, content=body.replace(b"LABEL", label.encode()))
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["param"]) == expected
    assert ("detail" in response.json()) == (expected[0] == 422)
    assert int(response.headers["x-ratelimit-remaining"]) > 0


def test_another_key_cannot_register_here(gateway: Gateway, label: str) -> None:
    """A wrong key learns that, whatever its body; a container of another project is not found."""
    from cli import run_command

    secret = run_command(
        gateway, "keys", "create", "--create-project", "--project", f"p-{label}"
    ).strip()
    body = {"container": label, "items": [{"input": INPUT}]}

    def post(key: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(gateway.url + PATH, json=body, headers=headers)

    assert post("wrong").json()["error"]["code"] == "invalid_api_key"
    assert post(secret).json()["error"]["code"] == "container_not_found"


def large_items(count: int) -> Iterator[bytes]:
    """Yield items of 10 kB."""
    for i in range(count):
        text = f"{i} " * (10_000 // len(f"{i} "))
        yield json.dumps({"input": {"messages": [{"role": "user", "content": text}]}}).encode()


def joined(items: Iterator[bytes]) -> Iterator[bytes]:
    for i, item in enumerate(items):
        yield b"," + item if i else item


def test_a_large_call_is_streamed(http: httpx.Client, label: str) -> None:
    """Items beyond the size of one message between edge and core are all registered, in either order of keys."""
    begin = f'{{"container":"{label}","items":['.encode()
    first = http.post(PATH, content=itertools.chain([begin], joined(large_items(150)), [b"]}"]))
    end = f'],"container":"{label}"}}'.encode()
    second = http.post(
        PATH, content=itertools.chain([b'{"items":['], joined(large_items(150)), [end])
    )
    listed = http.get("/v1/chat/completions", params={"container": label}).json()

    assert first.json()["summary"]["inserted"] == 150
    assert second.json()["summary"]["inserted"] == 150
    assert listed["total"] == 300


def test_an_end_that_is_broken_says_what_was_registered(http: httpx.Client, label: str) -> None:
    """A call whose envelope turns out to be wrong after a megabyte of items has a summary in its error."""
    begin = f'{{"container":"{label}","items":['.encode()
    end = b'],"extra":1}'
    response = http.post(PATH, content=itertools.chain([begin], joined(large_items(100)), [end]))
    listed = http.get("/v1/chat/completions", params={"container": label}).json()

    assert response.status_code == 422
    inserted = response.json()["error"]["details"]["summary"]["inserted"]
    assert 0 < inserted == listed["total"]


class HalfWay:
    """An upload of 60 items that waits in the middle until it is let go on."""

    def __init__(self, gateway: Gateway, label: str) -> None:
        self._gateway = gateway
        self._label = label
        self._half_way, self._go_on = threading.Event(), threading.Event()
        self._answers: list[httpx.Response] = []
        self._thread = threading.Thread(target=self._upload)
        self._thread.start()
        assert self._half_way.wait(20)

    def finish(self) -> httpx.Response:
        """Go on, and return the answer."""
        self._go_on.set()
        self._thread.join(20)
        return self._answers[0]

    def _upload(self) -> None:
        with self._gateway.client() as client:
            self._answers.append(client.post(PATH, content=self._body()))

    def _body(self) -> Iterator[bytes]:
        yield f'{{"container":"{self._label}","items":['.encode()
        for i, item in enumerate(joined(large_items(60))):
            if i == 30:
                self._half_way.set()
                assert self._go_on.wait(20)
            yield item
        yield b"]}"


@pytest.mark.usefixtures("upstream")
def test_completions_go_on_while_a_registration_is_half_way(
    http: httpx.Client, gateway: Gateway, label: str
) -> None:
    """An upload that waits in the middle holds up nobody."""
    upload = HalfWay(gateway, label)
    other = http.post("/v1/chat/completions", json={"model": "mock/m1", **INPUT})

    assert other.status_code == 200
    assert upload.finish().json()["summary"]["inserted"] == 60


def test_a_core_that_dies_half_way_is_a_503(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """The client learns that it may try again, not that it made a mistake."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    with gateway.client() as http:
        http.post("/v1/containers", json={"label": "c", "initial_model": "mock/m1"})
    upload = HalfWay(gateway, "c")
    gateway.kill_core()
    response = upload.finish()

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "dependency_unavailable"
    assert int(response.headers["retry-after"]) >= 1


def test_a_client_that_vanishes_leaves_what_had_arrived(
    http: httpx.Client, gateway: Gateway, label: str
) -> None:
    """What reached the core before the connection broke is kept; the rest is not, and nothing hangs."""
    import socket

    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    head += "content-length: 100000000\r\n\r\n"

    def total() -> int:
        listed = http.get("/v1/chat/completions", params={"container": label})
        return int(listed.json()["total"])

    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + f'{{"container":"{label}","items":['.encode())
        for item in joined(large_items(60)):
            connection.sendall(item)
        deadline = time.monotonic() + 60
        while not total():
            assert time.monotonic() < deadline
            time.sleep(0.02)  # Another process writes it; there is nothing to wait on.
    assert 0 < total() <= 60


def test_limits_of_a_call_and_of_an_item(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """A call above its limit is 413, announced or not; an item above a request's limit fails alone."""
    limits = "max_body_bytes = 2000\nmax_register_bytes = 100000\n"
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url) + limits)
    with gateway.client() as http:
        http.post("/v1/containers", json={"label": "c", "initial_model": "mock/m1"})
        big = {"messages": [{"role": "user", "content": "x" * 3000}]}
        one_big = register(http, "c", {"input": INPUT}, {"input": big}, {"input": INPUT})
        too_much = json.dumps({"container": "c", "items": [{"input": INPUT}] * 5000}).encode()
        announced = http.post(PATH, content=too_much)
        chunked = http.post(PATH, content=iter([too_much[:90_000], too_much[90_000:]]))

    assert one_big["summary"]["inserted"] == 2
    assert [(e["index"], e["code"]) for e in one_big["errors"]] == [(1, "payload_too_large")]
    for response in (announced, chunked):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "payload_too_large"


def test_registrations_are_in_the_sums(http: httpx.Client, gateway: Gateway, label: str) -> None:
    """Tokens and spend of examples are rolled up per day of their own time."""
    day = 12_345
    answer = output(created=day * 86_400, model="mock/m1", usage=USAGE, spend=0.5)
    register(http, label, *[{"input": INPUT, "output": answer}] * 3)
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        row = database.execute(
            "SELECT SUM(requests), SUM(input_tokens), SUM(output_tokens), SUM(spend_nano_usd)"
            " FROM usage_daily u JOIN containers c ON c.id = u.container"
            " WHERE day = ? AND c.label = ? AND status = 'registered'",
            [day, label],
        ).fetchone()

    assert row == (3, 27, 9, 1_500_000_000)


async def test_the_official_client_registers(gateway: Gateway, label: str) -> None:
    """1,500 items in a call, as its guides batch them; synchronously and asynchronously."""
    import maniac

    items = [{"input": INPUT, "output": output(id=f"{label}-{i}")} for i in range(1500)]
    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        result = client.chat.completions.register(container=label, items=items)
        assert result["summary"]["inserted"] == 1500
        assert client.chat.completions.list(container=label)["total"] == 1500
        with pytest.raises(maniac.NotFoundError):
            client.chat.completions.register(container="nothing", items=items[:1])
    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        result = await client.chat.completions.register(container=label, items=items)
        assert result["summary"]["skipped"] == 1500


def test_the_example_of_the_page_runs(gateway: Gateway) -> None:
    """docs/register.md says what happens."""
    assert run_example(gateway, "register.md").splitlines() == [
        "2 inserted, 1 failed",
        "input.messages: must be array, not string.",
        "registered",
    ]
