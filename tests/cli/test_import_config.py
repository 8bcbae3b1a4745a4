"""`maniac-gateway import-config`: from a LiteLLM config.yaml to ours."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
_FULL = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 100}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o-eu, api_base: "https://eu.example/v1/", api_key: hunter2, weight: 2}
  - model_name: claude
    litellm_params: {model: claude-sonnet-4-5, api_key: os.environ/ANTHROPIC, timeout: 30, max_retries: 1}
  - model_name: az
    litellm_params: {model: azure/deployment, api_base: os.environ/AZURE_BASE, api_key: hunter3}
  - model_name: llama
    litellm_params: {model: ollama/llama3, api_base: "http://localhost:11434"}
  - model_name: "groq/*"
    litellm_params: {model: "groq/*"}
  - model_name: own
    litellm_params: {model: hosted_vllm/mine, api_base: os.environ/VLLM_BASE}
router_settings:
  routing_strategy: simple-shuffle
  fallbacks: [{gpt-4o: [claude, elsewhere]}]
  model_group_alias: {gpt-4: gpt-4o}
  num_retries: 3
litellm_settings: {drop_params: true}
general_settings: {master_key: hunter4, database_url: "postgresql://u:hunter5@h/d"}
environment_variables: {LANGFUSE_SECRET: hunter6}
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(_FULL)
    return file


def test_providers_are_carried(run: Run, given: Path) -> None:
    """One table per address and key, with its models, retries and timeouts."""
    written = run("import-config", str(given), VLLM_BASE="http://gpu:8000/v1")
    assert written.returncode == 0, written.stderr
    providers = tomllib.loads(written.stdout)["providers"]
    assert providers == {
        "openai": {
            "kind": "openai",
            "base_url": "https://api.openai.com/v1",
            "api_key_env": "OPENAI_API_KEY",
            "models": ["gpt-4o"],
            "max_retries": 3,
        },
        "openai-2": {
            "kind": "openai",
            "base_url": "https://eu.example/v1",
            "api_key_env": "OPENAI_API_KEY_2",
            "models": ["gpt-4o-eu"],
            "max_retries": 3,
        },
        "anthropic": {
            "kind": "anthropic",
            "base_url": "https://api.anthropic.com",
            "api_key_env": "ANTHROPIC",
            "models": ["claude-sonnet-4-5"],
            "max_retries": 1,
            "timeouts": {"total_s": 30.0},
        },
        "ollama": {
            "kind": "openai",
            "base_url": "http://localhost:11434/v1",
            "models": ["llama3"],
            "max_retries": 3,
        },
        "groq": {
            "kind": "openai",
            "base_url": "https://api.groq.com/openai/v1",
            "api_key_env": "GROQ_API_KEY",
            "max_retries": 3,
        },
        "hosted_vllm": {
            "kind": "openai",
            "base_url": "http://gpu:8000/v1",
            "models": ["mine"],
            "max_retries": 3,
        },
    }


def test_names_and_fallbacks_become_aliases(run: Run, given: Path) -> None:
    """Deployments of one name share its requests; fallbacks come after them."""
    written = run("import-config", str(given), VLLM_BASE="http://gpu:8000/v1")
    assert tomllib.loads(written.stdout)["aliases"] == {
        "gpt-4o": {
            "models": ["openai/gpt-4o", "openai-2/gpt-4o-eu", "anthropic/claude-sonnet-4-5"],
            "weights": [1, 2, 0],
        },
        "claude": {"models": ["anthropic/claude-sonnet-4-5"]},
        "llama": {"models": ["ollama/llama3"]},
        "own": {"models": ["hosted_vllm/mine"]},
        "gpt-4": {
            "models": ["openai/gpt-4o", "openai-2/gpt-4o-eu", "anthropic/claude-sonnet-4-5"],
            "weights": [1, 2, 0],
        },
    }


def test_a_name_that_no_alias_can_have_is_told(run: Run, tmp_path: Path) -> None:
    """What to call instead."""
    file = tmp_path / "config.yaml"
    for name in ("a/b", "vllm"):
        file.write_text(f"model_list: [{{model_name: {name}, litellm_params: {{model: groq/x}}}}]")
        told = run("import-config", str(file))
        assert "aliases" not in told.stdout
        assert f"model_name '{name}' cannot be the name of an alias: call groq/x" in told.stderr


def test_a_server_without_a_key_stays_one(run: Run, tmp_path: Path) -> None:
    """Also one with the name of a provider whose key is read by default."""
    file = tmp_path / "config.yaml"
    params = "{model: mistral/x, api_base: 'http://own:1/v1', api_key: none}"
    file.write_text(f"model_list: [{{model_name: x, litellm_params: {params}}}]")
    written = run("import-config", str(file))
    assert tomllib.loads(written.stdout)["providers"]["mistral"]["api_key_env"] == []


def test_what_is_written_can_be_used(run: Run, given: Path, tmp_path: Path) -> None:
    """It is a configuration, readable by its owner only, and not written over another."""
    out = tmp_path / "gateway.toml"
    assert run("import-config", str(given), "--out", str(out)).returncode == 0
    assert out.stat().st_mode & 0o077 == 0
    shown = run("check-config", f"--config={out}")
    assert shown.returncode == 0, shown.stderr
    assert "openai-2" in json.loads(shown.stdout)["providers"]
    refused = run("import-config", str(given), "--out", str(out))
    assert refused.returncode == 1
    assert "is there already" in refused.stderr


def test_what_is_not_carried_is_listed_without_secrets(run: Run, given: Path) -> None:
    """Each setting with its place."""
    told = run("import-config", str(given))
    for place in (
        "model_list[0] (gpt-4o): litellm_params.rpm",
        "model_list[1] (gpt-4o): api_key is the secret itself (not shown): put it into the variable OPENAI_API_KEY_2",
        "model_list[3] (az): provider 'azure'",
        "model_list[6] (own): api_base is in the variable VLLM_BASE, which is not set",
        "fallbacks: 'elsewhere'",
        "router_settings.routing_strategy",
        "litellm_settings.drop_params",
        "general_settings.master_key",
        "general_settings.database_url",
        "environment_variables.LANGFUSE_SECRET",
    ):
        assert place in told.stderr, place
    assert "hunter" not in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model_list: [", "not valid YAML"),
        ("a: 1", "no `model_list`"),
        ("- 1", "no `model_list`"),
        ("model_list: {a: 1}", "Expected `array"),
        ("model_list: [{model_name: a}]", "litellm_params"),
        ("key: 'hunter2\nx: 1", "not valid YAML"),
        ("model_list: !!python/object/apply:os.system [hunter2]", "not valid YAML"),
    ],
)
def test_what_is_no_such_file_is_told_in_a_line(
    run: Run, tmp_path: Path, content: str, said: str
) -> None:
    """Without quoting it."""
    file = tmp_path / "config.yaml"
    file.write_text(content)
    refused = run("import-config", str(file))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert said in line
    assert "hunter" not in line


def test_without_its_extra_it_says_what_to_install(run: Run, given: Path, tmp_path: Path) -> None:
    """Reading YAML is for those who come from there."""
    (tmp_path / "yaml.py").write_text("raise ImportError")
    refused = run("import-config", str(given), PYTHONPATH=str(tmp_path))
    assert refused.returncode == 1
    assert "pip install '.[yaml]'" in refused.stderr
