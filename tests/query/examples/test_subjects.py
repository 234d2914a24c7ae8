"""A subject is read once, and every question about it has the answer that it has asked for alone."""

import pandas as pd
import pytest

import atlas
import query
from atlas.errors import IndexMismatch, UsageError
from atlas.search.hamming_index import HammingIndex
from query.neighbors import code_search
from tests.networks import WordReader, word_network

TEXT = "fruit1 fruit4 fruit2 metal3 fruit7 fruit9 river2"
SITE = "blocks.3.mlp"


class Counted(WordReader):
    """The network of the atlas, which counts how often it is asked."""

    def __init__(self) -> None:
        vars(self).update(vars(word_network()))
        self.tokenised = self.passes = 0

    def tokenize(self, text):
        self.tokenised += 1
        return super().tokenize(text)

    def read(self, batch, codes, activations):
        self.passes += 1
        return super().read(batch, codes, activations)


@pytest.fixture
def reader() -> Counted:
    return Counted()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How codes were gone through, in order."""
    ways: list[str] = []
    for owner, name in ((HammingIndex, "search"), (HammingIndex, "within"), (code_search, "distances_to_code")):
        real = getattr(owner, name)

        def counted(*args, name=name, real=real, **more):
            ways.append(name)
            return real(*args, **more)

        monkeypatch.setattr(owner, name, counted)
    return ways


def test_text_is_tokenised_and_run_once(a, reader):
    subject = query.subject(a, text=TEXT, site=SITE, reader=reader)
    query.nearest(a, subject=subject, k=10)
    query.nearest(a, subject=subject, radius=0)
    for space in ("codes", "activations"):
        query.membership(a, subject=subject, space=space)
    assert (reader.tokenised, reader.passes) == (1, 1)
    query.nearest(a, text=TEXT, site=SITE, reader=reader)
    assert (reader.tokenised, reader.passes) == (2, 2)


def test_codes_are_searched_once(a, reader, searches):
    """The 10 nearest, how many share the polytope and the cluster all come from one search of the index."""
    subject = query.subject(a, text=TEXT, token=0, site=SITE, reader=reader)
    found = query.nearest(a, subject=subject, k=10, outside=True)
    sharers = query.nearest(a, subject=subject, radius=0)
    assert len(found) == 10 and found.attrs["n_same"] == len(sharers) > 10
    query.membership(a, subject=subject)
    assert searches == ["search"]


def test_span_without_index_is_scanned_once(a, searches):
    subject = query.subject(a, example=12, site="blocks.1.mlp->")
    query.nearest(a, subject=subject, k=300, outside=True)
    query.nearest(a, subject=subject, radius=3)
    assert searches == ["distances_to_code"]


@pytest.mark.parametrize("asked", [{"text": TEXT, "token": 2}, {"example": 12}, {"code": "01" * 15 + "1"}])
@pytest.mark.parametrize(
    "wanted", [{"k": 7}, {"radius": 12}, {"k": 100}, {"k": 5, "label": "fruit"}, {"exact": True}]
)
def test_subject_answers_as_plain_form(a, words, asked, wanted):
    live = {"reader": words} if "text" in asked else {}
    subject = query.subject(a, **asked, site=SITE, **live)
    for _ in range(2):  # the second time from what is known
        found = query.nearest(a, subject=subject, **wanted)
        plain = query.nearest(a, **asked, site=SITE, **live, **wanted)
        pd.testing.assert_frame_equal(found, plain, check_dtype=len(found) > 0)
        assert found.attrs == plain.attrs


@pytest.mark.parametrize("space", ["codes", "activations"])
def test_subject_is_placed_as_plain_form(a, words, space):
    subject = query.subject(a, text=TEXT, site=SITE, reader=words)
    plain = query.membership(a, text=TEXT, site=SITE, space=space, reader=words)
    assert query.membership(a, subject=subject, space=space) == plain
    query.nearest(a, subject=subject, k=200)
    assert query.membership(a, subject=subject, space=space) == plain


@pytest.mark.parametrize("k", [1, 30, 300])
@pytest.mark.parametrize("site", ["blocks.2.mlp", "blocks.1.mlp->blocks.2.mlp"])
def test_outside_leaves_the_polytope_out(a, site, k):
    """The k nearest others stand behind all who share the polytope, however many those are."""
    everyone = query.nearest(a, example=12, site=site, radius=60)
    behind = everyone[everyone["distance"] > 0].head(k)
    found = query.nearest(a, example=12, site=site, k=k, outside=True)
    assert found.attrs["n_same"] == int((everyone["distance"] == 0).sum()) > 1
    assert found["example_id"].tolist() == behind["example_id"].tolist()
    assert found["rank"].tolist() == list(range(1, len(behind) + 1))


def test_sharers_are_counted_where_known(a):
    """Where all k share the polytope, the k don't tell how many do."""
    asked = {"example": 12, "site": "blocks.2.mlp"}
    n = len(query.nearest(a, **asked, radius=0))
    counted = [query.nearest(a, **asked, k=k).attrs["n_same"] for k in (n - 1, n, n + 1, 359)]
    assert counted == [None, None, n, n]
    assert query.nearest(a, **asked, radius=0, k=2).attrs["n_same"] == n


def test_subject_knows_its_tokens(a, words):
    subject = query.subject(a, text=TEXT, token=-2, site=SITE, reader=words)
    assert subject.tokens == tuple(TEXT.split(" "))
    assert (subject.token, subject.kind) == (5, "text")
    assert subject.name == "token 5 ('fruit9') of the text"


def test_sorted_search_equals_kept_nearest(a, monkeypatch):
    """For very many neighbours all distances are sorted; the answer is the same."""
    kept = query.nearest(a, example=12, site=SITE, k=300)
    monkeypatch.setattr(code_search, "SORTED_BEYOND", 20)
    pd.testing.assert_frame_equal(query.nearest(a, example=12, site=SITE, k=300), kept)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"site": "blocks.2.mlp"}, "was read at blocks.3.mlp of network words; leave site, span and network away"),
        ({"network": "plane"}, "was read at blocks.3.mlp of network words"),
        ({"span": "blocks.2.mlp->"}, "was read at blocks.3.mlp of network words"),
        ({"example": 3}, "got example and subject"),
        ({"token": 3}, "token is 3, but it belongs to a text and subject was given"),
    ],
)
@pytest.mark.parametrize("ask", [query.nearest, query.membership])
def test_what_a_subject_is_not_asked_with(a, ask, more, message):
    subject = query.subject(a, example=12, site=SITE)
    with pytest.raises(UsageError, match=message):
        ask(a, subject=subject, **more)


def test_subject_belongs_to_its_atlas(a, damaged):
    subject = query.subject(a, example=12, site=SITE)
    with atlas.open(damaged()) as other, pytest.raises(UsageError, match="; read it there"):
        query.nearest(other, subject=subject)


def test_answers_of_other_codes_are_gone(damaged):
    """A subject outlives an opening of the atlas; what was found among other codes does not."""
    path = damaged()
    with atlas.open(path) as a:
        subject = query.subject(a, code="1" * 31, site=SITE)
        query.nearest(a, subject=subject, k=3)
    with atlas.open(path, writable=True) as a:
        a.execute("update sites set codes_digest = 'of other codes' where name = $1", [SITE])
        a.execute("update indexes set digest = 'of other codes' where target = $1", [SITE])
    with atlas.open(path) as a, pytest.raises(IndexMismatch, match="digest of other codes"):
        query.nearest(a, subject=subject, k=3)
