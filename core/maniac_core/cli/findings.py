"""One line of a `doctor` report."""

from __future__ import annotations

from typing import Literal

import msgspec

from maniac_core.masking import mask


class Finding(msgspec.Struct, frozen=True):
    """The finding about one subject, and, unless all is well, the remedy."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str

    def __str__(self) -> str:
        """Return the line, without the secrets that an address in it may hold."""
        return f"{self.level:<5} {self.subject}: {mask(self.text)}"


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str) -> Finding:
    """It works, but not all of it, or not yet."""
    return Finding("warn", subject, text)


def fail(subject: str, text: str) -> Finding:
    """It does not work."""
    return Finding("fail", subject, text)
