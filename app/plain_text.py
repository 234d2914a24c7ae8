"""Plain text of and for people: numbers that are typed, counts, names told apart, signs for letters nobody sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

from atlas.errors import UsageError

LABEL_LENGTH = 24
"""Characters of a token in a table's cell or a button."""

NAME_LENGTH = 28
"""Characters of a cluster's name in a cell, a legend or a figure."""


def _escape(letter: str) -> str:
    """A letter as JSON writes it in ASCII."""
    return f"\\u{ord(letter):04x}" if letter == "\x7f" else json.dumps(letter)[1:-1]


_UNSEEN = {
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u061c": "ALM",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
    "\u200b": "ZWSP",
    "\u2060": "WJ",
    "\u2028": "LSEP",
    "\u2029": "PSEP",
    "\ufeff": "BOM",
}
"""Characters that have no width and no picture, by Unicode's abbreviations: most change the order of the others."""

_UNSEEN_RANGES = (
    (0xAD, 0xAD),  # soft hyphen
    (0x34F, 0x34F),
    (0x70F, 0x70F),
    (0x115F, 0x1160),  # fillers of Hangul
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xD800, 0xDFFF),  # halves of pairs, which no file can hold
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),  # tags, and more variation selectors
)
"""Others, by their numbers: a text can be hidden in them."""

SIGNS = {chr(code): f"‹{code:04X}›" for first, last in _UNSEEN_RANGES for code in range(first, last + 1)}
SIGNS |= {chr(code): f"‹{code:02X}›" for code in range(0x80, 0xA0)}
SIGNS |= {chr(code): chr(0x2400 + code) for code in range(32)} | {"\n": "⏎", "\t": "→", "\x7f": "␡", "\r": "␍"}
SIGNS |= {letter: f"‹{name}›" for letter, name in _UNSEEN.items()}
"""What is shown in place of a letter that a terminal would obey, or that nobody sees."""

_TRANSLATION = str.maketrans(SIGNS)
_ESCAPES = str.maketrans({letter: _escape(letter) for letter in SIGNS if letter > "~"})


def numbers(name: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """The numbers with commas between them that were typed as ``name``; `UsageError` unless there are ``count``."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or count not in (None, len(found)):
        many = "numbers" if count is None else f"{count} numbers"
        raise UsageError(f"{name} is {text!r}; write {many} with commas between them")
    return found


def with_signs(text: str) -> str:
    """A text with a sign for every letter that a terminal would obey, or that nobody sees."""
    return text.translate(_TRANSLATION)


def escaped_json(document: str) -> str:
    """The same JSON, in which such letters are escaped: who reads it gets them all."""
    if document.isascii() and "\x7f" not in document:  # as most are, and looking every letter up takes longer
        return document
    return document.translate(_ESCAPES)


def lines_with_signs(text: str) -> str:
    """The same of a text whose lines are to stay lines: a message, a remark."""
    return "\n".join(map(with_signs, text.split("\n")))


def one_line(text: str, length: int = LABEL_LENGTH) -> str:
    """A text as plain characters on one line, cut to a length, with the spaces around it as ␣."""
    shown = spaces_shown(with_signs(text))
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def spaces_shown(text: str) -> str:
    """A text in which spaces at its beginning and end are ␣: `` self`` and ``self`` are two tokens."""
    bare = text.lstrip(" ")
    core = bare.rstrip(" ")
    return "␣" * (len(text) - len(bare)) + core + "␣" * (len(bare) - len(core))


def distinct(names: Sequence[str]) -> list[str]:
    """Names that are told apart, those that occur again by a number: columns or bars of one name would be one."""
    taken, met, found = set(names), set[str](), list[str]()
    for name in names:
        shown = name
        if name in met:
            shown = next(other for n in count(2) if (other := f"{name} ({n})") not in taken)
            taken.add(shown)
        met.add(name)
        found.append(shown)
    return found


def cluster_title(number: int, name: str | None) -> str:
    """What a cluster is called in lists, legends and figures: its name, and the number that tells it from another of
    that name. Number −1 is the noise."""
    if number < 0:
        return "noise"
    return f"{one_line(name, NAME_LENGTH)} #{number}" if name else f"#{number}"


def counted(n: int, thing: str, things: str | None = None) -> str:
    """So many of a thing, as 1 row and 2 rows; ``things``: the plural, where it is more than an s."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"
