"""`maniac-gateway serve`: the first start, the ones after it, and what refuses to start."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest
from ports import free_ports

Run = Callable[..., CompletedProcess[str]]


def _complete(serve: Any, key: str) -> httpx.Response:
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "ping"}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{serve.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def test_first_start_prints_a_key_and_the_second_none(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """The printed key works, and goes on working after a restart that prints no key."""
    first = serve()
    key = first.key
    assert _complete(first, key).json()["choices"][0]["message"]["content"] == "You said: ping"
    assert re.search(r"^gRPC +127\.0\.0\.1:\d+$", first.banner, re.MULTILINE)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    first.process.terminate()
    assert first.process.wait(60) == 0

    second = serve("--port=0", "--grpc-port=0")
    assert "mk-" not in second.banner
    assert _complete(second, key).status_code == 200


def test_a_folder_that_is_there_keeps_its_mode(serve: Callable[..., Any], tmp_path: Path) -> None:
    """It may be for more than the gateway; what holds prompts in it is the owner's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    serve()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "gateway.db")]
    assert modes == [0o755, 0o600]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_printed_curl_line_streams_an_answer(serve: Callable[..., Any]) -> None:
    """What a newcomer pastes gives a whole stream."""
    banner = serve().banner
    command = banner[banner.index("curl -N") : banner.rindex("ready\n")]
    pasted = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert pasted.returncode == 0, pasted.stderr
    assert pasted.stdout.startswith("data: {")
    assert pasted.stdout.rstrip().endswith("data: [DONE]")


def test_key_from_the_environment_is_taken_and_not_printed(serve: Callable[..., Any]) -> None:
    """MANIAC_API_KEY is the first key, and what is printed refers to the variable."""
    key = "mk-chosen-0123456789abcdefghijklmnop"
    started = serve(MANIAC_API_KEY=key)
    assert key not in started.banner
    assert "Bearer $MANIAC_API_KEY" in started.banner
    assert _complete(started, key).status_code == 200


def test_without_any_model_a_scripted_one_answers(serve: Callable[..., Any]) -> None:
    """A gateway without a model starts, names the ways to one, and prints a request that works until then."""
    started = serve(config="[core]\nlocal_model = 'off'")
    assert "OPENAI_API_KEY" in started.banner
    assert "models  demo/echo\n" in started.banner
    assert '"model": "demo/echo"' in started.banner
    assert _complete(started, started.key).status_code == 200


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("kind = 'scripted'", "own/anything"),
        ("kind = 'openai'\nbase_url = 'http://x/v1'", "own/MODEL"),
    ],
)
def test_a_provider_that_names_no_model_gets_a_line_to_fill_in(
    serve: Callable[..., Any], provider: str, model: str
) -> None:
    """A configured provider is a model for a first request, even if only the reader knows its models' names."""
    started = serve(config=f"[core]\nlocal_model = 'off'\n[providers.own]\n{provider}")
    assert f'"model": "{model}"' in started.banner
    assert "No model is configured" not in started.banner
    assert ("in place of MODEL" in started.banner) == model.endswith("MODEL")


def test_key_made_while_it_runs_is_good_at_once(serve: Callable[..., Any], run: Run) -> None:
    """`keys create` works on the database beside a running core."""
    started = serve()
    assert _complete(started, run("keys", "create").stdout.strip()).status_code == 200


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_taken_port_is_named_with_the_option(run: Run, option: str) -> None:
    """Nothing is started when it could not listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--port": "0", "--grpc-port": "0", option: port}
        refused = run("serve", *(word for pair in ports.items() for word in pair))
    assert refused.returncode == 2
    assert f"127.0.0.1:{port}: the port is taken" in refused.stderr
    assert option in refused.stderr


def test_data_folder_belongs_to_one_serve(serve: Callable[..., Any], run: Run) -> None:
    """A second one on the same folder names the first and ends."""
    first = serve()
    refused = run("serve", "--port=0", "--grpc-port=0")
    assert refused.returncode == 1
    assert f"process {first.process.pid}" in refused.stderr


def test_core_that_cannot_start_ends_serve(serve: Callable[..., Any], tmp_path: Path) -> None:
    """What fails at the first start is not tried for ever: the reason is logged and the status is 1."""
    (tmp_path / "file").touch()
    failed = serve(config="[core]\nlocal_model = 'off'\nsocket = 'file/core.sock'", can_start=False)
    assert failed.process.wait(60) == 1
    assert "core ended with exit status 1" in failed.errors.read_text()


def test_secrets_are_not_logged(serve: Callable[..., Any]) -> None:
    """Neither the key nor the prompt is in the log of a request."""
    started = serve()
    _complete(started, started.key)
    started.process.terminate()
    started.process.wait(60)
    log = started.errors.read_text()
    assert "/v1/chat/completions" in log
    assert started.key not in log
    assert "ping" not in log


def test_doctor_recognises_the_running_gateway(
    serve: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    """Its own ports are no fault."""
    started = serve()
    report = run(
        *("doctor", f"--config={tmp_path / 'gateway.toml'}"),
        MANIAC_EDGE__PORT=started.url.rpartition(":")[2],
        MANIAC_CORE__LISTEN=re.findall(r"^gRPC +(\S+)$", started.banner, re.MULTILINE)[0],
    )
    assert report.returncode == 0, report.stdout
    assert report.stdout.count("is used by the running gateway") == 2
    assert "ok    database" in report.stdout


def test_both_taken_ports_are_named_at_once(run: Run) -> None:
    """And the same port given twice."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        port, grpc_port = one.getsockname()[1], two.getsockname()[1]
        refused = run("serve", f"--port={port}", f"--grpc-port={grpc_port}")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}: the port is taken; choose another with --port" in refused.stderr
    assert (
        f"127.0.0.1:{grpc_port}: the port is taken; choose another with --grpc-port"
        in refused.stderr
    )
    (free,) = free_ports(1)
    twice = run("serve", f"--port={free}", f"--grpc-port={free}")
    assert twice.returncode == 2
    assert "--port and --grpc-port are the same; choose another with --grpc-port" in twice.stderr


@pytest.mark.parametrize("command", ["serve --grpc-port=0", "edge"])
@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b"])
def test_a_host_that_is_not_this_machines_is_named_with_its_option(
    run: Run, command: str, host: str
) -> None:
    """Not with that of the port."""
    refused = run(*command.split(), f"--host={host}")
    assert refused.returncode == 2
    assert f"cannot listen on {host}:4000: " in refused.stderr
    assert "choose another with --host" in refused.stderr
    assert "--port" not in refused.stderr


def test_ctrl_c_says_that_it_stops(serve: Callable[..., Any]) -> None:
    """Whoever waits for the last answers knows why."""
    started = serve()
    started.process.send_signal(signal.SIGINT)
    assert started.process.stdout.read() == "stopping\n"
    assert started.process.wait(60) == 0


def test_the_second_start_says_how_to_make_a_key(serve: Callable[..., Any]) -> None:
    """With the options that lead to the same install, and whether MANIAC_API_KEY is of any use."""
    first = serve("--data-dir=else where")
    first.process.terminate()
    first.process.wait(60)
    second = serve("--data-dir=else where", MANIAC_API_KEY="mk-another-0123456789abcdef")
    assert re.search(
        r"`maniac-gateway keys create --config \S+ --data-dir 'else where'` makes another",
        second.banner,
    )
    assert "MANIAC_API_KEY does not hold one of them" in second.banner
    assert "mk-another" not in second.banner


def test_each_completion_is_logged_with_what_it_cost(serve: Callable[..., Any]) -> None:
    """Model, tokens, cost and the key's name; neither the prompt nor the key."""
    config = "[core]\nlocal_model = 'off'\n[edge]\ngrace_s = 5\n[providers.demo]\nkind = 'scripted'\nunpriced = 'free'\n"
    started = serve(config=config)
    _complete(started, started.key)
    started.process.terminate()
    started.process.wait(60)
    lines = [json.loads(line) for line in started.errors.read_text().splitlines()]
    (line,) = [line for line in lines if line["event"] == "completion"]
    (request,) = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == request["request_id"]
    assert line["model"] == "demo/echo"
    assert line["status"] == "completed"
    assert line["key"] == "first key"
    assert line["cost_usd"] == 0
    assert line["prompt_tokens"] > 0
    assert line["completion_tokens"] > 0


def test_the_nearest_model_is_named(serve: Callable[..., Any]) -> None:
    """For a slip in the name, or a name without its provider."""
    started = serve()
    for wrong in ("demo/ehco", "dmo/echo", "Demo/Echo"):
        body = {"model": wrong, "messages": [{"role": "user", "content": "ping"}]}
        headers = {"authorization": f"Bearer {started.key}"}
        answer = httpx.post(
            f"{started.url}/v1/chat/completions", json=body, headers=headers, timeout=60
        )
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].endswith("Did you mean 'demo/echo'?")


def test_a_data_folder_with_a_very_long_path_is_served(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """The core's socket, whose path may have 107 bytes, is elsewhere then, and goes with the process."""
    folder = tmp_path / ("long" * 40) / "data"
    with tempfile.TemporaryDirectory(dir="/tmp") as private:
        started = serve(f"--data-dir={folder}", TMPDIR=private)
        assert _complete(started, started.key).status_code == 200
        [socket_folder] = Path(private).glob("maniac-gateway-*")
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        started.process.terminate()
        assert started.process.wait(60) == 0
        assert not any(Path(private).iterdir())
