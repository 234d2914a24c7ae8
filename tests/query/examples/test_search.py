"""Stored examples by words: what SQL and Python's own `in` find one by one."""

import pytest

import atlas
import query
from atlas.errors import UnknownName, UsageError
from tests.atlases import add_texts
from tests.networks import word_network

WORDS, PIXELS = "words", "pixels"


@pytest.fixture(scope="module")
def spaced(tmp_path_factory):
    """Texts in which a token occurs with a space before it and without, and one word far from all stored tokens."""
    path = tmp_path_factory.mktemp("spaced") / "spaced.atlas"
    texts = [
        ("a.txt", "First", "metal1 fruit2 metal1 fruit2 metal1 fruit3"),
        ("b.txt", "second", "fruit3 metal1 fruit4 fruit4"),
        ("c.txt", None, "fruit5 " * 60 + "metal19"),
    ]
    add_texts(path, word_network(WORDS, context=0.5), texts, per_sequence=4, sites=["blocks.1.mlp"])
    return path


def matched(found, way):
    return found[found["match"] == way]


def test_tokens_are_those_of_sql(a):
    for words in ("fruit3", "metal0"):
        found = query.find(a, words, network=WORDS, limit=500)
        expected = a.rows("select example_id from examples where trim(token) = $1 order by 1", [words])
        assert matched(found, "token")["example_id"].tolist() == [example for (example,) in expected] != []
        assert found.attrs["counts"]["token"] == sum(found.attrs["tokens"].values()) == len(expected)


def test_a_space_belongs_to_a_token(damaged):
    """Asked with the space, without it, and for the very letters alone."""
    path = damaged("update examples set token = ' ' || token where example_id % 2 = 0 and token is not null")
    with atlas.open(path) as a:
        borne = query.find(a, "fruit0", network=WORDS).attrs["tokens"]
        assert set(borne) == {"fruit0", " fruit0"}
        assert query.find(a, " fruit0", network=WORDS).attrs["tokens"] == {" fruit0": borne[" fruit0"]}
        for token in borne:
            found = query.find(a, token, network=WORDS, exact=True, limit=500)
            assert found.attrs["counts"] == {"token": borne[token]}
            assert set(found["found"]) == {token} and len(found) == borne[token]


def test_texts_are_those_that_hold_it(a):
    """One example each, the nearest to a place where the words stand, marked there."""
    texts = dict(a.rows("select input_id, text from inputs where kind = 'text'"))
    inputs = dict(a.rows("select example_id, input_id from examples"))
    words = "fruit1"
    found = matched(query.find(a, words, network=WORDS, limit=500), "text")
    assert [inputs[example] for example in found["example_id"]] == [i for i, text in texts.items() if words in text]
    for row in found.itertuples():
        assert row.context[row.found_at :].startswith(words) and row.context in texts[inputs[row.example_id]]


def test_a_word_far_from_tokens_is_found(spaced):
    with atlas.open(spaced) as a:
        [row] = query.find(a, "metal19").itertuples()
        assert row.match == "text" and row.context[row.found_at :] == "metal19"
        assert a.value("select max(input_id) from examples") == a.value(
            "select input_id from examples where example_id = $1", [row.example_id]
        )


def test_labels_keys_and_limit(spaced, a):
    with atlas.open(spaced) as b:
        for words, way in (("FIRST", "label"), ("B.TXT", "key")):
            found = query.find(b, words)
            assert set(found["match"]) == {way}
            assert set(found["found"]) == {"First" if way == "label" else "b.txt"}
        assert len(query.find(b, "first", limit=2)) == 2 < query.find(b, "first").attrs["counts"]["label"]
    bright = query.find(a, "bright", network=PIXELS, limit=500)
    expected = a.rows(
        "select example_id from examples join networks using (network_id) "
        "where name = 'pixels' and prediction = 'bright' order by 1"
    )
    assert matched(bright, "prediction")["example_id"].tolist() == [example for (example,) in expected] != []


def test_nothing_is_no_row(a):
    found = query.find(a, "no such word", network=WORDS)
    assert found.empty and set(found.attrs["counts"].values()) == {0} and "context" in found


def test_an_atlas_without_texts_has_contexts(damaged):
    path = damaged("update inputs set text = null")
    with atlas.open(path) as a:
        found = query.find(a, "fruit1", network=WORDS, limit=3)
        assert found.attrs["counts"]["text"] == a.value(
            "select count(distinct input_id) from examples where contains(context, 'fruit1')"
        )
        for row in matched(found, "text").itertuples():
            assert row.context[row.found_at :].startswith("fruit1")


def test_what_can_not_be_looked_for(a):
    for words, asked, error, said in (
        ("", {}, UsageError, "0 characters"),
        ("x" * 1001, {}, UsageError, "1,001 characters"),
        ("x", {"limit": 0}, UsageError, "limit is 0"),
        ("x", {"network": "none"}, UnknownName, "none"),
        ("x", {"network": PIXELS, "exact": True}, UsageError, "reads images, which have none"),
    ):
        with pytest.raises(error, match=said):
            query.find(a, words, **{"network": WORDS, **asked})
