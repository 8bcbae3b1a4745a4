"""The embedded model as `serve` sees it: whether it can be served, and the process that serves it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from maniac_core.cli.serving import environment, ports
from maniac_core.cli.serving.child import Program
from maniac_core.config.core import DEFAULT_LOCAL_MODEL, Config, local_model_path, local_provider
from maniac_core.config.provider import DEMO_PROVIDER, LOCAL_PROVIDER, demo_provider
from maniac_core.local.llama import LlamaError, check_file, loading_variables

NAME = "local model"
"""The name of its process in the log."""
_GRACE_S = 2.0


class Llama(msgspec.Struct, frozen=True, kw_only=True):
    """llama.cpp on this machine."""

    problem: str | None
    """Why it cannot be used, and what to do."""
    variables: Mapping[str, str] = {}
    """Variables that its process needs besides our own."""


def try_llama(environ: Mapping[str, str]) -> Llama:
    """Try once whether llama.cpp can be loaded. Blocks for less than a tenth of a second, or for a slow disk."""
    try:
        return Llama(problem=None, variables=loading_variables(environ))
    except LlamaError as err:
        return Llama(problem=str(err))


def settle(config: Config, llama: Llama) -> tuple[Config, str | None]:
    """Return the configuration with the embedded model only if it can be served, and why it cannot.

    Nothing is said where it is switched off.
    """
    if local_model_path(config.core) is None:
        return config, None
    problem = _problem(config, llama)
    if problem is None:
        return config, None
    return without(config), problem


def without(config: Config) -> Config:
    """Return the configuration without the embedded model."""
    ours = local_provider(config.core)
    providers = {
        name: table
        for name, table in config.providers.items()
        if not (name == LOCAL_PROVIDER and table == ours)
    }
    core = msgspec.structs.replace(config.core, local_model="off")
    return msgspec.structs.replace(config, core=core, providers=providers)


def with_demo(config: Config) -> Config:
    """Return the configuration with the scripted provider `demo` if it has no provider, so that something answers."""
    if config.providers:
        return config
    return msgspec.structs.replace(config, providers={DEMO_PROVIDER: demo_provider()})


def program(config: Config, file: Path, llama: Llama, environ: Mapping[str, str]) -> Program:
    """Return the process that serves the file."""
    command = [sys.executable, "-m", "maniac_core.local.server"]
    command += ["--model", str(file), "--port", str(config.core.local_port)]
    command += ["--log-format", config.core.log_format]
    return Program(
        name=NAME,
        command=tuple(command),
        environ={**environment.for_model(environ), **llama.variables},
        grace_s=_GRACE_S,
        essential=False,
    )


def _problem(config: Config, llama: Llama) -> str | None:
    core = config.core
    path = local_model_path(core)
    assert path is not None
    if config.providers.get(LOCAL_PROVIDER) not in (None, local_provider(core)):
        return f"[providers.{LOCAL_PROVIDER}] is configured, and used instead"
    if llama.problem is not None:
        return llama.problem
    if not path.is_file():
        if core.local_model:
            return f"{path} is not there; see [core] local_model"
        return f"`maniac-gateway pull {DEFAULT_LOCAL_MODEL}` fetches one"
    try:
        check_file(path)
    except LlamaError as err:
        return f"{err}; see [core] local_model" if core.local_model else f"{err}; delete it"
    if not ports.is_free("127.0.0.1", core.local_port):
        return f"port {core.local_port} is taken; choose another with [core] local_port"
    return None
