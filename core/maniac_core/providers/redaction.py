"""Credentials in what providers say: found by their form, and those of the gateway by any part of them.

A text is cleaned whole and shortened afterwards, so that no cut leaves a part of a key behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from maniac_core.providers.base import UpstreamFailure

REDACTED = "[redacted]"
LONGEST_MESSAGE = 500
"""Characters of a provider's words that are passed on."""
_LONGEST_PARAM = 100
# An error page may be long; nothing beyond this is looked at.
_LONGEST_READ = 4 * LONGEST_MESSAGE
# A key that is shorter may be a word of any message.
_SHORTEST_KEY = 6
# So many characters of a key in a row are not an accident.
_PART = 8
# The mark for the hidden part of a key.
_MASK = r"(?:[*\u2022\u2026\u00b7]+|\.{3,}|(?<=[\w-])[xX]{4,})"
_MASKED = re.compile(rf"[^\s\"'`,;:()=]*{_MASK}[^\s\"'`,;:()=]*")
_END = re.compile(r"[\w+/=-]{4,}")
# Between the shown ends of a masked key at least one of them has so many characters of it.
_SHOWN = 2

_PREFIXES = r"(?:sk|pk|rk|gsk|xai|hf|mk|nvapi|csk|tgp|fw|pplx)"
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=*\u2022\u2026-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(rf"\b{_PREFIXES}[-_][\w*.\u2022\u2026-]{{6,}}"), REDACTED),
    (re.compile(rf"\b{_PREFIXES}[-_][\w.-]*{_MASK}[\w*.\u2022\u2026-]*"), REDACTED),
    (re.compile(r"\bAIza[\w-]{10,}"), REDACTED),
    (re.compile(rf"\bAIza[\w-]*{_MASK}[\w*.\u2022\u2026-]*"), REDACTED),
    (re.compile(r"\bya29\.[\w.-]{6,}|\beyJ[\w-]{8,}\.[\w.-]{8,}|\bAKIA[0-9A-Z]{12,}"), REDACTED),
    (re.compile(r"\b(?:org-|proj_)[A-Za-z0-9]{16,}"), REDACTED),
    (re.compile(r"(?i)([?&](?:key|api[-_]?key|token)=)[^&\s\"']+"), rf"\1{REDACTED}"),
    (
        re.compile(r"(?i)(api[ _-]?key(?: provided)?\s*[:=]\s*)['\"]?[^\s'\",]{6,}"),
        rf"\1{REDACTED}",
    ),
)


def clean_line(text: str) -> str:
    """Return a provider's words as one line without anything that looks like a credential; it may be long."""
    if len(text) > _LONGEST_READ:
        # The rest of a word that was cut may be a part of a key.
        text = "".join(text[:_LONGEST_READ].rsplit(None, 1)[:1])
    line = " ".join(text.split())
    line = "".join(character for character in line if character.isprintable())
    for pattern, replacement in _PATTERNS:
        line = pattern.sub(replacement, line)
    return line


def shortened(line: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return a line cut to so many characters."""
    return line if len(line) <= longest else line[: longest - 1] + "…"


class Redactor:
    """Takes the keys of one provider out of what it says."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key for key in keys if len(key) >= _SHORTEST_KEY]
        self._parts: dict[int, set[str]] = {}
        for key in self._keys:
            for form in {key, quote(key, safe=""), quote_plus(key), key.replace("/", "\\/")}:
                size = min(_PART, len(form))
                parts = self._parts.setdefault(size, set())
                parts.update(form[start : start + size] for start in range(len(form) - size + 1))

    def clean(self, failure: UpstreamFailure) -> None:
        """Take the keys out of all that a failure tells, and shorten it then."""
        failure.message = shortened(self._without_keys(failure.untrimmed or failure.message))
        failure.untrimmed = None
        if failure.param is not None:
            failure.param = shortened(self._without_keys(failure.param), _LONGEST_PARAM)

    def _without_keys(self, line: str) -> str:
        if not self._keys:
            return line
        line = self._without_parts(line)
        line = _MASKED.sub(self._masked, line)
        return _END.sub(self._end, line)

    def _without_parts(self, line: str) -> str:
        hidden = bytearray(len(line))
        for size, parts in self._parts.items():
            for start in range(len(line) - size + 1):
                if line[start : start + size] in parts:
                    hidden[start : start + size] = b"\1" * size
        pieces: list[str] = []
        for position, character in enumerate(line):
            if not hidden[position]:
                pieces.append(character)
            elif position == 0 or not hidden[position - 1]:
                pieces.append(REDACTED)
        return "".join(pieces)

    def _masked(self, match: re.Match[str]) -> str:
        """Hide a word with a mask in it between the beginning and the end of a key."""
        word = match[0]
        start = re.split(_MASK, word, maxsplit=1)[0]
        end = re.split(_MASK, word)[-1].rstrip(".!?")
        for key in self._keys:
            if (len(start) >= _SHOWN and start[:_PART] == key[: len(start)][:_PART]) or (
                len(end) >= _SHOWN and key.endswith(end)
            ):
                return REDACTED
        return word

    def _end(self, match: re.Match[str]) -> str:
        """Hide a word that is the beginning or the end of a long key."""
        word = match[0]
        is_end = any(
            len(key) >= 2 * _PART and (key.endswith(word) or key.startswith(word))
            for key in self._keys
        )
        return REDACTED if is_end else word
