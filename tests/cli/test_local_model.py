"""The embedded model under `serve`: a real answer, its own crashes, and the ways it can be missing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

_SCRIPTED = "[providers.demo]\nkind = 'scripted'\nmodels = ['echo']\n"


@pytest.fixture
def port() -> int:
    """A port that is free."""
    port: int = free_ports(1)[0]
    return port


def _complete(serve: Any, model: str) -> httpx.Response:
    body = {
        "model": model,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    headers = {"authorization": f"Bearer {serve.key}"}
    return httpx.post(f"{serve.url}/v1/chat/completions", json=body, headers=headers, timeout=50)


def _complete_once_loaded(serve: Any, model: str) -> httpx.Response:
    """Ask again for as long as the model is loaded, which nothing waits for if it takes long."""
    deadline = time.monotonic() + 100
    while (answer := _complete(serve, model)).status_code != 200:
        assert time.monotonic() < deadline, answer.text + serve.errors.read_text()
        # There is no event across processes to wait for; more often would reach the limit of requests.
        time.sleep(0.2)
    return answer


@pytest.mark.timeout(300)
def test_any_gguf_file_answers_under_its_own_name_and_survives_a_crash(
    serve: Callable[..., Any], model_file: Path, port: int, tmp_path: Path
) -> None:
    """One configuration line serves a file; when its server dies the gateway does not, and it comes back."""
    (tmp_path / "My-Model.gguf").symlink_to(model_file)
    started = serve(
        config=f"[core]\nlocal_model = 'My-Model.gguf'\nlocal_port = {port}\n{_SCRIPTED}"
    )
    assert '"model": "local/my-model"' in started.banner
    answer = _complete_once_loaded(started, "local/my-model").json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0

    os.kill(started.child("maniac_core.local.server"), signal.SIGKILL)
    assert _complete(started, "demo/echo").status_code == 200
    _complete_once_loaded(started, "local/my-model")


@pytest.mark.timeout(300)
def test_pulled_model_is_found_in_the_data_folder(
    serve: Callable[..., Any], model_file: Path, port: int, tmp_path: Path
) -> None:
    """Without any configuration the pulled model answers under its name, and the banner asks it."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / model_file.name).symlink_to(model_file)
    started = serve(config=f"[core]\nlocal_port = {port}\n{_SCRIPTED}")
    assert "models  demo/echo, local/smollm2-135m-instruct\n" in started.banner
    assert '"model": "local/smollm2-135m-instruct"' in started.banner
    _complete_once_loaded(started, "local/smollm2-135m-instruct")


@pytest.mark.parametrize("missing", ["file", "package"])
def test_missing_model_is_said_and_the_rest_works(
    serve: Callable[..., Any], tmp_path: Path, missing: str
) -> None:
    """Without the file, or without llama.cpp, other providers are served."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    variables = {}
    if missing == "package":
        (models / "smollm2-135m-instruct.gguf").touch()
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['xllamacpp'] = None\n")
        variables["PYTHONPATH"] = str(tmp_path)
    started = serve(config=_SCRIPTED, **variables)
    remedy = {"file": "maniac-gateway pull", "package": "pip install 'maniac-gateway[local]'"}
    assert "no embedded model: " in started.banner
    assert remedy[missing] in started.banner
    assert "models  demo/echo\n" in started.banner
    assert _complete(started, "demo/echo").status_code == 200


def test_taken_port_of_the_model_does_not_stop_the_rest(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """The line names the port and the key to change."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "smollm2-135m-instruct.gguf").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = serve(config=f"[core]\nlocal_port = {port}\n{_SCRIPTED}")
        assert f"port {port} is taken; choose another with [core] local_port" in started.banner
        assert "local/" not in started.banner
        assert _complete(started, "demo/echo").status_code == 200


def test_file_that_is_no_model_does_not_stop_the_rest(
    serve: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    """A server that cannot load its file is retried beside a gateway that is ready."""
    (tmp_path / "broken.gguf").write_bytes(b"this is no model")
    started = serve(config=f"[core]\nlocal_model = 'broken.gguf'\nlocal_port = {port}\n{_SCRIPTED}")
    assert _complete(started, "demo/echo").status_code == 200
    assert _complete(started, "local/broken").status_code >= 500
    deadline = time.monotonic() + 60
    while "broken.gguf cannot be served" not in started.errors.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.
