"""`maniac-gateway import-config`: writes the configuration that a LiteLLM config.yaml amounts to, and what it lacks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from maniac_core.cli.failures import UsageError
from maniac_core.cli.litellm_config import Document, Import, convert
from maniac_core.cli.toml import render


def run(arguments: argparse.Namespace) -> int:
    """Write TOML to standard output or a file, what could not be carried to standard error; return the exit status."""
    path: Path = arguments.file
    found = convert(_read(path), os.environ)
    text = _text(found, path)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        _write(arguments.out, text)
    for note in found.notes:
        sys.stderr.write(f"{path}: {note}\n")
    sys.stderr.write(
        f"{len(found.providers)} providers and {len(found.aliases)} aliases carried; "
        f"{len(found.notes)} remarks\n"
    )
    return 0


def _read(path: Path) -> Document:
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("reading YAML needs PyYAML: .venv/bin/pip install '.[yaml]'") from None
    import msgspec  # noqa: PLC0415 - after what may be missing

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as err:
        mark = getattr(err, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        # Not its own text, which quotes the line: there may be a key in it.
        problem = getattr(err, "problem", None) or "cannot be read"
        raise UsageError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(content, dict) or "model_list" not in content:
        raise UsageError(f"{path}: no `model_list`, so not a configuration of the LiteLLM proxy")
    try:
        return msgspec.convert(content, Document, strict=False)
    except msgspec.ValidationError as err:
        raise UsageError(f"{path}: {err}") from None


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: is there already; name another file with --out") from None


def _text(found: Import, path: Path) -> str:
    head = f"# From {path.name}, a configuration of LiteLLM.\n"
    tables: dict[str, dict[str, object]] = {}
    for name, provider in found.providers.items():
        tables[f"providers.{name}"] = provider
    for name, alias in found.aliases.items():
        tables[f"aliases.{name}"] = alias
    return head + render(tables)
