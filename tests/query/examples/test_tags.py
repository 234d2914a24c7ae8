"""Tags of examples and saved views: lines beside the names, which outlive whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import atlas
import query
from atlas.errors import DamagedAtlas, UnknownName, UsageError
from atlas.store.names import NAMES
from query.store.queries import schema


@pytest.fixture
def own(damaged: Callable[..., Path]) -> Path:
    return damaged()


def test_tags_are_put_on_and_taken_off(own: Path):
    with atlas.open(own) as a:
        assert query.tags(a).empty
        assert query.tag_examples(a, " odd ", examples=[3, 1, 3]) == 2
        query.tag_examples(a, "other", examples=[1])
        assert query.tag_examples(a, "odd", examples=[1, 2], remove=True) == 1
    with atlas.open(own) as a:
        assert query.tags(a)[["tag", "example_id"]].values.tolist() == [["odd", 3], ["other", 1]]
        assert query.tags(a, tag="other")["example_id"].tolist() == [1]
        query.name_cluster(a, "named", clustering=2, cluster=0)  # a line among the others
        assert len(query.tags(a)) == 2 and query.cluster_names(a)["name"].tolist() == ["named"]
        assert query.verify(a)["ok"].all()


def test_sql_sees_tags_as_they_are_now(own: Path):
    asked = "from tags join examples using (example_id) select tag, example_id, tagged_at order by all"
    with atlas.open(own) as a:
        assert a.sql(asked).empty
        query.tag_examples(a, "it's", examples=[3, 1])
        query.tag_examples(a, "other", examples=[2, 1])
        query.tag_examples(a, "other", examples=[2], remove=True)
        assert a.sql(asked).values.tolist() == query.tags(a).values.tolist() and len(query.tags(a)) == 3
        listed = schema(a)
        assert listed.loc[listed["table"] == "tags", "column"].tolist() == ["example_id", "tag", "tagged_at"]


def test_a_tag_of_no_example_is_no_order(own: Path):
    with atlas.open(own) as a:
        (own / NAMES).write_text('{"tag": "x", "examples": [1, 9999], "removed": false, "tagged_at": "2026-01-01"}\n')
        checks = query.verify(a)
        [wrong] = checks.loc[~checks["ok"], "detail"]
        assert wrong == "1 belong to examples that are not there, the first to example 9999"


@pytest.mark.parametrize(
    ("tag", "examples", "error", "said"),
    [
        ("  ", [1], UsageError, "the tag is empty"),
        ("x", [], UsageError, "no example is given to bear the tag x"),
        ("two\nlines", [1], UsageError, "line break or control character"),
        ("x", [999_999], UnknownName, "no example 999999 in "),
        ("x", [1, -1], UnknownName, "no example -1 in "),
        ("x", [2**70], UnknownName, f"no example {2**70} in "),
    ],
)
def test_what_can_bear_no_tag_is_said(own: Path, tag: str, examples: list, error: type[Exception], said: str):
    with atlas.open(own) as a, pytest.raises(error, match=said):
        query.tag_examples(a, tag, examples=examples)
    assert not (own / NAMES).exists()


def test_a_view_is_saved_under_a_name(own: Path):
    with atlas.open(own) as a:
        query.save_view(a, "one", address="atlas?cluster=1")
        query.save_view(a, "two", address="cluster?cluster=2")
        query.save_view(a, "one", address="atlas?cluster=3")
        assert query.saved_views(a)[["name", "address"]].values.tolist() == [
            ["one", "atlas?cluster=3"],
            ["two", "cluster?cluster=2"],
        ]
        query.save_view(a, "two", address=None)
        assert query.saved_views(a)["name"].tolist() == ["one"]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://x.org", "//x/y", "", "atlas?a=\n", "x" * 9000])
def test_a_view_leads_to_a_page_alone(own: Path, address: str):
    with atlas.open(own) as a, pytest.raises(UsageError, match="a view is the address of a page of the explorer"):
        query.save_view(a, "x", address=address)


@pytest.mark.parametrize("more", ["", ', "examples": ["1"], "removed": false, "tagged_at": "2026-01-01"'])
def test_a_line_that_is_no_tag_is_damage(own: Path, more: str):
    (own / NAMES).write_text('{"tag": "x"' + more + "}\n")
    with atlas.open(own) as a, pytest.raises(DamagedAtlas, match="line 1 of "):
        query.tags(a)
