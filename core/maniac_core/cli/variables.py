"""Variables that begin like ours and set nothing: most often one underscore is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

import msgspec
from maniac_common.config_problems import nearest

from maniac_core.cli.serving.environment import named_variables
from maniac_core.cli.serving.first_key import KEY_VARIABLE
from maniac_core.config.core import Config, CoreConfig

_PREFIX = "MANIAC_"
_CORE, _EDGE = "MANIAC_CORE__", "MANIAC_EDGE__"
# Read by clients and by the tests of this repository, or made by Kubernetes for a service of our name.
_OF_OTHERS = re.compile(
    r"MANIAC_(BASE_URL|MODEL|GRPC|TEST_\w+|RECORDINGS|\w+_(SERVICE_\w+|TCP\w*))"
)


def warn_of_unknown(config: Config, environ: Mapping[str, str]) -> None:
    """Name, on standard error, each variable that begins with `MANIAC_` and that nothing reads."""
    known = {*named_variables(config), KEY_VARIABLE}
    for variable in sorted(environ):
        is_checked = variable.startswith((_CORE, _EDGE)) or variable in known
        if variable.startswith(_PREFIX) and not is_checked and not _OF_OTHERS.fullmatch(variable):
            meant = _meant(variable, known)
            hint = f"; did you mean {meant}?" if meant else ""
            sys.stderr.write(f"maniac-gateway: {variable} is set, and nothing reads it{hint}\n")


def _meant(variable: str, known: Iterable[str]) -> str | None:
    core = [field.name for field in msgspec.structs.fields(CoreConfig)]
    table = re.fullmatch(r"MANIAC_(CORE|EDGE)_+(\w+)", variable)
    if table and table[1] == "EDGE":
        # The keys of its table are the edge's; it refuses a wrong one by name.
        return f"{_EDGE}{table[2]}"
    word = table[2] if table else variable.removeprefix(_PREFIX)
    names = {f"{_CORE}{name.upper()}" for name in core}
    if not table:
        names |= {f"{_EDGE}HOST", f"{_EDGE}PORT", *known}
    by_word = {re.sub(r"MANIAC_(CORE__|EDGE__)?", "", name): name for name in sorted(names)}
    found = nearest(word, by_word)
    return by_word[found] if found else None
