"""Plain text: no letter of a data set moves the cursor, hides, or turns a line around."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Container

import pytest

from app.plain_text import counted, escaped_json, one_line, with_signs

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Unicode's classes of letters that are not seen and change the order in which others are."""


def letters_of(*, classes: Container[str] = (), categories: Container[str] = ()) -> list[str]:
    """All letters of Unicode that are of such a bidirectional class, or of such a category."""
    every = map(chr, range(0x110000))
    return [
        letter
        for letter in every
        if unicodedata.bidirectional(letter) in classes or unicodedata.category(letter) in categories
    ]


def test_a_text_stays_on_one_line():
    assert one_line("a\nb\tc\x00\x1b[2J") == "a⏎b→c␀␛[2J"
    assert one_line("   ") == "␣␣␣" and one_line("") == ""
    assert [one_line(token) for token in ("self", " self", "  a b ")] == ["self", "␣self", "␣␣a b␣"]
    assert one_line("x" * 40) == "x" * 23 + "…"


@pytest.mark.parametrize(
    ("letter", "sign"),
    [("\u202e", "‹RLO›"), ("\u200e", "‹LRM›"), ("\u2069", "‹PDI›"), ("\u200b", "‹ZWSP›"), ("\x9b", "‹9B›")],
)
def test_a_letter_without_picture_has_a_sign(letter: str, sign: str):
    assert with_signs(f"a{letter}b") == f"a{sign}b"


def test_no_letter_reorders_others():
    reordering = letters_of(classes=REORDERING)
    assert len(reordering) == 9 and all(letter not in with_signs(letter) for letter in reordering)


def test_no_control_reaches_a_terminal():
    controls = letters_of(categories={"Cc", "Zl", "Zp"})
    assert len(controls) == 67 and all(letter not in with_signs(letter) for letter in controls)


def test_no_letter_hides():
    """Whatever Unicode calls a format or half a pair, but for signs of Arabic and Kaithi numbers, which are seen."""
    seen = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd")
    hidden = [letter for letter in letters_of(categories={"Cf", "Cs"}) if letter not in seen]
    assert len(hidden) > 2000 and all(letter not in with_signs(letter) for letter in hidden)
    for letter in ("\u3164", "\ufe0f", "\U000e0101", "\u034f"):
        assert letter not in with_signs(letter)


def test_escaped_json_says_the_same():
    text = "a\x7f\x9b\u202e\U000e0041é\n"
    document = escaped_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(document) == text and with_signs(document) == document and "é" in document


def test_one_thing_is_singular():
    assert [counted(n, "row") for n in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert [counted(n, "site is", "sites are") for n in (1, 2)] == ["1 site is", "2 sites are"]
