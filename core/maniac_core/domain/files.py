"""Files: opaque bytes that a project keeps under an id."""

from __future__ import annotations

import msgspec


class File(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a stored file."""

    id: str
    """Bare UUID, and the key of the bytes in the object store."""
    filename: str
    """Exactly as it was given; it never names a path."""
    purpose: str
    size_bytes: int
    sha256: str
    """Of the bytes, in lower-case hex."""
    created: int
    """Unix seconds."""
    deleted: int | None = None
    """Unix seconds."""
