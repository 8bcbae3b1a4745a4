"""Commands that a message tells people to run, with the options that lead them to the same install."""

from __future__ import annotations

import argparse
import re
import shlex

_COMMAND = re.compile(r"`(maniac-gateway [^`]+)`")


def options(arguments: argparse.Namespace) -> str:
    """Return `--config` and `--data-dir` as they were given, each after a blank; nothing, if neither was."""
    given = {name: getattr(arguments, name, None) for name in ("config", "data_dir")}
    return "".join(
        f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in given.items()
        if value is not None
    )


def with_options(text: str, arguments: argparse.Namespace) -> str:
    """Return a text whose commands, written `maniac-gateway …` in backticks, carry these options."""
    return _COMMAND.sub(lambda match: f"`{match[1]}{options(arguments)}`", text)
