"""Which known name was probably meant by one that is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NEAR_ENOUGH = 0.6
_LONGEST = 128
_NO_MARKS = re.compile(r"[^a-z0-9]+")


class Nearest:
    """Known names by the pairs of letters in them: some milliseconds for thousands of names."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: each form in which a name may be written, and the name."""
        self._pairs = [(_pairs(form), name) for form, name in names.items()]

    def find(self, word: str) -> str | None:
        """Return the name that shares most with the word, if that is much."""
        if len(word) > _LONGEST:
            return None
        wanted = _pairs(word)
        best, found = 0.0, None
        for pairs, name in self._pairs:
            score = 2 * len(wanted & pairs) / (len(wanted) + len(pairs) or 1)
            if score > best:
                best, found = score, name
        return found if best >= _NEAR_ENOUGH else None


def _pairs(word: str) -> frozenset[str]:
    letters = _NO_MARKS.sub("", word.lower())
    # With their first and last letter counted, as those are seldom wrong.
    letters = f"^{letters}$"
    return (
        frozenset(letters[at : at + 2] for at in range(len(letters) - 1)) if word else frozenset()
    )
