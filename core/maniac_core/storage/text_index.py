"""What an index of texts is asked for: every three characters of what is looked for. It finds candidates only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from maniac_core.domain.datasets import Condition
from maniac_core.storage.base import Where

_SHORTEST = 3
# More would hardly leave fewer candidates.
_MOST_TRIGRAMS = 16
# PostgreSQL's trigrams are made of letters and digits alone.
_WORD = re.compile(r"[^\W_]{3}")
_COLUMNS = {"input.text": "input_text(b.input)", "output.text": "output_text(b.output)"}


def needles(conditions: Iterable[Condition]) -> list[tuple[str, str]]:
    """Return the texts that every match holds, each with the key of the text that it is in."""
    return [
        (condition.key, str(condition.operands[0].value))
        for condition in conditions
        if condition.key in _COLUMNS
        and condition.operator == "contains"
        and condition.operands[0].type == "text"
    ]


def sqlite_condition(wanted: Iterable[tuple[str, str]]) -> Where | None:
    """Return what the table `text_index` is asked; None: it cannot tell anything of such texts."""
    found: dict[str, None] = {}
    for _, needle in wanted:
        text = needle.replace("\0", "\ufffd")
        count = len(text) - _SHORTEST + 1
        step = max(1, count // _MOST_TRIGRAMS)
        found |= dict.fromkeys(text[at : at + _SHORTEST] for at in range(0, count, step))
    if not found:
        return None
    quoted = [f'"{trigram.replace(chr(34), chr(34) * 2)}"' for trigram in found]
    return Where("text_index MATCH :match", {"match": " AND ".join(quoted)})


def postgres_condition(wanted: Iterable[tuple[str, str]]) -> Where | None:
    """Return what `completion_bodies b` is asked; None: no index can be used for such texts."""
    texts, params = [], {}
    for number, (key, text) in enumerate(wanted):
        if _WORD.search(text) and "\0" not in text:
            texts.append(f"{_COLUMNS[key]} LIKE CAST(:needle{number} AS text)")
            escaped = re.sub(r"([\\%_])", r"\\\1", text)
            params[f"needle{number}"] = f"%{escaped}%"
    return Where(" AND ".join(texts), params) if texts else None
