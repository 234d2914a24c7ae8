"""Many queries in one call are as many single ones; what is stored of all examples is what each would find."""

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas.errors import IndexMissing, UnknownName, UsageError, WidthError
from ingest.derived.neighbors import store_neighbors
from tests.atlases import add_texts
from tests.networks import word_network, word_texts
from tests.query.neighbors.test_nearest import TEXT_COLUMNS

SHOWN = [name for name in TEXT_COLUMNS if name != "density"]


def one_by_one(a, examples, **asked):
    frames = [query.nearest(a, example=example, **asked)[SHOWN] for example in examples]
    whole = pd.concat(frames, ignore_index=True)
    whole.insert(0, "query_id", np.repeat(examples, [len(frame) for frame in frames]))
    return whole


@pytest.mark.parametrize(
    "asked",
    [
        {"site": "blocks.3.mlp", "k": 7},
        {"span": "blocks.0.mlp->", "k": 1},
        {"site": "blocks.2.mlp", "k": 359},
        {"site": "blocks.2.mlp", "k": 20, "include_self": True},
        {"site": "blocks.3.mlp", "k": 5, "label": "metal"},
        {"site": "blocks.2.mlp", "k": 5, "where": "position < 6", "cluster": 0, "clustering": 2},
    ],
)
def test_many_queries_are_single_ones(a, asked):
    examples = [371, 12, 40, 40, 200]
    found = query.nearest_many(a, examples=examples, **asked)
    pd.testing.assert_frame_equal(found, one_by_one(a, examples, **asked), check_dtype=True)
    single = query.nearest(a, example=12, **asked).attrs
    for name in ("network", "target", "n_gates", "n_codes", "n_searched", "exact_search", "searched", "clustering"):
        assert found.attrs[name] == single[name], name


def test_codes_are_numbered_by_their_row(a):
    ids, codes = a.codes(a.catalog.target(site="blocks.3.mlp").sites, [30, 12])
    found = query.nearest_many(a, codes=codes, site="blocks.3.mlp", k=4)
    assert found["query_id"].tolist() == [0] * 4 + [1] * 4
    for row, example in enumerate(ids):
        alone = query.nearest(a, example=int(example), site="blocks.3.mlp", k=4, include_self=True)
        assert found.loc[found["query_id"] == row, "example_id"].tolist() == alone["example_id"].tolist()


def test_images_come_without_thumbnails(a):
    found = query.nearest_many(a, examples=np.arange(372, 384), site="conv1:full", k=3)
    assert "thumbnail" not in found and "key" in found and len(found) == 36


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, UsageError, "examples or about codes, got neither"),
        ({"examples": []}, UsageError, "nothing to ask about: no examples were given"),
        ({"examples": [40, 4000]}, UnknownName, "no example 4000"),
        ({"examples": [40, 372]}, UnknownName, "example 372 was read by network pixels, not by words"),
        ({"examples": [40, "41"]}, UsageError, "a whole number, got '41'"),
        ({"examples": [40], "k": 0}, UsageError, "k is 0; expected a whole number of at least 1"),
        ({"examples": [40], "k": 360}, UsageError, "codes of 359 other examples: ask for fewer"),
        ({"examples": [40], "device": "tpu"}, UsageError, "device is 'tpu'"),
        ({"examples": [40], "device": "tpu", "label": "metal"}, UsageError, "device is 'tpu'"),
        ({"examples": [40], "device": "cuda", "label": "metal"}, UsageError, r"cuda, but .* \(a filter\) runs on"),
    ],
)
def test_what_nearest_many_refuses(a, asked, error, message):
    with pytest.raises(error, match=message):
        query.nearest_many(a, **asked, site="blocks.2.mlp")


def test_unfit_codes_are_refused(a):
    codes = a.codes(a.catalog.target(site="blocks.1.mlp").sites)[1]
    with pytest.raises(WidthError, match="the query has 20 gates"):
        query.nearest_many(a, codes=codes, site="blocks.2.mlp")
    with pytest.raises(UsageError, match="no codes were given"):
        query.nearest_many(a, codes=codes[:0], site="blocks.1.mlp")
    with pytest.raises(UsageError, match="got both"):
        query.nearest_many(a, codes=codes, examples=[1], site="blocks.1.mlp")
    with pytest.raises(IndexMissing, match=r"`polytope index .* --span 'blocks.1.mlp->'`"):
        query.nearest_many(a, examples=[40], span="blocks.1.mlp->")


def test_answers_from_memory_equal_sql(a):
    """The first few questions are SQL's, later ones come from what was kept: the same values and types."""
    for asked in ({"example": 40, "site": "blocks.3.mlp"}, {"example": 372, "site": "conv1:full", "k": 5}):
        answers = [query.nearest(a, **asked) for _ in range(8)]
        for answer in answers[1:]:
            pd.testing.assert_frame_equal(answer, answers[0])
        with atlas.open(a.path) as fresh:
            pd.testing.assert_frame_equal(query.nearest(fresh, **asked), answers[-1])


def test_a_writer_remembers_nothing(damaged):
    with atlas.open(damaged(), writable=True) as a:
        for label in ("one", "two", "three", "four", "five", "six"):
            a.execute(f"update examples set label = '{label}'")
            assert set(query.nearest(a, example=40, site="blocks.3.mlp")["label"]) == {label}


# --- stored for all examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["blocks.2.mlp", "blocks.0.mlp->"])
def test_stored_neighbors_are_the_nearest(damaged, target):
    path = damaged()
    assert store_neighbors(path, site=target, network="words", k=6) == 360
    with atlas.open(path) as a:
        stored = a.frame("select example_id, rank, neighbor_id, distance from neighbors order by example_id, rank")
        expected = query.nearest_many(a, examples=range(12, 372), site=target, k=6)
        columns = ["query_id", "rank", "example_id", "distance"]
        assert stored.values.tolist() == expected[columns].values.tolist()
        assert query.neighborhoods(a).values.tolist() == [["words", target, 6, 360, True]]


def test_a_second_job_replaces_the_first(damaged):
    path = damaged()
    for site, k in (("blocks.2.mlp", 6), ("blocks.2.mlp", 2), ("hidden", 3)):
        store_neighbors(path, site=site, k=k)
    with atlas.open(path) as a:
        counts = dict(a.rows("select target, count(*) from neighbors group by all"))
        assert counts == {"blocks.2.mlp": 720, "hidden": 33}
        assert query.verify(a)["ok"].all()
    add_texts(path, word_network(), word_texts(63)[60:])
    with atlas.open(path) as a:
        current = query.neighborhoods(a).set_index("target")["current"]
        assert current.to_dict() == {"blocks.2.mlp": False, "hidden": True}


def test_damaged_neighbors_are_found(damaged):
    path = damaged()
    store_neighbors(path, site="blocks.2.mlp", k=2)
    with atlas.open(path, writable=True) as a:
        a.execute("delete from neighbors where example_id = 40 and rank = 2")
        a.execute("update neighbors set neighbor_id = 9999 where example_id = 41 and rank = 1")
    with atlas.open(path) as a:
        failed = query.verify(a).query("not ok").set_index("subject")
    assert failed["detail"].to_dict() == {
        "neighbors, network_id 2, target blocks.2.mlp": "720 rows were written, there are 719",
        "words blocks.2.mlp": "719 rows instead of 2 for each of 360",
        "neighbors.neighbor_id": "1 rows refer to examples that are not there, the first to neighbor_id 9999",
    }
