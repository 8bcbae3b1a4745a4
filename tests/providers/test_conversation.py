"""Conversations read for dialects that translate: what they mean, and what is refused because it means nothing."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.translation.conversation import (
    AssistantTurn,
    ResultsTurn,
    Text,
    UserTurn,
    read_conversation,
)

USER = {"role": "user", "content": "Hello"}
PNG = "data:image/png;base64,aGVsbG8="


def assistant_call(call_id: str = "c1", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": "look_up", "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(call_id: str = "c1", content: Any = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _image(url: str) -> list[dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [part]}]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "system", "content": "S"}], "messages"),
        ([{"role": "function", "content": "S"}], "messages[0].role"),
        ([USER, result()], "messages[1].tool_call_id"),
        ([USER, assistant_call(), result(), result()], "messages[3].tool_call_id"),
        ([USER, assistant_call(), result("other")], "messages[2].tool_call_id"),
        ([USER, assistant_call()], "messages[1].tool_calls"),
        ([USER, assistant_call(), USER], "messages[1].tool_calls"),
        (
            [USER, assistant_call(arguments="[1]"), result()],
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            [USER, assistant_call(arguments='{"a"'), result()],
            "messages[1].tool_calls[0].function.arguments",
        ),
        (_image("http://host/a.png"), "messages[0].content[0].image_url.url"),
        (_image("data:image/bmp;base64,aaaa"), "messages[0].content[0].image_url.url"),
        (_image("data:image/png,aaaa"), "messages[0].content[0].image_url.url"),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}],
            "messages[0].content[0].file.file_data",
        ),
        (
            [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}],
            "messages[0].content[0].type",
        ),
        (
            [{"role": "system", "content": _image(PNG)[0]["content"]}, USER],
            "messages[0].content[0].image_url.url",
        ),
    ],
)
def test_what_this_wire_cannot_carry_is_refused_by_name(
    messages: list[dict[str, Any]], param: str
) -> None:
    """Each is a 400 that names the field, before anything is sent."""
    with pytest.raises(GatewayError) as caught:
        read_conversation(messages)
    assert caught.value.reason == Reason.ERROR_REASON_INVALID_VALUE
    assert caught.value.param == param
    assert param in caught.value.message


def test_system_messages_may_stand_between_a_call_and_its_result() -> None:
    """They are hoisted, so that they part nothing; names and unknown keys are ignored."""
    late = {"role": "developer", "content": "Be brief.", "name": "d"}
    conversation = read_conversation(
        [USER, assistant_call(), late, {**result(), "annotations": []}]
    )
    assert conversation.system == [Text(text="Be brief.")]
    kinds = [type(turn) for turn in conversation.turns]
    assert kinds == [UserTurn, AssistantTurn, ResultsTurn]


def test_empty_arguments_are_an_object() -> None:
    """A call without arguments has none, not invalid ones."""
    conversation = read_conversation([USER, assistant_call(arguments=" "), result()])
    turn = conversation.turns[1]
    assert isinstance(turn, AssistantTurn)
    assert bytes(turn.calls[0].arguments) == b"{}"


def test_refusal_stands_in_for_missing_content() -> None:
    """An answer that was refused can be sent back as it was received."""
    refused = {"role": "assistant", "content": None, "refusal": "I cannot."}
    turn = read_conversation([USER, refused, USER]).turns[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.parts == [Text(text="I cannot.")]


def test_details_with_marks_of_the_wrong_type_are_kept() -> None:
    """Nothing is known of who made them, so what they hold is left to the provider."""
    details = [{"type": "reasoning.text", "index": []}, {"type": {}, "index": 0}]
    turn = read_conversation([USER, {**assistant_call(), "reasoning_details": details}, result()])
    assert isinstance(turn.turns[1], AssistantTurn)
    assert turn.turns[1].details == details


def test_open_loop_is_what_follows_the_last_user_message() -> None:
    """Calls before it, and an answered conversation, are not in the loop."""
    first = [USER, assistant_call("a"), result("a")]
    assert len(read_conversation([*first, assistant_call("b"), result("b")]).open_loop()) == 2
    assert len(read_conversation([*first, USER, assistant_call("b"), result("b")]).open_loop()) == 1
    assert read_conversation([*first, USER]).open_loop() == []
