"""The edge's app: routes, and what wraps them. The only module that knows every other.

A resource is `schemas/NAME.py`, `convert/NAME.py` and `controllers/NAME.py`. The controller module exports HANDLERS, which
are mounted under each base path, and OPERATIONS, which describe them; it is added to `_RESOURCES` here. Handlers read
with a BodyReader, `validation.decode_body` and `validation.read_query`, and raise EdgeError.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from litestar import Litestar, Router, asgi
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send
from maniac_common.config_file import ConfigError
from maniac_common.telemetry import exports_traces

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.controllers import (
    completions,
    containers,
    datasets,
    evaluation_runs,
    evaluators,
    files,
    health,
    models,
    optimization_runs,
    reference,
    registration,
    replay,
    rlm_responses,
    traces,
    usage,
)
from maniac_edge.controllers import (
    responses as stored_responses,
)
from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.client import CoreClient
from maniac_edge.core.relay import RelayChat
from maniac_edge.exception_handlers import exception_handlers, method_not_allowed
from maniac_edge.http.cors import CorsMiddleware
from maniac_edge.http.middleware import RequestMiddleware
from maniac_edge.http.proxies import Proxies
from maniac_edge.observe.access_log import AccessLog
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.wires.answerer import Answerer
from maniac_edge.wires.chat import wire as chat
from maniac_edge.wires.handler import WireHandler
from maniac_edge.wires.messages import wire as messages
from maniac_edge.wires.responses import wire as responses
from maniac_edge.wires.route import WireRoute

_BASE_PATHS = ("/v1", "/api/v1")
_CHAT_PATHS = tuple(f"{base}/chat/completions" for base in _BASE_PATHS)
_RESOURCES = (
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
    stored_responses,
)
_OPERATIONS = tuple(
    operation
    for module in (chat, messages, responses, *_RESOURCES, health, reference)
    for operation in module.OPERATIONS
)


class App(NamedTuple):
    """What the server runs, and what it may say to it."""

    asgi: ASGIApp
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
    chat_handler = WireHandler(chat.ChatWire(config), answerer, bodies)
    handlers = [handler for module in _RESOURCES for handler in module.HANDLERS]
    app = Litestar(
        route_handlers=[
            *_chat_routes(core, bodies, chat_handler),
            *(Router(path, route_handlers=handlers) for path in _BASE_PATHS),
            *health.HANDLERS,
            *reference.reference_handlers(_OPERATIONS),
        ],
        dependencies={
            "core": Provide(lambda: core, sync_to_thread=False),
            "answerer": Provide(lambda: answerer, sync_to_thread=False),
            "config": Provide(lambda: config, sync_to_thread=False),
            "bodies": Provide(lambda: bodies, sync_to_thread=False),
        },
        exception_handlers=exception_handlers(
            chat_transport, [operation.path for operation in _OPERATIONS]
        ),
        on_startup=[core.connect, chat_transport.connect],
        on_shutdown=[chat_transport.close, core.close],
        openapi_config=None,
        logging_config=None,
    )
    messages_handler = WireHandler(messages.MessagesWire(), answerer, bodies)
    responses_handler = WireHandler(responses.ResponsesWire(), answerer, bodies)
    wires = {
        **dict.fromkeys(_CHAT_PATHS, chat_handler),
        **dict.fromkeys(messages.PATHS, messages_handler),
        **dict.fromkeys(responses.PATHS, responses_handler),
    }
    asgi: ASGIApp = WireRoute(app, wires, chat_transport)
    asgi = _observed(asgi, app, chat_transport, config)
    if config.cors_origins:
        asgi = CorsMiddleware(asgi, config.cors_origins)
    access_log = AccessLog(config.log_format, sys.stderr)
    app.on_shutdown.append(access_log.flush)
    return App(RequestMiddleware(asgi, access_log, Proxies(config.trusted_proxies)), app.state)


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


def _chat_routes(
    core: CoreClient, bodies: BodyReader, handler: WireHandler
) -> list[ASGIRouteHandler]:
    async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
        # One raw route for all verbs. Only what WireRoute leaves, such as a path with a slash at its end, comes here.
        context: RequestContext = scope["state"]["context"]
        match scope["method"]:  # type: ignore[typeddict-item]
            case "POST":
                await handler.create(scope, receive, send, context)
            case "GET":
                await completions.list_completions(
                    scope, receive, send, context, core=core, bodies=bodies
                )
            case "OPTIONS":
                headers = [(b"allow", b"GET, HEAD, OPTIONS, POST")]
                await send({"type": "http.response.start", "status": 204, "headers": headers})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            case _:
                raise method_not_allowed("GET, OPTIONS, POST")

    return [asgi(list(_CHAT_PATHS), copy_scope=False)(chat_completions)]
