"""`maniac-gateway doctor`: checks everything that can be wrong and says, a line each, what to do."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import stat
import sys
from collections.abc import Iterator

from maniac_common.telemetry import metrics_address

from maniac_core.cli import prerequisites
from maniac_core.cli.commands.doctor_providers import check_providers
from maniac_core.cli.database import opened
from maniac_core.cli.failures import describe
from maniac_core.cli.findings import Finding, fail, ok, warn
from maniac_core.cli.hints import with_options
from maniac_core.cli.serving import data_dir, ports
from maniac_core.cli.serving.probe import answers
from maniac_core.cli.settings import EdgeSettings, listen_address, load_core, load_edge
from maniac_core.config.core import DEFAULT_LOCAL_MODEL, Config, ConfigError, local_model_path
from maniac_core.local.llama import LlamaError, check_file, loading_variables
from maniac_core.local.pull import verify
from maniac_core.services.capture.spool_file import SET_ASIDE, WAITING, count_records
from maniac_core.storage.base import StorageError


def run(arguments: argparse.Namespace) -> int:
    """Print the findings and return the exit status; 1: something does not work."""
    try:
        config, edge = load_core(arguments), load_edge(arguments)
        listen_address(config.core)
    except ConfigError as err:
        sys.stdout.write(f"{fail('configuration', str(err))}\n")
        return 1
    has_failed = False
    for finding in _findings(config, edge):
        sys.stdout.write(f"{with_options(str(finding), arguments)}\n")
        sys.stdout.flush()
        has_failed |= finding.level == "fail"
    return 1 if has_failed else 0


def _findings(config: Config, edge: EdgeSettings) -> Iterator[Finding]:
    yield _check_configuration(config)
    yield _check_data_dir(config)
    yield asyncio.run(_check_database(config))
    yield _check_spool(config)
    yield _check_llama()
    yield _check_model_file(config)
    yield from asyncio.run(check_providers(config, os.environ))
    yield from asyncio.run(_check_ports(config, edge))


def _check_configuration(config: Config) -> Finding:
    subject = "configuration"
    try:
        prerequisites.check(config.core, os.environ)
    except ConfigError as err:
        return fail(subject, str(err))
    return ok(subject, config.source or "no file, only the environment")


def _check_data_dir(config: Config) -> Finding:
    subject, folder = "data folder", config.core.data_dir.absolute()
    try:
        data_dir.require(folder, os.W_OK | os.X_OK)
    except FileNotFoundError:
        return warn(
            subject, f"{folder} is not there yet; the first `maniac-gateway serve` makes it"
        )
    except OSError as err:
        return fail(subject, describe(err))
    if not folder.is_dir():
        return fail(subject, f"{folder} is a file; name a folder with --data-dir")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return warn(subject, f"others can read {folder} (mode {mode:o}); chmod 700 it")
    return ok(subject, str(folder))


async def _check_database(config: Config) -> Finding:
    subject = "database"
    is_file = config.core.database_url == "sqlite"
    try:
        if is_file and not config.core.database_path.exists():
            return warn(
                subject,
                "not there yet; `maniac-gateway serve`, or `maniac-gateway migrate`, makes it",
            )
        async with opened(config.core) as database:
            # An empty transaction that takes the lock of a writer.
            await database.write([])
    except (OSError, ConfigError, StorageError) as err:
        return fail(subject, describe(err))
    where = config.core.database_path.absolute() if is_file else "PostgreSQL"
    return ok(subject, f"{where}: schema is current, can be written")


def _check_spool(config: Config) -> Finding:
    subject, folder = "spool", config.core.data_dir.absolute() / "spool"
    try:
        refused, waiting = (count_records(folder / name) for name in (SET_ASIDE, WAITING))
    except OSError as err:
        return fail(subject, describe(err))
    if refused:
        return fail(
            subject,
            f"{folder / SET_ASIDE} holds {refused} records that the database refused, the log says why; fix the cause, "
            f"stop the core, append the file to {WAITING}, remove it, and start again",
        )
    if waiting and not data_dir.is_locked(config.core.data_dir):
        return warn(subject, f"{waiting} records wait for the database; a core commits them")
    return ok(subject, f"{waiting} records wait for the database")


def _check_llama() -> Finding:
    subject = "llama.cpp"
    try:
        variables = loading_variables(os.environ)
    except LlamaError as err:
        is_there = importlib.util.find_spec("xllamacpp") is not None
        return fail(subject, str(err)) if is_there else warn(subject, f"no embedded model: {err}")
    with_runtime = ", with the OpenMP runtime that is installed beside it" if variables else ""
    return ok(subject, f"xllamacpp can be loaded{with_runtime}")


def _check_model_file(config: Config) -> Finding:
    subject, path = "model file", local_model_path(config.core)
    if path is None:
        return ok(subject, "switched off")
    pull = f"`maniac-gateway pull {DEFAULT_LOCAL_MODEL}`"
    is_default = not config.core.local_model
    try:
        is_there = path.is_file()
    except OSError as err:
        return fail(subject, describe(err))
    if not is_there:
        if is_default:
            return warn(subject, f"{path} is not there; {pull} fetches it")
        return fail(subject, f"{path} is not there; correct [core] local_model")
    try:
        check_file(path)
        is_sound = not is_default or verify(DEFAULT_LOCAL_MODEL, path)
    except (LlamaError, OSError) as err:
        remedy = f"delete it, then {pull}" if is_default else "correct [core] local_model"
        return fail(subject, f"{err}; {remedy}")
    if not is_sound:
        return fail(subject, f"{path} is damaged; delete it, then {pull}")
    return ok(subject, f"{path}{', checksum matches' if is_default else ''}")


async def _check_ports(config: Config, edge: EdgeSettings) -> list[Finding]:
    is_serving = data_dir.is_locked(config.core.data_dir)
    grpc_host, grpc_port = listen_address(config.core)
    local_port = config.core.local_port
    listens = (("core", config.core.metrics_listen), ("edge", edge.metrics_listen))
    metrics = [(table, *metrics_address(listen)) for table, listen in listens if listen]
    # All at the same time: each that accepts and says nothing takes two seconds.
    is_our_edge, is_our_model, *are_our_metrics = await asyncio.gather(
        answers(edge.local_host, edge.port, "/healthz"),
        answers("127.0.0.1", local_port, "/health"),
        *(answers(host, port, "/metrics") for _, host, port in metrics),
    )
    findings = [
        _port("HTTP port", edge.host, edge.port, is_our_edge, "[edge] port or --port"),
        _port("gRPC port", grpc_host, grpc_port, is_serving, "[core] listen or --grpc-port"),
    ]
    findings += [
        _port("relay port", wish.host, wish.port, is_serving, ports.RELAY_OPTION)
        for wish in ports.relay_wishes(config.core)
        if wish.port
    ]
    if local_model_path(config.core) is not None:
        is_ours = is_serving and is_our_model
        findings.append(_port("model port", "127.0.0.1", local_port, is_ours, "[core] local_port"))
    for (table, host, port), is_ours in zip(metrics, are_our_metrics, strict=True):
        subject = f"metrics port of the {table}"
        findings.append(_port(subject, host, port, is_ours, f"[{table}] metrics_listen"))
    return findings


def _port(subject: str, host: str, port: int, is_ours: bool, option: str) -> Finding:
    if ports.is_free(host, port):
        return ok(subject, f"{host}:{port} is free")
    if is_ours:
        return ok(subject, f"{host}:{port} is used by the running gateway")
    return fail(
        subject, f"{host}:{port} cannot be used, another program may have it; change {option}"
    )
