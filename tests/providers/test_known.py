"""The table of providers that are known by name: what makes one available, its habits, and its row in the docs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from maniac_common.config_file import ConfigError
from maniac_core.config.core import load
from maniac_core.config.known import KNOWN_PROVIDERS, Habits, KnownProvider
from maniac_core.config.provider import ProviderConfig, key_variables, resolve_keys
from maniac_core.domain.chat import Usage
from maniac_core.providers.base import Prompt, Target
from maniac_core.providers.discovery import Discovery
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.transport import HttpTransport

_PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
_OPENAI = [row for row in KNOWN_PROVIDERS.values() if row.kind == "openai"]
# Providers that the catalogue has no prices of: routers, trials, and servers of one's own.
_ADDRESSES = {
    "bedrock": "https://bedrock-runtime.place-1.amazonaws.com",
    "vertex": "https://place-1-aiplatform.googleapis.com",
}
_UNPRICED = {"github", "huggingface", "lmstudio", "nvidia", "ollama", "vllm"}


def _environment(row: KnownProvider) -> dict[str, str]:
    """The least that makes a provider available."""
    environ = {row.key[0]: f"key-of-{row.name}"} if row.needs_key else {}
    if row.place:
        return {**environ, **{variable: "place-1" for _, variable in row.place}}
    return environ if row.base_url else {**environ, row.base_url_variable: "http://127.0.0.1:9/v1"}


def _found(environ: dict[str, str]) -> dict[str, ProviderConfig]:
    return load(None, environ, local_model="off").providers


@pytest.mark.parametrize("name", KNOWN_PROVIDERS)
def test_a_provider_is_there_when_its_variables_are(name: str) -> None:
    """Without a file, with its key and address; with one variable less it is not there."""
    row = KNOWN_PROVIDERS[name]
    environ = _environment(row)

    [(found, config)] = _found(environ).items()

    assert (found, config.kind) == (name, row.kind)
    assert config.base_url == (_ADDRESSES.get(name) or row.base_url or "http://127.0.0.1:9/v1")
    assert resolve_keys(config, environ) == ((f"key-of-{name}",) if row.needs_key else ())
    assert all(variable in row.setting for variable in environ)
    for missing in environ:
        assert not _found({key: value for key, value in environ.items() if key != missing})


@pytest.mark.parametrize("name", KNOWN_PROVIDERS)
def test_an_address_in_the_environment_counts_for_a_table_too(name: str) -> None:
    """Unless the table has one of its own."""
    row = KNOWN_PROVIDERS[name]
    environ = {**_environment(row), row.base_url_variable: "https://proxy.test/v1"}

    assert _found(environ)[name].base_url == "https://proxy.test/v1"
    with pytest.raises(ConfigError) as refused:
        _found({**environ, row.base_url_variable: "user:secret@host"})
    assert row.base_url_variable in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "given", "meant"),
    [
        ("OLLAMA_BASE_URL", "http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("OLLAMA_BASE_URL", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/v1"),
        ("VLLM_BASE_URL", "http://gpu:8000/deep/v1", "http://gpu:8000/deep/v1"),
        (
            "AZURE_OPENAI_BASE_URL",
            "https://r.openai.azure.com",
            "https://r.openai.azure.com/openai/v1",
        ),
        (
            "AZURE_OPENAI_BASE_URL",
            "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
        ),
        ("OPENAI_BASE_URL", "http://proxy.test", "http://proxy.test"),
    ],
)
def test_a_bare_host_is_completed_where_the_path_is_known(
    variable: str, given: str, meant: str
) -> None:
    """Ollama's own variable often has no path, and Azure's endpoint never."""
    keys = {"AZURE_OPENAI_API_KEY": "k", "OPENAI_API_KEY": "k"}
    assert meant in [config.base_url for config in _found({**keys, variable: given}).values()]


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("europe-west1", "https://europe-west1-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_a_place_tells_the_address(tmp_path: Path, location: str, address: str) -> None:
    """Of a table of any name with the kind of a cloud, whose fields may stand in the environment."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[providers.mine]\nkind = 'vertex'\nlocation = '{location}'\n")
    mine = load(file, {"GOOGLE_CLOUD_PROJECT": "p-1"}, local_model="off").providers["mine"]
    assert (mine.project, mine.location, mine.base_url) == ("p-1", location, address)
    assert Catalogue({"mine": mine}).spend("mine", "gemini-2.5-flash", Usage(output_tokens=1))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("kind = 'vertex'\nlocation = 'global'", "project"),
        ("kind = 'vertex'\nlocation = 'a/b'\nproject = 'p'", "`location` may have"),
        (
            "kind = 'vertex'\nlocation = 'global'\nproject = 'p'\napi_key_env = 'K'",
            "`api_key_env`",
        ),
        ("kind = 'openai'\nbase_url = 'http://h/v1'\nproject = 'p'", "`vertex` only"),
        ("kind = 'openai'\nbase_url = 'http://h/v1'\nregion = 'p'", "`bedrock` only"),
        ("kind = 'bedrock'", "region"),
    ],
)
def test_what_a_cloud_cannot_be_asked_with_is_refused(
    tmp_path: Path, table: str, told: str
) -> None:
    """With the field that is wrong."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[providers.mine]\n{table}\n")
    with pytest.raises(ConfigError) as refused:
        load(file, {}, local_model="off")
    assert told in str(refused.value)


@pytest.mark.parametrize("name", ["vertex", "bedrock"])
def test_the_name_of_a_cloud_may_be_that_of_another_server(tmp_path: Path, name: str) -> None:
    """Its place, in the environment for other work, is not one of that."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[providers.{name}]\nkind = 'openai'\nbase_url = 'http://h/v1'\n")
    config = load(file, _environment(KNOWN_PROVIDERS[name]), local_model="off").providers[name]
    assert (config.kind, config.base_url) == ("openai", "http://h/v1")


@pytest.mark.parametrize("name", ["vertex", "bedrock"])
def test_without_its_extra_a_cloud_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its variables may be set for other work; a key, which needs no extra, is set for this."""
    row = KNOWN_PROVIDERS[name]
    environ = _environment(row)
    monkeypatch.setitem(sys.modules, row.module, None)
    assert not row.is_installed
    assert not _found(environ)
    if row.key:
        assert resolve_keys(_found({**environ, row.key[0]: "k"})[name], {row.key[0]: "k"}) == ("k",)


def test_a_server_of_ones_own_may_have_a_key() -> None:
    """As vLLM has with `--api-key`."""
    environ = {"VLLM_BASE_URL": "http://gpu:8000", "VLLM_API_KEY": "k"}
    assert resolve_keys(_found(environ)["vllm"], environ) == ("k",)


def test_one_key_in_two_variables_is_one_key() -> None:
    """Cohere's own name for it, and that of others."""
    environ = {"COHERE_API_KEY": "k", "CO_API_KEY": "k"}
    config = _found(environ)["cohere"]
    assert key_variables(config) == ("COHERE_API_KEY", "CO_API_KEY")
    assert resolve_keys(config, environ) == ("k",)


def test_a_table_takes_the_rest_from_its_row(tmp_path: Path) -> None:
    """A key under another name, or none."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[providers.groq]\nmax_retries = 0\n[providers.mistral]\napi_key_env = []\n"
        "base_url = 'http://127.0.0.1:9/v1'\n"
    )
    providers = load(file, {}, local_model="off").providers
    assert providers["groq"].base_url == KNOWN_PROVIDERS["groq"].base_url
    assert key_variables(providers["groq"]) == ("GROQ_API_KEY",)
    assert key_variables(providers["mistral"]) == ()


def _sent(row: KnownProvider, base_url: str, model: str = "m") -> tuple[dict[str, str], Any]:
    target = Target(
        provider=row.name,
        config=ProviderConfig(kind="openai", base_url=base_url),
        model=model,
        api_key="sk-test",
    )
    prompt = Prompt(
        messages=[{"role": "developer", "content": "hi"}, {"role": "user", "content": "hi"}],
        parameters={"max_completion_tokens": 5},
        stream=True,
    )
    call = DIALECTS["openai"].encode(target, prompt)
    return dict(call.headers), msgspec.json.decode(call.body)


@pytest.mark.parametrize("name", [row.name for row in _OPENAI])
@pytest.mark.parametrize("is_at_home", [True, False])
def test_habits_hold_at_home_and_behind_a_proxy(name: str, *, is_at_home: bool) -> None:
    """Whatever the address, the request is one that the server takes."""
    row = KNOWN_PROVIDERS[name]
    base_url = row.base_url if is_at_home and row.base_url else "http://127.0.0.1:9/v1"

    headers, body = _sent(row, base_url)

    habits = row.habits
    assert ("max_tokens" in body) == (habits.limit == "max_tokens")
    assert ("max_completion_tokens" in body) == (habits.limit != "max_tokens")
    assert ("stream_options" in body) == habits.takes_stream_options
    assert body["messages"][0]["role"] == ("developer" if habits.takes_developer else "system")
    assert headers[habits.key_header] == (
        "Bearer sk-test" if habits.key_header == "authorization" else "sk-test"
    )


@pytest.mark.parametrize("name", [row.name for row in _OPENAI if row.hosts])
def test_a_server_is_recognised_by_its_host(name: str) -> None:
    """Behind a provider of any name."""
    row = KNOWN_PROVIDERS[name]
    other = msgspec.structs.replace(row, name="mine")
    for host in row.hosts:
        assert _sent(other, f"https://api.{host}/v1", "o3") == _sent(
            row, f"https://api.{host}/v1", "o3"
        )


async def test_a_server_without_a_list_of_models_is_not_asked_for_it() -> None:
    """It may still serve any model by name."""
    row = KNOWN_PROVIDERS["perplexity"]
    config = _found(_environment(row))["perplexity"]
    transport = HttpTransport(environ={})
    asked = Discovery("perplexity", config, DIALECTS["openai"], transport)
    assert await asked.models("key") == []
    await transport.aclose()


@pytest.mark.parametrize("name", KNOWN_PROVIDERS)
def test_prices_are_found_by_name(name: str) -> None:
    """Those of the catalogue that belong to the provider."""
    catalogue = Catalogue()
    assert (catalogue._provider(name) is None) == (name in _UNPRICED)


@pytest.mark.parametrize(
    ("provider", "model", "tokens"),
    [
        ("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000),
        ("vertex", "claude-opus-4-1@20250805", 32_000),
        ("vertex", "gemini-2.5-flash", 65_536),
    ],
)
def test_a_model_of_a_cloud_has_the_limit_of_its_maker(
    provider: str, model: str, tokens: int
) -> None:
    """Whatever stands before its name, or behind."""
    entry = Catalogue().find(provider, model)
    assert entry is not None
    assert entry.max_output_tokens == tokens


def test_the_page_lists_every_provider() -> None:
    """As the table has it: on a difference, put what is printed into docs/providers.md."""
    lines = [_line(row) for row in KNOWN_PROVIDERS.values()]
    page = _PAGE.read_text()
    given = page[page.index("| name | set |") :].split("\n\n")[0].splitlines()[2:]
    assert given == lines, "\n" + "\n".join(lines)


def _line(row: KnownProvider) -> str:
    names = [*([" or ".join(f"`{key}`" for key in row.key)] if row.needs_key else [])]
    if row.place:
        names += [f"`{variable}`" for _, variable in row.place]
        address = f"by its place; wants the extra `{row.extra}`"
    elif row.base_url:
        address = f"`{row.base_url}`"
    else:
        names.append(f"`{row.base_url_variable}`")
        address = f"a bare host gets `{row.path}`"
    cells = (f"`{row.name}`", ", ".join(names), address, f"`{row.kind}`", _habits(row))
    return f"| {' | '.join(cells)} |"


def _habits(row: KnownProvider) -> str:
    habits, plain = row.habits, Habits()
    words = {
        "`max_tokens` only": habits.limit == "max_tokens",
        "`max_completion_tokens` since o1": habits.limit == "openai",
        "no `stream_options`": not habits.takes_stream_options,
        "no `developer`": not habits.takes_developer,
        "`reasoning` as an object, cost on request": habits.takes_reasoning,
        "`reasoning_content` beside calls": habits.wants_reasoning_content,
        "no list of models": not habits.lists_models,
        f"key in `{habits.key_header}`": habits.key_header != plain.key_header,
        f"key in `{''.join(row.key)}`, if it wants one": not (row.needs_key or row.place),
        f"or an API key in `{''.join(row.key)}`": bool(row.place and row.key),
    }
    return ", ".join(word for word, holds in words.items() if holds) or "none"
