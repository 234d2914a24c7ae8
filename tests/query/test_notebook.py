"""Answers show themselves in a notebook, and what comes from data is characters there."""

import shutil
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from query import experiments
from query.notebook import Shown, Table, in_words, token_in_context
from tests.atlases import add_texts, png
from tests.networks import pixel_images, word_network, word_texts

HOSTILE = "<script>alert(1)</script>"


def test_token_is_marked_in_its_context():
    shown = token_in_context(f"{HOSTILE} the bank\nof", "bank", len(HOSTILE) + 5)
    assert "&lt;script&gt;" in shown and "<script>" not in shown
    assert ">bank</mark>⏎of</span>" in shown and "…" not in shown
    assert token_in_context("a" * 200, "a", 100).count("…") == 2


def test_table_has_pictures_and_contexts(a):
    """Of images a picture each; of tokens no column of its own; only the first rows, and how many there are."""
    images = Table(query.nearest(a, example=380, site="conv1", k=3))._repr_html_()
    assert images.count("data:image/png;base64,") == 3
    tokens = Table(query.nearest(a, example=40, site="blocks.3.mlp", k=30))._repr_html_()
    assert tokens.count("</mark>") == 10 and "30 rows, the first 10 shown" in tokens
    assert "context_offset" not in tokens and "hamming" not in tokens and "a definition, not a partition" in tokens


def test_names_from_data_are_characters(tmp_path):
    """Labels, keys, column names and the atlas's own name, with what a browser would run."""
    path = tmp_path / "<b>x.atlas"
    texts = [(f"{number}{HOSTILE}", HOSTILE, text) for number, (_, _, text) in enumerate(word_texts(6))]
    add_texts(path, word_network(), texts)
    with atlas.open(path) as a:
        shown = [a, Table(a.sql(f"select label as \"{HOSTILE}\", 'x' as y from examples"))]
        shown += [Table(query.nearest(a, example=1, site="blocks.1.mlp", k=3))]
        shown += [query.subject(a, example=1, site="blocks.1.mlp"), query.passage(a, example=1)]
        pages = [each._repr_html_() for each in shown]
    assert all("<script" not in page and "<b>x" not in page for page in pages)
    assert sum("&lt;script&gt;" in page for page in pages) >= 3


def test_subject_shows_what_it_is(a, words, pixels, built, tmp_path):
    """A stored token in its context, an image, a text that is read now; without its atlas what is known of it."""
    stored = query.subject(a, example=40, site="blocks.3.mlp")._repr_html_()
    assert "example 40" in stored and "</mark>" in stored and "of 31" in stored
    assert "data:image/png" in query.subject(a, example=380, site="conv1")._repr_html_()
    live = query.subject(a, text="metal1 river2 fruit3", token=1, site="blocks.3.mlp", reader=words)._repr_html_()
    assert ">river2</mark>" in live
    code = query.subject(a, code="0" * 31, site="blocks.3.mlp")._repr_html_()
    assert "0 of 31" in code and "<table" not in code
    moved = tmp_path / "moved.atlas"
    shutil.copytree(built, moved)
    with atlas.open(moved) as b:
        gone = query.subject(b, example=40, site="blocks.3.mlp")
    shutil.rmtree(moved)
    assert "example 40" in gone._repr_html_() and "does not exist" in gone._repr_html_()


@dataclass(frozen=True, eq=False)
class Crossings(Shown):
    """An answer as those of `query` are."""

    span: str
    x: int
    same: bool
    remark: str
    table: pd.DataFrame


def test_answers_show_numbers_and_tables(a):
    """Numbers in a line, but for what is empty; tables below; the answers of `query` that are no frames do so."""
    shown = Crossings("hidden->", 1, False, "", pd.DataFrame({"t": [0.25, 0.5], "site": ["out", HOSTILE]}))
    page = shown._repr_html_()
    assert page.startswith("<p><b>Crossings</b> span <b>hidden-&gt;</b> · x <b>1</b> · same <b>no</b></p>")
    assert page.count("<td>") == 4 and "<script" not in page
    answers = (query.Boundaries, query.Comparison, query.Exits, query.NeighborPolytopes, query.Region)
    assert all(issubclass(answer, Shown) for answer in answers)
    assert "words" in a._repr_html_() and "open for reading" in a._repr_html_()


def test_result_shows_figure_and_notes(a):
    """Plotly's script comes with one figure at most; the next does without."""
    result = experiments.run(a, "occupancy", network="words")
    first, second = result._repr_html_(), result._repr_html_()
    assert "Plotly.newPlot" in first and "Plotly.newPlot" in second and len(second) < 200_000
    assert all(f"<li>{note[:20]}" in second for note in result.notes if note.isascii() and "'" not in note[:20])
    assert "<table>" in second and "cdn" not in second


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "–"),
        (pd.NA, "–"),
        (None, "–"),
        (np.float32(0.123456), "0.1235"),
        (np.True_, "yes"),
        ([1, None, 2.5], "[1, –, 2.5]"),
        (np.arange(100), "[0, 1, 2, 3, 4, 5, …]"),
        ("text", "text"),
    ],
)
def test_a_value_in_words_is_short(value, words):
    assert in_words(value) == words


def test_bytes_that_are_no_picture_are_named():
    frame = pd.DataFrame({"key": ["a", "b"], "thumbnail": [b"GIF89a", png(pixel_images(1)[0][2])]})
    shown = Table(frame)._repr_html_()
    assert "6 bytes" in shown and shown.count("<img") == 1 and 'alt="b"' in shown
