"""The TLS settings upstreams are reached with."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from maniac_core.providers.transport.base import TransportError, TransportErrorKind


def default_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Make a context which verifies certificate and host name against the system's authorities.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` in `environ` replace the system's authorities.
    Reads files: tens of milliseconds.

    Raises:
        TransportError: TLS, when those name nothing that can be loaded.

    """
    cafile = environ.get("SSL_CERT_FILE") or None
    capath = environ.get("SSL_CERT_DIR") or None
    try:
        context = ssl.create_default_context(cafile=cafile, capath=capath)
    except OSError as error:
        raise TransportError(
            TransportErrorKind.TLS,
            f"cannot load the authorities named by SSL_CERT_FILE or SSL_CERT_DIR: {error}",
            sent=False,
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
