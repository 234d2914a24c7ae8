"""Jargon has a tooltip from the one glossary, where a reader meets it first."""

from __future__ import annotations

import html

import pytest

from app.explorer.parts import terms


def test_jargon_is_marked_once():
    """Links and code keep their words, any form of a word is found, and a word inside another is none."""
    terms.begin()
    shown = terms.marked("<p>Two boundaries. <a>A gate</a> <code>gate</code> Gates, websites & one boundary.</p>")
    assert shown.count("<dfn") == 2 and ">boundaries</dfn>" in shown and ">Gates</dfn>" in shown
    assert "<a>A gate</a> <code>gate</code>" in shown and shown.endswith("websites & one boundary.</p>")
    assert "<dfn" not in terms.marked("<p>gates</p>"), "a page marks a word once"
    terms.begin()
    assert "<dfn" in terms.marked("<p>gates</p>")


@pytest.mark.parametrize("word", terms.JARGON)
def test_what_is_marked_is_explained(word: str):
    assert html.escape(terms.known(word)) in terms.term(word)
    assert "`" not in terms.term(word)


def test_an_unknown_word_has_no_tooltip():
    assert terms.known("Anything else") == "" and terms.known("Spline code") == terms.known("code") != ""
    with pytest.raises(KeyError, match="anything else"):
        terms.meaning("Anything else")
