"""BodyCipher: requests and answers encrypted at rest, with keys that can be changed.

A sealed body is a zero byte and `mg1`, four bytes that name its key, a nonce of 12 bytes, and AES-256-GCM's output. It is bound to its
completion and column, so that bodies cannot be exchanged in the database. JSON never begins with a zero byte, so bodies
from before the encryption are recognised and read as they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from maniac_core.domain.canonical_json import content_hash
from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import BODY_COLUMNS

_MARK = b"\0mg1"
_ID_BYTES, _NONCE_BYTES, _KEY_BYTES = 4, 12, 32
_HEAD_BYTES = len(_MARK) + _ID_BYTES + _NONCE_BYTES


class BodyCipher:
    """Seals with the first key, and opens with any."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])

    def seal(self, body: bytes, completion: str, column: str) -> bytes:
        """Return a body encrypted; one that is sealed already stays as it is."""
        if body.startswith(_MARK):
            return body
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, body, _bound(completion, column))
        return b"".join((_MARK, self._first, nonce, sealed))

    def open(self, body: bytes, completion: str, column: str) -> bytes:
        """Return a body as it was sealed; as it is if it was not, or if no key opens it."""
        if not body.startswith(_MARK):
            return body
        cipher = self._ciphers.get(body[len(_MARK) : len(_MARK) + _ID_BYTES])
        if cipher is None:
            return body
        nonce = body[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES]
        try:
            return cipher.decrypt(nonce, body[_HEAD_BYTES:], _bound(completion, column))
        except InvalidTag:
            # Changed, or moved here from elsewhere. Readers show a value that is not JSON as unreadable.
            return body

    def is_current(self, body: bytes) -> bool:
        """Whether a body is sealed with the first key."""
        return body.startswith(_MARK + self._first)

    def seal_record(self, record: CompletionRecord) -> CompletionRecord:
        """Return a record with its bodies sealed, and the hash of what they hold."""
        sealed = {
            column: self.seal(body, record.id, column)
            for column in BODY_COLUMNS
            if (body := getattr(record, column)) is not None
        }
        if not sealed:
            return record
        digest = record.content_hash
        if digest is None and record.input is not None:
            digest = content_hash(record.input, record.output)
        return msgspec.structs.replace(record, content_hash=digest, **sealed)

    def open_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with its bodies opened."""
        opened = {
            column: self.open(body, row["id"], column)
            for column in BODY_COLUMNS
            if column in row.keys()  # noqa: SIM118 - sqlite3.Row iterates over its values
            and (body := row[column]) is not None
            and body.startswith(_MARK)
        }
        return {**dict(row), **opened} if opened else row


def read_keys(text: str) -> list[bytes]:
    """Return the keys of a setting: base64 or hex of 32 bytes each, with commas between them.

    Raises:
        ValueError: one of them is not a key; the message does not show it.
    """
    return [_key(part.strip(), number) for number, part in enumerate(text.split(","), 1)]


def _key(text: str, number: int) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _KEY_BYTES else base64.b64decode(text)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"key {number} is not 32 bytes in base64; make one with `openssl rand -base64 32`"
        )
    return key


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"maniac body key" + key).digest()[:_ID_BYTES]


def _bound(completion: str, column: str) -> bytes:
    return f"{completion}\0{column}".encode("utf-8", "surrogateescape")
