"""Boundaries of many examples in a table: those of the single question, resumed, replaced, and asked about in SQL."""

import shutil

import numpy as np
import pytest

import atlas
import query
from atlas.errors import AtlasLocked, UsageError
from tests.atlases import built_once
from tests.query.experiments.tailed import plane_atlas, plane_reader

SPAN = "embed->"


@pytest.fixture
def path(tmp_path_factory, tmp_path):
    return shutil.copytree(built_once(tmp_path_factory, "plane.atlas", plane_atlas), tmp_path / "plane.atlas")


def test_rows_are_those_of_the_question(path):
    """Of all 49 points; gates are counted in SQL, and the atlas holds together."""
    stored = query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=3)
    assert (stored.examples, stored.new, stored.missed, stored.span) == (49, 49, 0, SPAN)
    with atlas.open(path) as a:
        rows = a.frame("from boundaries order by example_id, rank")
        assert len(rows) == a.value("select count(*) from boundaries where span = 'embed->'") <= 3 * 49
        for example in (3, 17, 33):
            asked = query.boundaries(a, example=example, reader=plane_reader(), span=SPAN, k=3).table
            mine = rows[rows["example_id"] == example]
            np.testing.assert_array_equal(mine["distance"], asked["distance"])
            for name in ("rank", "kind", "site", "gate", "module", "facet"):
                assert mine[name].tolist() == asked[name].tolist()
        bounding = a.rows(
            """
            select site, gate, count(*) as n from boundaries join sites using (site_id, network_id)
            where rank = 1 and site = sites.name group by all order by n desc, site, gate
            """
        )
        assert sum(n for *_, n in bounding) == 49 and bounding[0][:2] == ("out", 0)
        assert query.verify(a)["ok"].all()


def test_a_stopped_run_goes_on(path):
    """What was stored stays, is not computed again, and the end is as if nobody had stopped it."""

    def stop(done, total):
        if done >= 0.5 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=2, progress=stop)
    with atlas.open(path) as a:
        first = a.rows("from boundaries order by all")
        n = a.value("select count(distinct example_id) from boundaries")
        assert 0 < n < 49 and query.verify(a)["ok"].all()
    stored = query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=2)
    assert (stored.examples, stored.new) == (49, 49 - n)
    with atlas.open(path) as a:
        both = a.rows("from boundaries order by all")
    assert set(first) < set(both)
    again = query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=2)
    assert (again.examples, again.new) == (49, 0)


def test_another_question_replaces_the_rows(path):
    query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=1, examples=5)
    stored = query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=2, examples=3)
    assert (stored.examples, stored.new) == (3, 3)
    query.store_boundaries(path, reader=plane_reader(), span="hidden->", k=1, examples=4)
    with atlas.open(path) as a:
        counted = a.rows("select span, max(rank), count(distinct example_id) from boundaries group by all order by 1")
        assert counted == [("embed->", 2, 3), ("hidden->", 1, 4)]
        assert a.rows("select span, k from bounded_spans order by 1") == [("embed->", 2), ("hidden->", 1)]


def test_what_cannot_be_stored_is_refused(path):
    for options, message in (({"k": 0}, "k is 0"), ({"examples": 0}, "examples is 0"), ({"sketch": -1}, "sketch")):
        with pytest.raises(UsageError, match=message):
            query.store_boundaries(path, reader=plane_reader(), span=SPAN, **options)
    with atlas.open(path), pytest.raises(AtlasLocked, match="open in this process"):
        query.store_boundaries(path, reader=plane_reader(), span=SPAN, k=1)
