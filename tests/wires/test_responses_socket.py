"""Responses over a WebSocket, with the `openai` package and with plain frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import websockets
from gateway import KEY, Gateway
from providers import Providers, hang, status, text, then
from providers import events as handled
from responses_events import check_items
from websockets.sync.client import ClientConnection, connect

CREATE = {"type": "response.create", "model": "openai/m1", "input": "Hi"}


@pytest.fixture
def socket(gateway: Gateway) -> Iterator[ClientConnection]:
    """A connection with a key."""
    with open_socket(gateway) as connection:
        yield connection


def open_socket(gateway: Gateway, key: str = KEY) -> ClientConnection:
    url = gateway.base_url.replace("http", "ws", 1) + "/responses"
    return connect(url, additional_headers={"authorization": f"Bearer {key}"}, open_timeout=10)


def events_of(socket: ClientConnection, message: Any) -> list[dict[str, Any]]:
    """Ask for a response and return its events."""
    socket.send(message if isinstance(message, str) else json.dumps(message))
    events = []
    while not events or events[-1]["type"] not in {"response.completed", "error"}:
        events.append(json.loads(socket.recv(timeout=10)))
    return events


# The package is made for an older version of the library.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
@pytest.mark.usefixtures("providers")
def test_the_package_gets_responses_one_after_the_other(gateway: Gateway) -> None:
    """Its own connection, unmodified."""
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
        client.responses.connect() as connection,
    ):
        for _ in range(2):
            connection.response.create(model="openai/m1", input="Hi")
            for event in connection:
                if event.type == "response.completed":
                    assert event.response.output_text == "Hello!"
                    break


def test_its_events_are_those_of_a_stream(socket: ClientConnection, providers: Providers) -> None:
    """Numbered from zero for each response, and captured as others are."""
    for _ in range(3):
        events = events_of(socket, CREATE)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[0]["type"] == "response.created"
        check_items(events, events[-1]["response"]["output"])
    assert len(list(providers.requests("openai"))) == 3


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("message", "http_status", "param"),
    [
        ("nonsense", 400, None),
        ("[]", 400, None),
        ({"type": "session.update"}, 400, "type"),
        ({**CREATE, "model": "nobody/none"}, 404, "model"),
        ({**CREATE, "input": []}, 400, "input"),
    ],
)
def test_a_refusal_is_an_event_and_the_connection_goes_on(
    socket: ClientConnection, message: Any, http_status: int, param: str | None
) -> None:
    """With the status and the error that the request would have by HTTP."""
    (error,) = events_of(socket, message)

    assert (error["status"], error["error"]["param"], error["param"]) == (
        http_status,
        param,
        param,
    )
    assert events_of(socket, CREATE)[-1]["type"] == "response.completed"


def test_a_failure_of_the_provider_is_an_event(
    socket: ClientConnection, providers: Providers
) -> None:
    """With the status that it would have by HTTP."""
    providers.handlers["openai"] = status(429)

    (error,) = events_of(socket, CREATE)
    assert (error["type"], error["status"]) == ("error", 429)


def test_one_response_at_a_time(socket: ClientConnection, providers: Providers) -> None:
    """Another one is refused as long as the first is written."""
    begun = json.dumps(CREATE)
    providers.handlers["openai"] = then(handled(*text("Hel"), end=False), hang)
    socket.send(begun)
    while json.loads(socket.recv(timeout=10))["type"] != "response.output_text.delta":
        pass
    socket.send(begun)
    error = json.loads(socket.recv(timeout=10))

    assert (error["type"], error["status"]) == ("error", 409)


def test_a_connection_needs_a_key(gateway: Gateway) -> None:
    """The handshake is refused with the error of every request without one."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        open_socket(gateway, "mk-wrong-0123456789abcdef")

    answer = caught.value.response
    assert answer.status_code == 401
    assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
    assert "x-request-id" in answer.headers


def test_other_paths_have_none(gateway: Gateway) -> None:
    """An offer there is declined, and the request served by HTTP."""
    url = gateway.base_url.replace("http", "ws", 1) + "/models"
    with pytest.raises(websockets.InvalidStatus) as caught:
        connect(url, additional_headers={"authorization": f"Bearer {KEY}"})

    assert caught.value.response.status_code == 200


def test_a_client_that_goes_ends_the_request(gateway: Gateway, providers: Providers) -> None:
    """The provider is not kept busy for nobody."""
    gone = providers.flag()
    providers.handlers["openai"] = then(
        then(handled(*text("Hel"), end=False), hang), lambda _: gone.set()
    )
    with open_socket(gateway) as socket:
        socket.send(json.dumps(CREATE))
        while json.loads(socket.recv(timeout=10))["type"] != "response.output_text.delta":
            pass

    assert gone.wait(10)
