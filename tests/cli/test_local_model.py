"""The embedded model under `serve`: a real answer, its own crashes, and the ways it can be missing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

_SCRIPTED = "[providers.demo]\nkind = 'scripted'\nmodels = ['echo']\n"
# What the loader says on a Debian that has nothing but Python, unless the condition holds.
_NO_RUNTIME = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "xllamacpp" and not ({condition}) and "-c" in sys.argv:
            raise ImportError("libgomp.so.1: cannot open shared object file: No such file or directory")
sys.meta_path.insert(0, Finder())
"""
# llama.cpp that serves nothing but its health.
_STUB = """
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace())

class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

class Server:
    def __init__(self, parameters):
        self.listening_address = f"http://127.0.0.1:{parameters.port}"
        server = HTTPServer(("127.0.0.1", parameters.port), Health)
        Thread(target=server.serve_forever, daemon=True).start()
"""


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


def _listed(serve: Any) -> list[str]:
    answer = httpx.get(f"{serve.url}/v1/models", headers={"authorization": f"Bearer {serve.key}"})
    return [model["id"] for model in answer.json()["data"]]


def _pretend(folder: Path, name: str, source: str) -> dict[str, str]:
    """Return the variables with which every Python process finds the module."""
    (folder / "modules").mkdir()
    (folder / "modules" / f"{name}.py").write_text(source)
    return {"PYTHONPATH": str(folder / "modules")}


def _put_model(folder: Path, content: bytes = b"GGUF") -> None:
    """Put a file where the pulled model is looked for."""
    models = folder / "data" / "models"
    models.mkdir(parents=True)
    (models / "smollm2-135m-instruct.gguf").write_bytes(content)


@pytest.mark.long
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


@pytest.mark.parametrize("missing", ["file", "package"])
def test_missing_model_is_said_and_the_rest_works(
    serve: Callable[..., Any], tmp_path: Path, missing: str
) -> None:
    """Without the file, or without llama.cpp, other providers are served."""
    variables = {}
    if missing == "package":
        _put_model(tmp_path)
        variables = _pretend(
            tmp_path, "sitecustomize", "import sys\nsys.modules['xllamacpp'] = None\n"
        )
    started = serve(config=_SCRIPTED, **variables)
    remedy = {"file": "maniac-gateway pull", "package": ".venv/bin/pip install '.[local]'"}
    assert "no embedded model: " in started.banner
    assert remedy[missing] in started.banner
    assert "models  demo/echo\n" in started.banner
    assert _complete(started, "demo/echo").status_code == 200


def test_without_an_openmp_runtime_the_printed_request_is_answered(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """One line says what to install; nothing lists the model, nothing is tried again, and `demo` answers."""
    _put_model(tmp_path)
    variables = _pretend(tmp_path, "sitecustomize", _NO_RUNTIME.format(condition=False))
    started = serve(config="", **variables)

    (said,) = [line for line in started.banner.splitlines() if "no embedded model" in line]
    assert "libgomp.so.1" in said
    assert "apt install libgomp1" in said
    assert '"model": "demo/echo"' in started.banner
    assert _complete(started, "demo/echo").json()["choices"][0]["message"]["content"]
    assert _listed(started) == ["demo/echo"]
    assert len(started.children()) == 2
    assert "Traceback" not in started.errors.read_text()


@pytest.mark.timeout(300)
def test_pulled_model_answers_also_where_the_system_has_no_openmp_runtime(
    serve: Callable[..., Any], model_file: Path, port: int, tmp_path: Path
) -> None:
    """It is found in the data folder, the loader is pointed to the wheel's library, and the banner asks it."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / model_file.name).symlink_to(model_file)
    runtime = str(distribution("cmeel-libomp").locate_file("cmeel.prefix/lib/libgomp.so.1"))
    condition = "'cmeel' in os.environ.get('LD_LIBRARY_PATH', '')"
    started = serve(
        config=f"[core]\nlocal_port = {port}\n{_SCRIPTED}",
        **_pretend(tmp_path, "sitecustomize", _NO_RUNTIME.format(condition=condition)),
    )
    assert "models  demo/echo, local/smollm2-135m-instruct\n" in started.banner
    assert '"model": "local/smollm2-135m-instruct"' in started.banner
    _complete_once_loaded(started, "local/smollm2-135m-instruct")
    maps = Path(f"/proc/{started.child('maniac_core.local.server')}/maps").read_text()
    assert runtime in maps


def test_taken_port_of_the_model_does_not_stop_the_rest(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """The line names the port and the key to change."""
    _put_model(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = serve(config=f"[core]\nlocal_port = {port}\n{_SCRIPTED}")
        assert f"port {port} is taken; choose another with [core] local_port" in started.banner
        assert "local/" not in started.banner
        assert _complete(started, "demo/echo").status_code == 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is no model", "broken.gguf is not a GGUF file; see [core] local_model"),
        (b"GGUF and then nothing that fits", "its process could not be kept running"),
    ],
)
def test_file_that_is_no_model_is_not_offered(
    serve: Callable[..., Any], tmp_path: Path, port: int, content: bytes, reason: str
) -> None:
    """It is said once, nothing lists it, and what is printed works."""
    (tmp_path / "broken.gguf").write_bytes(content)
    started = serve(config=f"[core]\nlocal_model = 'broken.gguf'\nlocal_port = {port}\n")

    assert started.banner.count("no embedded model: ") == 1
    assert reason in started.banner
    assert "local/" not in started.banner
    assert _listed(started) == ["demo/echo"]
    assert _complete(started, "local/broken").status_code == 404
    assert _complete(started, "demo/echo").status_code == 200
    assert len(started.children()) == 2
    assert started.errors.read_text().count("it stays off until the next start") <= 1


def test_model_that_keeps_crashing_is_given_up(
    serve: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    """After five deaths nothing lists it any more, a new core neither, and the gateway is ready all along."""
    _put_model(tmp_path)
    started = serve(
        config=f"[core]\nlocal_port = {port}\n", **_pretend(tmp_path, "xllamacpp", _STUB)
    )
    assert _listed(started) == ["local/smollm2-135m-instruct"]

    deadline = time.monotonic() + 60
    while "demo/echo" not in _listed(started):
        assert time.monotonic() < deadline, started.errors.read_text()
        assert httpx.get(f"{started.url}/readyz").status_code == 200
        for pid, command in started.children().items():
            if "maniac_core.local.server" in command:
                # It may have been ended, and not yet started again, since it was found.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert _listed(started) == ["demo/echo"]
    log = started.errors.read_text()
    assert log.count("local model was ended by SIGKILL; starting it again") == 4
    assert log.count("it stays off until the next start") == 1

    core = started.child(" core ")
    os.kill(core, signal.SIGKILL)
    while httpx.get(f"{started.url}/readyz").status_code != 200 or core in started.children():
        assert time.monotonic() < deadline, started.errors.read_text()
    assert _listed(started) == ["demo/echo"]
