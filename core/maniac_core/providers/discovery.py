"""Asks providers which models they serve, over the transport that calls them. Off the request path."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base import Dialect
from maniac_core.providers.listing import DiscoveredModel, ModelPage, ModelsRequest, check_size
from maniac_core.providers.transport import (
    Deadlines,
    Transport,
    TransportError,
    TransportErrorKind,
    UpstreamRequest,
)

_log = logging.getLogger(__name__)
_TIMEOUT_S = 15.0
# Of one provider, all pages together and after decompression.
_MAX_BYTES = 8 * 1024 * 1024
_MAX_MODELS = 10_000
_MAX_PAGES = 20
# One deadline bounds all of it.
_DEADLINES = Deadlines(connect_s=None, headers_s=None, idle_s=None)


class DiscoveryError(Exception):
    """A provider did not say which models it serves."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of an answer that is not a success."""


class Discovery:
    """Asks one provider."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        dialect: Dialect,
        transport: Transport,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._name = name
        self._config = config
        self._dialect = dialect
        self._transport = transport
        self._timeout_s = timeout_s

    async def models(self, key: str | None) -> list[DiscoveredModel]:
        """Return the models that the provider lists, 10,000 at most; none if it has no list.

        Raises:
            DiscoveryError: it cannot be reached, refuses, takes too long, or answers something else.
        """
        models: list[DiscoveredModel] = []
        odd: dict[str, None] = {}
        after: str | None = None
        left = _MAX_BYTES
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(_MAX_PAGES):
                    request = self._request(key, after)
                    if request is None:
                        break
                    body = await self._get(request, left)
                    left -= len(body)
                    # A large one takes long enough to hold up requests.
                    page = await asyncio.to_thread(self._read, body)
                    models += page.models
                    odd.update(dict.fromkeys(page.odd))
                    if page.next is None or page.next == after or len(models) >= _MAX_MODELS:
                        break
                    after = page.next
        except TimeoutError:
            raise DiscoveryError(f"does not answer within {self._timeout_s:.0f} s") from None
        if odd:
            _log.warning(
                "provider %s lists models with entries or fields that make no sense, which are left out: %s",
                self._name,
                ", ".join(odd),
            )
        return models[:_MAX_MODELS]

    def _request(self, key: str | None, after: str | None) -> ModelsRequest | None:
        try:
            return self._dialect.models_request(self._name, self._config, key, after)
        except ValueError as err:
            # The text of such an error does not repeat the URL.
            raise DiscoveryError(f"cannot be called ({err})") from err

    async def _get(self, request: ModelsRequest, limit: int) -> bytes:
        try:
            response = await self._transport.send(
                UpstreamRequest("GET", request.url, request.headers), _DEADLINES
            )
        except TransportError as err:
            raise DiscoveryError(f"cannot be reached ({err.message})") from err
        except ValueError as err:
            # The text of such an error does not repeat the URL.
            raise DiscoveryError(f"cannot be called ({err})") from err
        try:
            if response.status != 200:
                raise DiscoveryError(f"answers {response.status}", response.status)
            return await response.read_all(limit)
        except TransportError as err:
            if err.kind is TransportErrorKind.BODY_TOO_LARGE:
                raise DiscoveryError(
                    f"returned a model list of more than {_MAX_BYTES} bytes"
                ) from err
            raise DiscoveryError("broke off in the middle of the model list") from err
        finally:
            response.close()

    def _read(self, body: bytes) -> ModelPage:
        try:
            check_size(body)
            return self._dialect.read_models(body)
        except (ValueError, msgspec.DecodeError, RecursionError) as err:
            raise DiscoveryError("returned a model list that could not be parsed") from err
