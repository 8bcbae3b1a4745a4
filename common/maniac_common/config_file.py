"""A configuration file and the environment beside it, whose refusals say what they are about and where it stands."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from maniac_common.config_problems import did_you_mean, line_of, nearest, problem_of

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_NO_NAMES: Mapping[str, str] = {}


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the key and what to do."""


class ConfigFile:
    """One TOML file; without a path, an empty one."""

    def __init__(self, path: Path | None, tables: tuple[str, ...]) -> None:
        """Read the file; `tables` are the names that it may have at the top.

        Raises:
            ConfigError: it is missing, cannot be read, is not TOML, or has an unknown table.
        """
        self._path = path
        self._text = _read(path)
        try:
            self._document = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as err:
            raise ConfigError(f"{path}: not valid TOML: {err}") from None
        for name in sorted(self._document.keys() - set(tables)):
            near = nearest(name, tables)
            known = ", ".join(f"[{table}]" for table in tables)
            raise self.error(
                name,
                "",
                f"unknown table; {f'did you mean [{near}]?' if near else f'known: {known}'}",
            )

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the file; an empty one, if it is not there.

        Raises:
            ConfigError: something else has its name.
        """
        table = self._document.get(name, {})
        if not isinstance(table, dict):
            raise self.error(name, "", f"is not a table: write [{name}] on a line of its own")
        return table

    def convert(
        self,
        table: dict[str, Any],
        kind: type[_Struct],
        name: str,
        sources: Mapping[str, str] = _NO_NAMES,
    ) -> _Struct:
        """Return a table as its struct; `sources` says of keys that are not from the file where they come from.

        Raises:
            ConfigError: a key is unknown, or a value cannot be used.
        """
        try:
            # Not strict: environment variables arrive as text.
            return msgspec.convert(table, kind, strict=False, dec_hook=_decode_path)
        except msgspec.ValidationError as err:
            problem = problem_of(err, kind)
            if problem.key in sources:
                raise ConfigError(f"{sources[problem.key]}: {problem.text}") from None
            raise self.error(name, problem.key, problem.text) from None

    def error(self, table: str, key: str, text: str) -> ConfigError:
        """Return the error about a key of a table; with an empty key, about the table."""
        if self._path is None:
            return ConfigError(f"[{table}]: {text}")
        line = line_of(self._text, table, key)
        where = f"{self._path}, line {line}" if line else str(self._path)
        return ConfigError(f"{where}: [{table}]: {text}")


def from_environ(
    prefix: str, kind: type[msgspec.Struct], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the keys of a table that variables such as `MANIAC_CORE__RATE_LIMIT` set.

    Raises:
        ConfigError: a variable with the prefix names no key.
    """
    known = [field.name for field in msgspec.structs.fields(kind)]
    found = {}
    for variable, value in environ.items():
        if not variable.startswith(prefix):
            continue
        key = variable.removeprefix(prefix).lower()
        if key not in known:
            names = [f"{prefix}{name.upper()}" for name in known]
            raise ConfigError(f"{variable}: no such setting{did_you_mean(variable, names)}")
        found[key] = value
    return found


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        # Some editors put a mark before the first character.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, ValueError) as err:
        reason = (
            err.strerror if isinstance(err, OSError) else "not text in UTF-8, so not valid TOML"
        )
        raise ConfigError(f"{path}: cannot be read: {reason}") from err


def _decode_path(kind: type, value: Any) -> Any:
    # The one type of the tables that msgspec does not know.
    if kind is Path and isinstance(value, str):
        if not value or "\0" in value:
            raise ValueError("not a path")
        return Path(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
