"""Whether metrics and traces are wanted, and where; nothing here loads what makes them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s\[\]:/]+)):(\d{1,5})")
_OTLP = "OTEL_EXPORTER_OTLP_"


def metrics_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 address stands in brackets, which are not returned.

    Raises:
        ValueError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) <= 65535:
        raise ValueError(f"`metrics_listen`: {address!r} is not HOST:PORT")
    return match[1] or match[2], int(match[3])


def exports_traces(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces over OTLP.

    Raises:
        ValueError: they ask for a protocol that is not spoken here.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        return False
    if not (environ.get(f"{_OTLP}ENDPOINT") or environ.get(f"{_OTLP}TRACES_ENDPOINT")):
        return False
    protocol = environ.get(f"{_OTLP}TRACES_PROTOCOL") or environ.get(f"{_OTLP}PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise ValueError(f"{_OTLP}PROTOCOL: {protocol!r} is not supported; set http/protobuf")
    return True
