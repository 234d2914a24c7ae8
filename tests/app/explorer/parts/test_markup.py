"""What a data set says is shown as its characters, whatever they are."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from app.explorer.parts import markup

HOSTILE = '<script>alert("x")</script> **bold** [a](javascript:b) $x$ :smile: & \'"'


def text_of(html: str) -> str:
    """The characters that a browser shows of such HTML."""
    import html as entities

    return entities.unescape(re.sub(r"<[^>]*>", "", html))


def test_a_context_is_its_characters():
    """A context is shown as its characters."""
    shown = markup.context(f"{HOSTILE} token after", "token", len(HOSTILE) + 1, before=200)
    assert "<script" not in shown
    assert text_of(shown) == f"{HOSTILE} token after"
    assert "<mark>token</mark>" in shown


def test_a_heading_shows_what_nobody_sees():
    """Names stand in headings and labels, which Streamlit reads as Markdown."""
    assert markup.markdown("a\x1b\u202eb*") == "a␛‹RLO›b\\*"


def test_a_hostile_token_is_escaped():
    """A hostile token is marked and escaped."""
    shown = markup.context(f"a{HOSTILE}b", HOSTILE, 1)
    assert text_of(shown) == f"a{HOSTILE}b"
    assert re.findall(r"<(\w+)", shown) == ["span", "mark"]


def test_unseen_characters_have_a_sign():
    """What nobody sees is a sign on a page."""
    assert text_of(markup.visible("a\nb\tc\x00\x1b\u202ed")) == "a⏎b→c␀␛‹RLO›d"


def test_spaces_around_a_token_collapse():
    """Spaces around a token collapse and its own stay."""
    assert text_of(markup.context("if x:\n        y", "\n        ", 5)) == "if x:⏎␣␣␣␣␣␣␣␣y"
    assert text_of(markup.context("of self.", " self", 2)) == "of␣self."
    assert text_of(markup.context("a      b token", "token", 9)) == "a b token"


def test_a_context_is_cut_around_the_token():
    text = "l" * 100 + "T" + "r" * 100
    assert text_of(markup.context(text, "T", 100, before=5, after=3)) == "…lllllTrrr…"


def test_a_passage_keeps_lines_and_the_token():
    text = "\n".join(f"line {i}" for i in range(20))
    shown = text_of(markup.passage(text, "line 10", text.index("line 10")))
    assert shown == "…line 6⏎line 7⏎line 8⏎line 9⏎line 10⏎line 11…"


@pytest.mark.parametrize("missing", [{"text": None}, {"token": None}, {"offset": None}, {"offset": float("nan")}])
def test_an_example_without_context_says_so(missing):
    given = {"text": "a b", "token": "b", "offset": 2} | missing
    assert text_of(markup.context(**given)) == "no context"


def test_only_png_and_jpeg_become_pictures():
    assert markup.picture(b"\x89PNG\r\n\x1a\nrest").startswith("data:image/png;base64,")
    assert markup.picture(b"\xff\xd8\xff\xe0rest").startswith("data:image/jpeg;base64,")
    assert markup.picture(b"<svg onload='alert(1)'/>") is None
    assert "no thumbnail" in markup.figure(None, "caption")


def test_a_link_carries_its_state_escaped():
    shown = markup.link("clusters", "<7>", target='a->"b"', cluster=-1, clustering=None)
    assert shown == '<a href="clusters?target=a-%3E%22b%22&amp;cluster=-1" target="_self">&lt;7&gt;</a>'


def test_a_link_may_carry_the_page_of_a_list():
    assert markup.link("experiments", "3", page=2, words="a") == (
        '<a href="experiments?page=2&amp;words=a" target="_self">3</a>'
    )


def test_a_remark_ends_once():
    """A remark is a sentence and ends once."""
    for note, said in (
        ("no score: why", "No score: why."),
        ("Made so:", "Made so:"),
        ("Done.", "Done."),
        ("blocks.2.mlp has no map", "blocks.2.mlp has no map."),
        ("inception5b, codes", "inception5b, codes."),
        ("a, b", "A, b."),
    ):
        assert text_of(markup.notes([note, None])) == said


def test_a_missing_picture_is_a_dash():
    """A small picture that is none is a dash."""
    assert markup.thumb(None, 28) == "–" and markup.thumb(b"<svg/>", 28) == "–"
    assert 'height="28"' in markup.thumb(b"\x89PNG\r\n\x1a\nrest", 28, "a<b") and "a&lt;b" in markup.thumb(
        b"\xff\xd8\xff\xe0", 28, "a<b"
    )


@pytest.mark.parametrize(("side", "squares"), [(8, True), (32, True), (96, False)])
def test_few_pixels_are_squares(side: int, squares: bool):
    """A digit of 8 × 8 is drawn as squares, a photo is smoothed."""
    encoded = io.BytesIO()
    Image.new("L", (side, side)).save(encoded, "PNG")
    for shown in (markup.thumb(encoded.getvalue(), 40), markup.figure(encoded.getvalue(), "")):
        assert ("pa-pixels" in shown) == squares


def test_an_error_is_its_own_sentence():
    assert text_of(markup.error("no site 'x'; `polytope info` lists <sites>")) == (
        "no site 'x'; polytope info lists <sites>"
    )
    assert text_of(markup.error("Parser Error:\n  ^")) == "Parser Error:\n  ^"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234, "1,234"),
        (32.0032, "32.00"),
        (0.97234, "0.9723"),
        (1e-9, "1e-09"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_keep_their_zeros(value, shown):
    assert markup.number(value) == shown
