"""Google Cloud's credentials by google-auth: a service account, a user's, a workload's, the machine's own."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base import HttpCall
from maniac_core.providers.signing import CredentialsError, Renewed

_log = logging.getLogger(__name__)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Of tokens that do not say how long they live.
_LIFETIME_S = 600.0

Headers = tuple[tuple[str, str], ...]


class GoogleSigner:
    """Adds a bearer token; see `Signer`."""

    def __init__(self, provider: str, config: ProviderConfig) -> None:
        del config
        self._provider = provider
        # Of google-auth, which is typed in part only.
        self._credentials: Any = None
        self._headers: Renewed[Headers] = Renewed(provider, self._fetch)

    async def sign(self, call: HttpCall) -> HttpCall:
        """Return a request with the token.

        Raises:
            CredentialsError: there is none.
        """
        headers = await self._headers.get()
        return msgspec.structs.replace(call, headers=(*call.headers, *headers))

    async def keep_fresh(self) -> None:
        """Renew the token before it expires, for ever."""
        await self._headers.keep_fresh()

    def refused(self) -> None:
        """Get another token for the next request."""
        self._headers.forget()

    def _fetch(self) -> tuple[Headers, float]:
        """Return the headers with a new token, and its seconds; blocks."""
        try:
            import google.auth  # noqa: PLC0415 - an extra, and slow to import
            from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
            from google.auth.transport.requests import Request  # noqa: PLC0415
        except ImportError:
            install = KNOWN_PROVIDERS["vertex"].install
            raise CredentialsError(f"Vertex AI needs google-auth: {install}") from None
        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[_SCOPE])
            self._credentials.refresh(Request())
        except GoogleAuthError as err:
            # What it holds is of whoever gave the token, and not for callers.
            _log.warning("provider %s gets no token: %s", self._provider, err)
            raise CredentialsError(
                "Google Cloud gives no token: check GOOGLE_APPLICATION_CREDENTIALS and the log"
            ) from None
        given: dict[str, Any] = {}
        self._credentials.apply(given)
        return tuple((str(name), str(value)) for name, value in given.items()), self._left_s()

    def _left_s(self) -> float:
        expiry: datetime | None = self._credentials.expiry
        if expiry is None:
            return _LIFETIME_S
        # Without a zone, and in UTC.
        return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
