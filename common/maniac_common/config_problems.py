"""Says what is wrong in a table of a configuration: where it stands, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec import inspect

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")
_SECRET = re.compile(r"(?i)(.*_)?(api_?)?(key|token|secret|password)")
_FEW = 8


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that was probably meant, if any is near."""
    import difflib  # noqa: PLC0415 - only for a refusal

    by_form = {_form(name): name for name in known}
    found = difflib.get_close_matches(_form(word), by_form, n=1, cutoff=0.7)
    return by_form[found[0]] if found else None


def _form(word: str) -> str:
    return re.sub(r"[-_]+", "_", word).lower()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what to add to a refusal of `word`: the nearest name, or all if they are few, or nothing."""
    names = list(known)
    near = nearest(word, names)
    if near:
        return f"; did you mean `{near}`?"
    return f"; known: {', '.join(names)}" if names and len(names) <= _FEW else ""


class Problem(msgspec.Struct, frozen=True):
    """The reason why a table was refused."""

    key: str
    """The key of the table that it is about; empty: the table as a whole."""
    text: str


def problem_of(err: msgspec.ValidationError, kind: type[msgspec.Struct]) -> Problem:
    """Return what is wrong in a table that could not be converted to `kind`."""
    message = str(err)
    at = _AT.search(message)
    path = [step[1] or "" for step in _STEP.finditer(at[1])] if at else []
    message = message[: at.start()] if at else message
    where = "".join(f"`{name}`: " for name in [".".join(filter(None, path))] if name)
    first = next(filter(None, path), "")
    found = _type_at(inspect.type_info(kind), path)
    unknown = _UNKNOWN.fullmatch(message)
    if unknown:
        return Problem(first or unknown[1], f"{where}{_unknown_key(unknown[1], found)}")
    if message.startswith("Invalid enum value") and isinstance(found, inspect.LiteralType):
        given = message.removeprefix("Invalid enum value ").strip("'")
        values = [str(value) for value in found.values]
        near = nearest(given, values)
        hint = f"; did you mean {near!r}?" if near else ""
        return Problem(first, f"{where}{given!r} is not one of {', '.join(values)}{hint}")
    if not at:
        # Ours name their key first.
        named = re.match(r"`(\w+)`", message)
        first = named[1] if named else ""
    return Problem(first, f"{where}{message[:1].lower() if where else message[:1]}{message[1:]}")


def _unknown_key(key: str, found: inspect.Type | None) -> str:
    known = [field.name for field in found.fields] if isinstance(found, inspect.StructType) else []
    if "api_key_env" in known and _SECRET.fullmatch(key):
        return (
            f"`{key}` is not a key of this table: a secret never stands in the file. Put it into an environment "
            'variable and name that: `api_key_env = "OPENAI_API_KEY"`, for example'
        )
    return f"unknown key `{key}`{did_you_mean(key, known)}"


def _type_at(kind: inspect.Type, path: list[str]) -> inspect.Type | None:
    """Return the type of what stands at a path; an empty step is an item of a list or a table."""
    found: inspect.Type | None = kind
    for step in path:
        found = next((inner for option in _options(found) if (inner := _inner(option, step))), None)
    options = _options(found)
    return next((option for option in options if not isinstance(option, inspect.NoneType)), None)


def _options(kind: inspect.Type | None) -> Iterable[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        return kind.types
    return () if kind is None else (kind,)


def _inner(kind: inspect.Type, step: str) -> inspect.Type | None:
    match kind:
        case inspect.StructType(fields=fields) if step:
            return next((field.type for field in fields if field.name == step), None)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item) if not step:
            return item
        case inspect.DictType(value_type=value):
            return value
    return None


def line_of(text: str, table: str, key: str) -> int | None:
    """Return the line, from 1, where a TOML file has a key of a table, or the table itself for an empty key."""
    header, found = "", None
    steps = table.split(".")
    for number, line in enumerate(text.splitlines(), start=1):
        opened = re.match(r"\s*\[\[?\s*([^\]]*?)\s*\]", line)
        if opened:
            header = re.sub(r"[\s\"']", "", opened[1])
            if not key and f"{header}.".startswith(f"{table}."):
                return number
            # `[providers.mine.timeouts]` is the key `timeouts` of its table.
            if key and header.startswith(f"{table}.{key}"):
                return number
            continue
        if line.lstrip().startswith("#"):
            continue
        below = steps[len(header.split(".")) :] if header else steps
        if header and not f"{table}.".startswith(f"{header}."):
            continue
        words = re.findall(r"[\w-]+", line.partition("#")[0].partition("=")[0])
        if key and words == [*below, key]:
            return number
        # `[providers]` with `mine = { kind = "…" }`, or one table in another on the same line.
        if (
            words[: len(below)] == below
            and re.search(rf"[{{,.\s]\"?{re.escape(key)}\"?\s*[=.]", line)
        ) or (not key and words[:1] == below[-1:]):
            found = found or number
    return found
