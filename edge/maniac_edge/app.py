"""The edge's app: routes, and what wraps them. The only module that knows every other.

A resource is `schemas/NAME.py`, `convert/NAME.py` and `controllers/NAME.py`. The controller module exports HANDLERS, which
`@operation` made; it is added to `_RESOURCES` here, mounted under each base path, and documented. Handlers read with a
BodyReader, `validation.decode_body` and `validation.read_query`, and raise EdgeError.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp
from maniac_common.config_file import ConfigError
from maniac_common.telemetry import exports_traces

from maniac_edge.config import EdgeConfig
from maniac_edge.controllers import (
    chat,
    completions,
    containers,
    datasets,
    embeddings,
    evaluation_runs,
    evaluators,
    files,
    gemini_models,
    health,
    messages,
    models,
    optimization_runs,
    reference,
    registration,
    replay,
    responses,
    rlm_responses,
    text_completions,
    traces,
    usage,
)
from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.client import CoreClient
from maniac_edge.core.relay import RelayChat
from maniac_edge.exception_handlers import exception_handlers
from maniac_edge.http.cors import CorsMiddleware
from maniac_edge.http.middleware import RequestMiddleware
from maniac_edge.http.openapi import document
from maniac_edge.http.operation import endpoints, options_handlers
from maniac_edge.http.proxies import Proxies
from maniac_edge.http.responses import encode
from maniac_edge.observe.access_log import AccessLog
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.wires.answerer import Answerer
from maniac_edge.wires.chat.wire import ChatWire
from maniac_edge.wires.completions.wire import CompletionsWire
from maniac_edge.wires.embeddings.wire import EmbeddingsWire
from maniac_edge.wires.gemini.wire import GeminiHandler
from maniac_edge.wires.handler import WireHandler
from maniac_edge.wires.messages.wire import MessagesWire
from maniac_edge.wires.responses import socket
from maniac_edge.wires.responses.compact import CompactWire
from maniac_edge.wires.responses.socket import ResponsesSocket
from maniac_edge.wires.responses.wire import ResponsesWire
from maniac_edge.wires.route import WireRoute

_BASE_PATHS = ("/v1", "/api/v1")
_RESOURCES = (
    chat,
    messages,
    responses,
    embeddings,
    text_completions,
    completions,
    replay,
    registration,
    containers,
    files,
    models,
    traces,
    evaluators,
    usage,
    datasets,
    evaluation_runs,
    optimization_runs,
    rlm_responses,
)
_HANDLERS = [handler for module in _RESOURCES for handler in module.HANDLERS]
_ROOT_HANDLERS = (*health.HANDLERS, *reference.HANDLERS, *gemini_models.HANDLERS)
_ENDPOINTS = (*endpoints(_HANDLERS, _BASE_PATHS[0]), *endpoints(_ROOT_HANDLERS))


class App(NamedTuple):
    """What the server runs, and what it may say to it."""

    asgi: ASGIApp
    sockets: ASGIApp
    """Serves WebSockets."""
    socket_paths: frozenset[bytes]
    state: State


def create_app(config: EdgeConfig) -> App:
    """Return the app. It connects to the core on start-up, without waiting for it.

    Raises:
        ConfigError: the environment asks for traces that cannot be made, or a certificate cannot be read.
        OSError: the address for metrics cannot be listened on.
    """
    channels = CoreChannels(config)
    core = CoreClient(config, channels)
    chat_transport = RelayChat(core, config, channels)
    bodies = BodyReader(chat_transport, config)
    answerer = Answerer(chat_transport, config)
    chat_wire = WireHandler(ChatWire(config), answerer, bodies)
    messages_wire = WireHandler(MessagesWire(), answerer, bodies)
    responses_wire = WireHandler(ResponsesWire(), answerer, bodies)
    embeddings_wire = WireHandler(EmbeddingsWire(), answerer, bodies)
    completions_wire = WireHandler(CompletionsWire(), answerer, bodies)
    handlers = [*options_handlers(_HANDLERS), *_HANDLERS]
    app = Litestar(
        route_handlers=[
            *(Router(path, route_handlers=handlers) for path in _BASE_PATHS),
            *options_handlers(_ROOT_HANDLERS),
            *_ROOT_HANDLERS,
        ],
        dependencies={
            "core": _given(core),
            "answerer": _given(answerer),
            "config": _given(config),
            "bodies": _given(bodies),
            "chat": _given(chat_wire),
            "messages": _given(messages_wire),
            "responses": _given(responses_wire),
            "compaction": _given(WireHandler(CompactWire(), answerer, bodies)),
            "embeddings": _given(embeddings_wire),
            "text_completions": _given(completions_wire),
            "document": Provide(
                lambda: encode(document(_ENDPOINTS)), use_cache=True, sync_to_thread=False
            ),
        },
        exception_handlers=exception_handlers(
            chat_transport, [endpoint.path for endpoint in _ENDPOINTS]
        ),
        on_startup=[core.connect, chat_transport.connect],
        on_shutdown=[chat_transport.close, core.close],
        openapi_config=None,
        logging_config=None,
    )
    wires = {
        base + path: wire
        for handler, wire in (
            (chat.create_chat_completion, chat_wire),
            (messages.create_message, messages_wire),
            (responses.create_response, responses_wire),
            (embeddings.create_embeddings, embeddings_wire),
            (text_completions.create_completion, completions_wire),
        )
        for base in _BASE_PATHS
        for path in handler.paths
    }
    gemini = GeminiHandler(answerer, bodies, core)
    asgi: ASGIApp = WireRoute(app, wires, gemini, chat_transport)
    asgi = _observed(asgi, app, chat_transport, config)
    if config.cors_origins:
        asgi = CorsMiddleware(asgi, config.cors_origins)
    access_log = AccessLog(config.log_format, sys.stderr)
    app.on_shutdown.append(access_log.flush)
    proxies = Proxies(config.trusted_proxies)
    requests = RequestMiddleware(asgi, access_log, proxies)
    sockets = ResponsesSocket(requests, chat_transport, proxies)
    return App(requests, sockets, socket.PATHS, app.state)


def _given(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _observed(asgi: ASGIApp, app: Litestar, relay: RelayChat, config: EdgeConfig) -> ASGIApp:
    """Measure and trace requests, where it is wanted; what does it is not even loaded where it is not."""
    if config.metrics_listen:
        from maniac_edge.observe.metrics import Metrics  # noqa: PLC0415

        metrics = Metrics(relay.links)
        metrics.listen(config.metrics_listen)
        asgi = metrics.wrap(asgi)
        app.on_shutdown.append(metrics.close)
    try:
        is_traced = exports_traces(os.environ)
    except ValueError as err:
        raise ConfigError(str(err)) from None
    if is_traced:
        from maniac_edge.observe.tracing import Tracing  # noqa: PLC0415

        tracing = Tracing()
        asgi = tracing.wrap(asgi)
        app.on_shutdown.append(tracing.close)
    return asgi
