"""Streams with the habits of those who speak OpenAI's wire, self-written."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.domain.chat import ChoiceDelta, Usage
from maniac_core.providers.base import StreamEnd, StreamModel
from openai_chunks import DONE, chunk, event, only, run, whole


def test_plain_stream_gives_role_once_text_and_finish_last() -> None:
    """The role stands on the first delta only, the finish reason on a delta of its own before the end."""
    items, _ = run(
        chunk({"role": "assistant", "content": ""}, model="m-1"),
        chunk({"role": "assistant", "content": "Hel"}, model="m-1"),
        chunk({"role": "assistant", "content": "lo"}, model="m-1"),
        chunk(finish="stop", model="m-1"),
        DONE,
    )
    assert items == [
        StreamModel(name="m-1"),
        ChoiceDelta(role="assistant"),
        ChoiceDelta(content="Hel"),
        ChoiceDelta(content="lo"),
        ChoiceDelta(finish_reason="stop"),
        StreamEnd(),
    ]


@pytest.mark.parametrize("choices", [{"choices": []}, {"choices": None}, {}])
def test_usage_chunk_may_lack_choices(choices: dict[str, Any]) -> None:
    """An empty, a null (vLLM) and an absent `choices` beside usage are the same."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    items, decoder = run(
        chunk({"content": "x"}, usage=None),
        chunk(finish="stop"),
        event({**choices, "usage": usage}),
        DONE,
    )
    assert [item for item in items if isinstance(item, Usage)] == [
        Usage(input_tokens=3, output_tokens=2)
    ]
    assert items[-1] == StreamEnd()
    assert decoder.malformed == 0


def test_cumulative_usage_ends_with_the_last_numbers() -> None:
    """DeepSeek counts up on every chunk, zeros first; the last report stands, equal ones are not repeated."""

    def counted(tokens: int) -> dict[str, Any]:
        return {"prompt_tokens": 7 if tokens else 0, "completion_tokens": tokens}

    items, _ = run(
        chunk({"content": "a"}, usage=counted(0)),
        chunk({"content": "b"}, usage=counted(1)),
        chunk({"content": "c"}, usage=counted(2)),
        chunk(finish="stop", usage=counted(2)),
        DONE,
    )
    assert [item.output_tokens for item in items if isinstance(item, Usage)] == [1, 2]


def test_groq_usage_is_found_in_its_own_place() -> None:
    """`x_groq.usage` on the last chunk counts when there is no `usage`."""
    items, _ = run(
        chunk({"content": "a"}, x_groq={"id": "req_1"}),
        chunk(finish="stop", x_groq={"usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        DONE,
    )
    assert Usage(input_tokens=9, output_tokens=4) in items


def test_service_tier_with_its_own_price_reaches_usage() -> None:
    """The tier beside the usage is kept when it is not the standard one."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    for tier, expected in (("priority", "priority"), ("default", None)):
        items, _ = run(
            chunk({"content": "a"}, finish="stop"),
            event({"choices": [], "usage": usage, "service_tier": tier}),
            DONE,
        )
        assert [item.service_tier for item in items if isinstance(item, Usage)] == [expected]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "thought"},
        {"reasoning_content": "thought"},
        {"reasoning": "thought", "reasoning_content": "thought"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "thought"}]}]},
    ],
)
def test_reasoning_comes_under_one_name(delta: dict[str, Any]) -> None:
    """`reasoning`, `reasoning_content`, both at once, and Mistral's thinking parts are all reasoning."""
    choice = only(chunk(delta), chunk({"content": "answer"}), chunk(finish="stop"), DONE)
    assert choice.message == {"role": "assistant", "content": "answer", "reasoning": "thought"}


def test_reasoning_details_are_kept() -> None:
    """OpenRouter's blocks pass through, pieces of one block joined, the signature with it."""
    choice = only(
        chunk(
            {
                "reasoning": "a",
                "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
            }
        ),
        chunk(
            {
                "reasoning": "b",
                "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}],
            }
        ),
        chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]}),
        chunk({"content": "x"}, finish="stop"),
        DONE,
    )
    assert choice.message["reasoning"] == "ab"
    assert choice.message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"}
    ]


def test_refusal_is_kept() -> None:
    """Pieces of a refusal add up."""
    choice = only(
        chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk(finish="stop"), DONE
    )
    assert choice.message == {"role": "assistant", "content": None, "refusal": "I cannot."}


def test_annotations_audio_and_images_are_kept_as_they_come() -> None:
    """They are content even without text; of empty ones nothing is left."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    items, _ = run(
        chunk({"role": "assistant", "content": "", "annotations": [], "audio": None}),
        chunk({"images": [picture]}),
        chunk({"audio": {"id": "a1", "transcript": "Hel"}}),
        chunk({"content": "x", "annotations": [{"type": "url_citation"}]}),
        DONE,
    )
    deltas = [item for item in items if isinstance(item, ChoiceDelta)]

    assert [delta.extra for delta in deltas] == [
        None,
        {"images": [picture]},
        {"audio": {"id": "a1", "transcript": "Hel"}},
        {"annotations": [{"type": "url_citation"}]},
        None,
    ]
    assert [delta.has_content for delta in deltas] == [False, True, True, True, False]
    assert items[-1] == StreamEnd()


def test_choices_may_be_interleaved() -> None:
    """With n above 1 every choice keeps its index, its text and its finish reason."""
    items, _ = run(
        chunk({"content": "a"}, index=0),
        chunk({"content": "x"}, index=1),
        chunk({"content": "b"}, index=0),
        chunk(finish="stop", index=1),
        chunk(finish="length", index=0),
        DONE,
    )
    first, second = whole(items)
    assert (first.message["content"], first.finish_reason) == ("ab", "length")
    assert (second.message["content"], second.finish_reason) == ("x", "stop")


def test_comments_unknown_keys_and_foreign_events_are_ignored() -> None:
    """Comments, obfuscation, fingerprints, filter results and chunks about nothing leave no trace."""
    choice = only(
        b": OPENROUTER PROCESSING\n\n",
        event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""}),
        chunk({"content": "a"}, obfuscation="xyz", system_fingerprint="fp", service_tier="default"),
        b"event: ping\ndata: {}\n\n",
        chunk(finish="stop", provider="P", created=1.5),
        DONE,
    )
    assert choice.message["content"] == "a"


def test_events_without_a_blank_line_between_them_are_parted() -> None:
    """Several JSON texts that arrive as the lines of one event are several chunks."""
    joined = chunk({"content": "a"})[:-1] + chunk({"content": "b"})[:-1] + chunk(finish="stop")
    assert only(joined, DONE).message["content"] == "ab"


def test_characters_survive_any_chopping() -> None:
    """A character of four bytes may be parted anywhere."""
    body = chunk({"content": "grün 🎉"}) + chunk(finish="stop") + DONE
    expected = run(body)[0]
    assert whole(expected)[0].message["content"] == "grün 🎉"
    for at in range(len(body)):
        assert run(body[:at], body[at:])[0] == expected


def test_model_that_changes_is_named_again() -> None:
    """OpenRouter may serve from another model; the last one named is the one that is billed."""
    items, _ = run(chunk({"content": "a"}, model="m1"), chunk(finish="stop", model="m2"), DONE)
    assert [item.name for item in items if isinstance(item, StreamModel)] == ["m1", "m2"]


def test_whole_message_in_one_chunk_is_taken() -> None:
    """A server that streams its answer as one `message` is understood."""
    value = {"choices": [{"index": 0, "message": {"content": "all"}, "finish_reason": "stop"}]}
    assert only(event(value), DONE).message["content"] == "all"
