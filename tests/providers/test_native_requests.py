"""Requests that go on as they were sent: whatever a client sends arrives, on every API that is passed on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base import NativePrompt, Prompt, Target
from maniac_core.providers.registry import DIALECTS

KINDS = ["anthropic", "gemini", "openai-responses"]
LISTS = {"anthropic": "messages", "gemini": "contents", "openai-responses": "input"}
ADDRESS = "https://host"
# Keys that the gateway has a say in.
RESERVED = {"model", "store", "include", "stream", "tags", "trace", "models", "maniac_metadata"}
RESERVED |= set(LISTS.values())

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([1.5, -0.0, 1e300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
members = st.dictionaries(st.text().filter(lambda key: key not in RESERVED), values, max_size=5)
blocks = st.dictionaries(st.text(), values, max_size=4)


def sent(kind: str, body: bytes, *, stream: bool = False, **more: Any) -> dict[str, msgspec.Raw]:
    """Return the members of what is sent for a client's own body."""
    config = msgspec.convert({"kind": kind, "base_url": ADDRESS}, ProviderConfig)
    target = Target(provider="p", config=config, model="m", api_key=None)
    native = NativePrompt(
        body=msgspec.Raw(body),
        added_messages=more.pop("added", ()),
        added_parameters=tuple(more.get("parameters", ())),
    )
    prompt = Prompt(
        messages=more.get("messages", []),
        parameters=more.get("parameters", {}),
        stream=stream,
        native=native,
    )
    call = DIALECTS[kind].encode(target, prompt)
    assert call.is_native
    return msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(keys=members, block=blocks, stream=st.booleans(), spaced=st.booleans())
def test_whatever_a_client_sends_arrives(
    kind: str, keys: Any, block: Any, *, stream: bool, spaced: bool
) -> None:
    """Unknown keys and entries keep their values, every byte of them, and their order; the gateway's own are gone."""
    separators = (" , ", " : ") if spaced else (",", ":")

    def encoded(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=separators).encode()

    # What holds a seal is read, and so written anew.
    assume("mgs1" not in str(block) and block.get("type") != "reasoning")
    content = "parts" if kind == "gemini" else "content"
    entries = {LISTS[kind]: [{**block, "role": "user", content: [block]}]}
    own = {"tags": ["a"], "models": ["p/n"], "trace": {"id": "t"}, "maniac_metadata": {}}
    got = sent(kind, encoded({**keys, **own, "model": "p/m", **entries}), stream=stream)

    for key, value in {**keys, **entries}.items():
        assert bytes(got[key]) == encoded(value)
    assert list(got)[: len(keys)] == list(keys)
    assert own.keys().isdisjoint(got)
    if kind != "gemini":
        assert json.loads(bytes(got["model"])) == "m"
        assert ("stream" in got) == stream


@pytest.mark.parametrize(
    ("kind", "own", "name"),
    [
        ("anthropic", {"max_tokens": 9, "temperature": 0.5}, "temperature"),
        ("gemini", {"generationConfig": {"temperature": 0.5}}, "generationConfig"),
        ("openai-responses", {"temperature": 0.5}, "temperature"),
    ],
)
def test_a_container_never_overrules_its_client(kind: str, own: Any, name: str) -> None:
    """Its examples go in front, its parameters where the client gave none."""
    examples = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    mine = {"role": "user", "content": "3+3"}
    last = {"role": "user", "parts": [{"text": "3+3"}]} if kind == "gemini" else mine
    got = sent(
        kind,
        json.dumps({**own, LISTS[kind]: [last]}).encode(),
        messages=[*examples, mine],
        added=(0, 1),
        parameters={"top_p": 0.9} if kind != "anthropic" else {"top_k": 3},
    )
    conversation = json.loads(bytes(got[LISTS[kind]]))
    assert len(conversation) == 3
    assert conversation[-1] == last
    given_, everything = json.dumps(own[name]), b"".join(bytes(value) for value in got.values())
    if kind == "gemini":
        assert json.loads(bytes(got[name])) == {"temperature": 0.5, "topP": 0.9}
    else:
        assert bytes(got[name]).decode() == given_
        assert b"0.9" in everything or json.loads(bytes(got["top_k"])) == 3


def test_blocks_beside_a_seal_may_hold_anything() -> None:
    """Numbers that nobody can hold: only seals are taken out."""
    sealed = '{"type":"thinking","thinking":"x","signature":"mgs1.AAA"}'
    other = '{"type":"block_of_tomorrow","data":1e999}'
    before, after = '[{"role":"assistant","future":1,"content":[', "]}]"
    got = sent("anthropic", f'{{"messages":{before}{sealed},{other}{after}}}'.encode())
    assert bytes(got["messages"]).decode() == before + other + after
