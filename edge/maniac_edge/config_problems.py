"""Says what is wrong in the `[edge]` table or in a variable for it: where it stands, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import get_args, get_type_hints

import msgspec

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_AT = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what to add to the refusal of a name: the nearest one that is known, if any is near."""
    import difflib  # noqa: PLC0415 - only for a refusal

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean `{found[0]}`?" if found else ""


def explain(
    err: msgspec.ValidationError,
    kind: type[msgspec.Struct],
    text: str,
    *,
    file: str | None,
    sources: Mapping[str, str],
) -> str:
    """Return what to tell about a table that could not be converted to `kind`.

    `text` is the file's; `sources` says of keys that are not from the file where they come from.
    """
    message = str(err)
    at = _AT.search(message)
    message = message[: at.start()] if at else message
    unknown = _UNKNOWN.fullmatch(message)
    if unknown:
        key = unknown[1]
        message = f"unknown key `{key}`{did_you_mean(key, get_type_hints(kind))}"
    elif at:
        key = at[1]
        if message.startswith("Invalid enum value"):
            values = ", ".join(map(str, get_args(get_type_hints(kind)[key])))
            message = f"{message.removeprefix('Invalid enum value ')} is not one of {values}"
        message = f"`{key}`: {message[:1].lower()}{message[1:]}"
    else:
        # Ours name their key first.
        key = (re.findall(r"^`?(\w+)`?:? ", message) or [""])[0]
    if key in sources:
        return f"{sources[key]}: {message}"
    if file is None:
        return f"[edge]: {message}"
    line = _line_of(text, key)
    return f"{file}{f', line {line}' if line else ''}: [edge]: {message}"


def _line_of(text: str, key: str) -> int | None:
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        opened = re.match(r"\s*\[\s*([^\]]*?)\s*\]", line)
        if opened:
            table = opened[1]
        elif table in ("", "edge"):
            words = re.findall(r"[\w-]+", line.partition("=")[0].partition("#")[0])
            if words == ([key] if table else ["edge", key]):
                return number
    return None
