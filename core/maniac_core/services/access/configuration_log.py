"""Enters a changed configuration in the audit log when a core starts with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from maniac_core.config.core import Config
from maniac_core.domain.audit import Actor
from maniac_core.storage.stores.audit import AuditStore

_CORE = Actor(kind="core")
# These differ between the cores of one database, and say nothing of what the gateway does.
_OF_ONE_CORE = frozenset(
    {"data_dir", "listen", "socket", "local_model", "local_port", "metrics_listen", "log_format"}
)
_DIGITS = 16


async def note_configuration(store: AuditStore, config: Config) -> None:
    """Compare the configuration with the one of the last start, and enter the names of the keys that differ.

    Values are kept as digests: they only have to be compared, and some are nobody's business.

    Raises:
        StorageError: the log cannot be read or written.
    """
    now = dict(_digests(config))
    last = await store.latest("configuration.changed")
    before: dict[str, str] = {} if last is None else last.details["digests"]
    changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
    if changed:
        details = {"changed": [] if last is None else changed, "digests": now}
        await store.add(_CORE, "configuration.changed", config.source or "defaults", details)


def _digests(config: Config) -> Iterator[tuple[str, str]]:
    tables: dict[str, Any] = {
        "core": _builtins(config.core),
        **{f"providers.{name}": _builtins(table) for name, table in config.providers.items()},
    }
    for name, table in tables.items():
        for key, value in table.items():
            if name != "core" or key not in _OF_ONE_CORE:
                text = msgspec.json.encode(_without_password(value))
                yield f"{name}.{key}", hashlib.sha256(text).hexdigest()[:_DIGITS]


def _builtins(table: object) -> Mapping[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(table, enc_hook=str)
    return found


def _without_password(value: Any) -> Any:
    """Return a value whose digest may be kept: an address without its credentials."""
    if isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        return [parts.scheme, parts.netloc.rpartition("@")[2], parts.path]
    return value
