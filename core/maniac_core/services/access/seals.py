"""Seals: what a client carries from one request to the next, and can neither read nor forge.

The reasoning of a model has to come back to its provider as it was: signatures of Anthropic and Gemini, encrypted
items of OpenAI, the plain thinking of DeepSeek. APIs in which that has no place of its own carry it sealed.
"""

from __future__ import annotations

import base64
import binascii
import os

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.storage.stores.secrets import SecretStore

_NAME = "seals"
_PREFIX = "mgs1."
_NONCE_BYTES = 12
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(JsonObject).decode


class Seals:
    """Seals values for one project, so that no other project can use them."""

    def __init__(self, secrets: SecretStore) -> None:
        self._secrets = secrets
        self._key: bytes | None = None

    async def of(self, project: int) -> ProjectSeals:
        """Return the seals of a project.

        Raises:
            StorageError: the database cannot be reached, and this core has not asked for the key before.
        """
        if self._key is None:
            self._key = await self._secrets.get(_NAME)
        return ProjectSeals(self._key, project)


class ProjectSeals:
    """Seals of one project."""

    def __init__(self, key: bytes, project: int) -> None:
        # Only where it is needed: importing it takes as long as a few requests.
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

        self._cipher = ChaCha20Poly1305(key)
        self._project = b"%d" % project

    def seal(self, value: JsonObject) -> str:
        """Return a value as text that only `open` can read."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, _encode(value), self._project)
        return _PREFIX + base64.urlsafe_b64encode(sealed).decode()

    def open(self, text: str, param: str) -> JsonObject:
        """Return what was sealed.

        Raises:
            GatewayError: INVALID_VALUE: the text was not made by this install for this project.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            sealed = base64.b64decode(text.removeprefix(_PREFIX), altchars=b"-_", validate=True)
            nonce, data = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return _decode(self._cipher.decrypt(nonce, data, self._project))
        except (ValueError, binascii.Error, InvalidTag, msgspec.DecodeError):
            raise GatewayError(
                Reason.ERROR_REASON_INVALID_VALUE,
                f"{param} was not made by this gateway for this project; send it back as it came, or leave it out.",
                param=param,
            ) from None


def is_sealed(text: str) -> bool:
    """Say whether a text claims to be a seal."""
    return text.startswith(_PREFIX)
