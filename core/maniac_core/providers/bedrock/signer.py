"""AWS credentials by botocore, and requests signed with them: Signature Version 4."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from maniac_common.turns import LARGE_BYTES

from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base import HttpCall
from maniac_core.providers.signing import CredentialsError, Renewed

_log = logging.getLogger(__name__)
_SERVICE = "bedrock"
# botocore renews what expires a quarter of an hour before it does; it is asked again after this.
_KEPT_S = 300.0
# botocore's name for the metadata service of the machine.
_INSTANCE = "iam-role"


class AwsSigner:
    """Signs requests; see `Signer`."""

    def __init__(self, provider: str, config: ProviderConfig) -> None:
        self._provider = provider
        self._region = config.region
        self._instance_role = config.instance_role
        # Of botocore, which is not typed.
        self._credentials: Any = None
        self._frozen: Renewed[Any] = Renewed(provider, self._fetch)

    async def sign(self, call: HttpCall) -> HttpCall:
        """Return a request with its signature.

        Raises:
            CredentialsError: there are no credentials.
        """
        frozen = await self._frozen.get()
        if len(call.body) > LARGE_BYTES:
            # The whole body is hashed.
            headers = await asyncio.to_thread(self._headers, frozen, call)
        else:
            headers = self._headers(frozen, call)
        return msgspec.structs.replace(call, headers=(*call.headers, *headers))

    async def keep_fresh(self) -> None:
        """Renew the credentials before they expire, for ever."""
        await self._frozen.keep_fresh()

    def refused(self) -> None:
        """Get other credentials for the next request."""
        self._credentials = None
        self._frozen.forget()

    def _headers(self, frozen: Any, call: HttpCall) -> tuple[tuple[str, str], ...]:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - an extra; loaded with the credentials
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        request = AWSRequest("POST", call.url, {"Content-Type": "application/json"}, call.body)
        SigV4Auth(frozen, _SERVICE, self._region).add_auth(request)
        return tuple(
            (name.lower(), value)
            for name, value in request.headers.items()
            if name.lower() != "content-type"
        )

    def _fetch(self) -> tuple[Any, float]:
        """Return credentials that do not change, and for how long they are used; blocks."""
        try:
            import botocore.auth  # noqa: PLC0415 - an extra, and slow to import
            import botocore.session  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ImportError:
            install = KNOWN_PROVIDERS["bedrock"].install
            raise CredentialsError(f"Bedrock needs botocore: {install}") from None
        try:
            # They may be refused, and forgotten, while this goes on.
            credentials = self._credentials
            if credentials is None:
                chain = botocore.session.Session().get_component("credential_provider")
                if not self._instance_role:
                    chain.remove(_INSTANCE)
                credentials = self._credentials = chain.load_credentials()
            if credentials is not None:
                return credentials.get_frozen_credentials(), _KEPT_S
        except BotoCoreError as err:
            # What it holds is of whoever gives the credentials, and not for callers.
            _log.warning("provider %s gets no credentials: %s", self._provider, err)
            raise CredentialsError("AWS gives no credentials: see the log") from None
        raise CredentialsError(
            "no AWS credentials are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or "
            "AWS_BEARER_TOKEN_BEDROCK, or instance_role = true for those of the machine"
        )
