"""A gateway with metrics and traces on, and what tests of either ask of it."""

from __future__ import annotations

from pathlib import Path

import httpx
from collector import Collector
from gateway import Gateway
from ports import free_ports

CONFIG = """
[core]
rate_limit = 0
local_model = "off"
metrics_listen = "127.0.0.1:{core}"
[edge]
metrics_listen = "127.0.0.1:{edge}"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
models = ["m1", "m2"]
max_retries = 1
breaker = false
[providers.open]
kind = "openai"
base_url = "{base_url}"
max_retries = 0
breaker = false
[providers.openai]
base_url = "{base_url}"
max_retries = 0
[providers.frail]
kind = "openai"
base_url = "{base_url}"
models = ["m1"]
max_retries = 0
"""
PROMPT = "the secret prompt"


class Observed:
    """A gateway with everything on, and its collector."""

    def __init__(self, gateway: Gateway, collector: Collector, core: str, edge: str) -> None:
        self.gateway = gateway
        self.collector = collector
        self.core_metrics = core
        self.edge_metrics = edge

    def ask(self, model: str, *, trace_id: str = "", **more: object) -> httpx.Response:
        """Send a chat request."""
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"} if trace_id else {}
        with self.gateway.client() as client:
            return client.post(
                "/v1/chat/completions", json=chat_body(model, **more), headers=headers
            )


def chat_body(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}


def start_observed(folder: Path, base_url: str) -> Observed:
    """Start it, with a provider there."""
    core, edge = free_ports(2)
    collector = Collector()
    gateway = Gateway(
        folder,
        CONFIG.format(base_url=base_url, core=core, edge=edge),
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OPENAI_API_KEY": "sk-upstream",
        },
    )
    gateway.start()
    return Observed(
        gateway, collector, f"http://127.0.0.1:{core}/metrics", f"http://127.0.0.1:{edge}/metrics"
    )
