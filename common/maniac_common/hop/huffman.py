"""The Huffman code of header values (RFC 7541, appendix B)."""

from __future__ import annotations

# Symbols by the length of their code, in bits. The code is canonical: among codes of one length those of smaller
# symbols are smaller, and so lengths say everything. 256 ends a text.
# fmt: off
_BY_LENGTH: dict[int, bytes | tuple[int, ...]] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: (92, 195, 208),
    20: (128, 130, 131, 162, 184, 194, 224, 226),
    21: (153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230),
    22: (129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233),
    23: (1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239),
    24: (9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237),
    25: (199, 207, 234, 235),
    26: (192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255),
    27: (203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254),
    28: (*range(2, 9), 11, 12, *range(14, 22), *range(23, 32), 127, 220, 249),
    30: (10, 13, 22, 256),
}
# fmt: on
_END = 256
_LONGEST_PADDING = 7


def _codes() -> dict[tuple[int, int], int]:
    """Return the symbols by length and code."""
    symbols = {}
    code, previous = 0, 0
    for length, members in _BY_LENGTH.items():
        code <<= length - previous
        previous = length
        for symbol in members:
            symbols[length, code] = symbol
            code += 1
    return symbols


_SYMBOLS = _codes()


def decode(data: bytes) -> bytes:
    """Return the text.

    Raises:
        ValueError: it is not well-formed.
    """
    out = bytearray()
    code, length = 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _SYMBOLS.get((length, code))
            if symbol is None:
                continue
            if symbol == _END:
                raise ValueError("a text goes on after its end")
            out.append(symbol)
            code, length = 0, 0
    # What is left is padding: the first bits of the end's code, which are all ones.
    if length > _LONGEST_PADDING or code != (1 << length) - 1:
        raise ValueError("a text is cut")
    return bytes(out)
