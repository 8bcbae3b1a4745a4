"""The configuration of scripted providers: what is accepted, and how a mistake is named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from maniac_core.config.core import Config, ConfigError, load
from maniac_core.config.provider import resolve_keys
from maniac_core.config.scripted import ScriptedRule

_DOCUMENT = Path(__file__).parents[2] / "docs" / "scripted.md"
_EXAMPLES = re.findall(r"```toml\n(.*?)```", _DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def _load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


@pytest.mark.parametrize("example", _EXAMPLES)
def test_examples_of_the_documentation_load(tmp_path: Path, example: str) -> None:
    """Every configuration in docs/scripted.md is accepted as it stands."""
    config = _load(tmp_path, example)
    assert all(provider.kind == "scripted" for provider in config.providers.values())


def test_every_key_is_documented() -> None:
    """Each key of a rule has its row in docs/scripted.md, and no row is of a key that is gone."""
    rows = set(re.findall(r"^\| `(\w+)` \|", _DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {field.name for field in msgspec.structs.fields(ScriptedRule)}


def test_scripted_provider_may_take_a_known_name(tmp_path: Path) -> None:
    """A stand-in for a known provider needs neither its address nor its key."""
    provider = _load(tmp_path, '[providers.openai]\nkind = "scripted"').providers["openai"]
    assert (provider.base_url, provider.api_key_env) == ("", None)
    assert resolve_keys(provider, {"OPENAI_API_KEY": "sk-live"}) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[providers.x]\nkind = "openai"', "base_url"),
        ('[providers.x]\nkind = "openai"\nbase_url = "http://h/v1"\nrules = [{}]', "`rules`"),
        ("[providers]\nx = 1", r"\[providers\.x\]: is not a table"),
        ('[providers.x]\nkind = "scripted"\nrule = []', "unknown key `rule`; did you mean `rules`"),
    ],
)
def test_providers_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """What the kind of a provider rules out is an error that names the key."""
    with pytest.raises(ConfigError, match=message):
        _load(tmp_path, text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('txt = "a"', "unknown key `txt`; did you mean `text`"),
        ("usage = { tokens = 1 }", r"`rules\.usage`: unknown key `tokens`"),
        ('hang = "forever"', r"\.hang`"),
        ("delay_s = -1", r"\.delay_s`"),
        ("times = 0", r"\.times`"),
        ("status = 100", r"\.status`"),
        ('call = "2-1"', "`call` is '2-1'"),
        ('call = "first"', "`call` is 'first'"),
        ('call = "0-3"', "`call` is '0-3'"),
        ('body = "", text = "a"', "`body` and `text`"),
        ('error = {}, tool_calls = [{ name = "f" }]', "`error` and `tool_calls`"),
        ('status = 503, text = "a"', "`status` and `text`"),
        ('refuse = true, headers = { a = "b" }', "`refuse` and `headers`"),
        ('hang = "headers", text = "a"', "`hang` and `text`"),
        ('hang = "stream", cut_after_chunks = 1', "`hang` and `cut_after_chunks`"),
        ("cut_after_chunks = 1, cut_after_bytes = 1", "`cut_after_chunks` and `cut_after_bytes`"),
        ("repeat_stream = true, stall_after_chunks = 1", "`repeat_stream` and"),
        ('cut_with = "reset"', "`cut_with` needs"),
        ("chunk_jitter_s = 1", "`chunk_jitter_s` needs"),
    ],
)
def test_rules_that_are_refused(tmp_path: Path, rule: str, message: str) -> None:
    """An unknown key, a wrong value or a contradiction is an error that names the key and the table."""
    text = f'[providers.x]\nkind = "scripted"\nrules = [{{ {rule} }}]'
    with pytest.raises(ConfigError, match=message) as failed:
        _load(tmp_path, text)
    assert "[providers.x]" in str(failed.value)


def test_encoded_rule_has_only_what_was_given(tmp_path: Path) -> None:
    """What check-config shows of a rule is what stands in the file."""
    text = '[providers.x]\nkind = "scripted"\nrules = [{ times = 2, error = { code = "busy" } }]'
    rules = _load(tmp_path, text).providers["x"].rules
    assert msgspec.json.decode(msgspec.json.encode(rules)) == [
        {"times": 2, "error": {"code": "busy"}}
    ]
