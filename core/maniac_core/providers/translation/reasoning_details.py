"""Reasoning details in pieces, as streams carry them and as some clients send them back, put together to blocks."""

from __future__ import annotations

from maniac_core.domain.chat import JsonObject

# Keys of a block that arrive in pieces; every other value arrives whole.
_PIECEMEAL = ("text", "summary")


class _Block:
    """The pieces of one reasoning block."""

    __slots__ = ("keys", "pieces")

    def __init__(self) -> None:
        self.keys: JsonObject = {}
        self.pieces: dict[str, list[str]] = {}

    def add(self, detail: JsonObject) -> None:
        for key, value in detail.items():
            if key in _PIECEMEAL and isinstance(value, str):
                self.keys.setdefault(key, "")
                self.pieces.setdefault(key, []).append(value)
            elif value is not None or key not in self.keys:
                self.keys[key] = value

    def whole(self) -> JsonObject:
        return {**self.keys, **{key: "".join(pieces) for key, pieces in self.pieces.items()}}


def merge_details(details: list[JsonObject]) -> list[JsonObject]:
    """Return whole reasoning blocks, in order of their first pieces; blocks that are whole stay as they are.

    Pieces of one block have the same index and type; without an index, they follow each other up to the signature.
    What follows a signature, and every encrypted detail, is a block of its own.
    """
    blocks: list[_Block] = []
    block_of: dict[tuple[object, object], _Block] = {}
    for detail in details:
        kind, index = detail.get("type"), detail.get("index")
        # Clients send these; a value that is not a name or a number does not identify a block.
        kind = kind if isinstance(kind, str) else None
        index = index if isinstance(index, int | str) else None
        block: _Block | None = None
        if kind == "reasoning.encrypted":
            pass
        elif index is not None:
            block = block_of.get((kind, index))
        elif blocks and blocks[-1].keys.get("type") == kind:
            block = blocks[-1]
        if block is not None and block.keys.get("signature"):
            block = None
        if block is None:
            block = _Block()
            blocks.append(block)
            block_of[kind, index] = block
        block.add(detail)
    return [block.whole() for block in blocks]


def has_format(detail: JsonObject, name: str, *, default: str | None = None) -> bool:
    """Say whether a block is in a provider's format.

    Clients that put a stream's pieces together by appending text to text repeat the name.
    """
    value = detail.get("format", default)
    return isinstance(value, str) and bool(value) and not value.replace(name, "")
