"""Filters are part of the search: the answer is that of sorting what meets them, and nothing else."""

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas.errors import SqlFailed, SqlRefused, SqlTimeout, UnknownName, UsageError
from atlas.store.user_sql import check_condition, too_much_memory, took_too_long
from tests.atlases import add_texts
from tests.networks import word_network, word_texts
from tests.query.neighbors.test_nearest import by_numpy

TARGETS = [("blocks.2.mlp", 12), ("blocks.0.mlp->", 200), ("blocks.1.mlp->", 12)]
"""A site, a span with an index and a span without, and the example that is asked about."""
WORDS = "network_id = 2"


def meeting(a, condition):
    """Ids of the network's examples of which a condition in SQL holds."""
    return {example for (example,) in a.rows(f"select example_id from examples where {WORDS} and ({condition})")}


def sorted_among(a, target, example, allowed):
    """All others that are allowed, nearest first: an exhaustive search, filtered afterwards."""
    pairs = zip(*by_numpy(a, target, example), strict=True)
    return [(int(other), int(distance)) for other, distance in pairs if other in allowed and other != example]


def pairs(found):
    return list(zip(found["example_id"].tolist(), found["distance"].tolist(), strict=True))


IN_CLUSTER = "example_id in (select example_id from cluster_labels where clustering_id = 2 and label = {})"
FREQUENT = "prediction in (select prediction from examples group by all having count(*) > 20)"

FILTERS = [
    ({"label": "metal"}, "label = 'metal'"),
    ({"where": "position < 3"}, "position < 3"),
    ({"where": "token like 'river%' or loss < 0 -- a comment"}, "token like 'river%' or loss < 0"),
    ({"where": FREQUENT}, FREQUENT),
    ({"dataset": "texts"}, "true"),
    ({"cluster": 0, "clustering": 2}, IN_CLUSTER.format(0)),
    ({"cluster": -1, "clustering": 2, "label": "fruit"}, f"label = 'fruit' and {IN_CLUSTER.format(-1)}"),
    ({"label": "river", "where": "example_id % 3 = 0", "dataset": "texts"}, "label = 'river' and example_id % 3 = 0"),
]


@pytest.mark.parametrize(("target", "example"), TARGETS)
@pytest.mark.parametrize(("wanted", "condition"), FILTERS)
def test_filters_equal_filtering_afterwards(a, target, example, wanted, condition):
    allowed = meeting(a, condition)
    expected = sorted_among(a, target, example, allowed)
    found = query.nearest(a, example=example, site=target, k=len(expected), **wanted)
    assert pairs(found) == expected
    assert pairs(query.nearest(a, example=example, site=target, **wanted)) == expected[:10]
    radius = expected[len(expected) // 2][1]
    within = query.nearest(a, example=example, site=target, radius=radius, **wanted)
    assert pairs(within) == [pair for pair in expected if pair[1] <= radius]
    same = query.nearest(a, example=example, site=target, radius=0, include_self=True, **wanted)
    assert (example in same["example_id"].tolist()) == (example in allowed)
    assert found.attrs["n_searched"] == len(allowed) and found.attrs["exact_search"] is True


def test_a_code_and_a_text_are_filtered_too(a, words):
    allowed = meeting(a, "label = 'metal'")
    _, stored = a.codes(a.catalog.target(site="blocks.2.mlp").sites, [12])
    bits = "".join("1" if gate else "0" for gate in stored.unpack()[0])
    by_code = query.nearest(a, code=bits, site="blocks.2.mlp", label="metal", k=5)
    others = zip(*by_numpy(a, "blocks.2.mlp", 12), strict=True)
    assert pairs(by_code) == [(i, d) for i, d in others if i in allowed][:5]
    live = query.nearest(a, text="metal1 river2", site="blocks.2.mlp", reader=words, label="metal", k=5)
    assert set(live["label"]) == {"metal"} and len(live) == 5


def test_datasets_may_share_inputs(tmp_path):
    """Two of the five texts of the second are in the first too."""
    add_texts(tmp_path / "a", word_network(), word_texts(6), dataset="first")
    add_texts(tmp_path / "a", word_network(), word_texts(9)[4:], dataset="second")
    with atlas.open(tmp_path / "a") as a:
        texts = "select example_id from examples join dataset_inputs using (input_id) where dataset_id = 2"
        second = {example for (example,) in a.rows(texts)}
        found = query.nearest(a, example=1, span="blocks.1.mlp->", dataset="second", k=len(second))
        assert set(found["example_id"]) == second == set(range(25, 55))


OWN_FILE = "read_blob(current_setting('allowed_paths')[4])"
"""A file that the sandbox itself may read."""


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"label": "meta"}, UnknownName, r"no example of network words has label 'meta'; it has fruit, metal, river"),
        ({"dataset": "points."}, UnknownName, r"has dataset 'points.'; it has images, points, texts"),
        ({"cluster": 0}, UnknownName, r"blocks.2.mlp of network words has no clustering; `polytope cluster"),
        ({"cluster": 99, "clustering": 2}, UnknownName, r"no cluster 99 in clustering 2 .* numbered from 0, and -1"),
        ({"cluster": "0", "clustering": 2}, UsageError, "cluster is '0'; expected the number of a cluster"),
        ({"label": 3}, UsageError, "label is 3; expected a name"),
        ({"where": "  "}, UsageError, "where is '  '; expected a condition in SQL"),
        ({"where": "colour = 3"}, SqlFailed, r"^no column colour .* \(where is 'colour = 3'\)$"),
        ({"where": "label"}, SqlFailed, "where is 'label'; expected a condition"),
        ({"where": "true; drop table codes"}, SqlFailed, "where is 'true; drop table codes'"),
        ({"where": "label in (select * from read_csv('/etc/passwd'))"}, SqlRefused, "own tables only"),
        ({"where": " + ".join(["1"] * 500)}, SqlRefused, "nested too deeply to be checked"),
        ({"where": "(" * 3000 + "true" + ")" * 3000}, SqlFailed, r"^where is '\({199}…'; .* depth limit of 1000"),
        (
            {"where": "loss < 1" + " " * 10_000},
            SqlRefused,
            "has 10,008 bytes, and at most 10,000 are parsed",
        ),
        ({"where": "loss <"}, SqlFailed, r'Parser Error: syntax error at or near "\)"$'),
        ({"where": "label::int = 3"}, SqlFailed, r"^the text '.*' is no number; .* \(where is 'label::int = 3'\)$"),
        (
            {"where": "loss in (select size from read_blob('x'))"},
            SqlRefused,
            "own tables only, .*: it would open a file",
        ),
        (
            {"where": "exists (with x as (copy meta to 'x.csv') from x)"},
            SqlFailed,
            "COPY statement must be at the top",
        ),
        ({"where": "loss < $1"}, SqlRefused, "that is not one condition; .* without parameters"),
        ({"where": "false"}, UsageError, r"none of the examples of network words .* the filter \(where 'false'"),
        ({"label": "metal", "where": "loss > 5"}, UsageError, r"filter \(label 'metal', where 'loss > 5'\)"),
        ({"where": "example_id = 40"}, UsageError, "none of the other examples"),  # itself alone
        ({"where": "example_id < 15", "k": 4}, UsageError, r"codes of 3 examples with where 'example_id < 15'"),
    ],
)
def test_what_a_filter_refuses(a, wanted, error, message):
    with pytest.raises(error, match=message):
        query.nearest(a, example=40, site="blocks.2.mlp", **wanted)
    with pytest.raises(error, match=message):
        query.nearest_many(a, examples=[40], site="blocks.2.mlp", **wanted)


@pytest.mark.parametrize(
    "condition",
    [
        "true) union all (select i from range(9) t(i)",
        "true) order by (loss) limit (1",
        "true) group by all having (true",
        "true) or (true",
        "true) and (loss < 1",
        "loss) = (loss",
        "true) and coalesce(true",
        "true, false",
        "true,",
        "true); select (true",
    ],
)
def test_more_than_a_condition_is_refused(a, condition):
    with pytest.raises(SqlRefused, match="that is not one condition; give what"):
        check_condition(a.sql, "examples", condition)


@pytest.mark.parametrize(
    "condition",
    [
        "loss < 5",
        "(loss < 5) or (loss >= 5)",
        "label in ('metal', 'fruit')",
        "position between 1 and 3",
        "case when loss < 5 then true else false end",
        "not coalesce(loss < 5, false)",
        "loss is not null",
        "loss < (select avg(loss) from examples)",
        "exists (from sites)",
        "(loss, position) > (1, 1)",
        "token like 'river%' escape '!' -- (",
        "/* ) */ label = ')' and token glob ('r*') /* or */",
        "label = any (select label from examples)",
        "coalesce(loss, 1) > 0",
        "len([i for i in [1, 2] if i > 1]) = 1",
        "cast(loss as int) > 1\n-- a comment\n",
    ],
)
def test_any_expression_is_a_condition(a, condition):
    check_condition(a.sql, "examples", condition)
    a.rows(f"select 1 from examples where (\n{condition}\n)")


def test_a_condition_is_parsed_elsewhere(a, monkeypatch):
    """Where SQL is asked in another process, that parses the condition too: it may bring down the parser."""
    asked = []

    def elsewhere(text: str, *how: object) -> pd.DataFrame:
        asked.append(text)
        raise SqlFailed("the database itself fails at this query")

    monkeypatch.setattr(a, "elsewhere", elsewhere)
    with pytest.raises(SqlFailed, match="itself fails"):
        query.nearest(a, example=40, site="blocks.2.mlp", where="loss < 1")
    assert asked == ["select json_serialize_sql($1), json_serialize_sql($2), json_serialize_sql($3)"]


@pytest.mark.parametrize(("limit", "kind"), [(took_too_long, SqlTimeout), (too_much_memory, SqlFailed)])
def test_a_costly_condition_is_not_wrong(a, limit, kind, monkeypatch):
    error = limit(None if limit is too_much_memory else 30.0)

    def asked(*args: object) -> pd.DataFrame:
        raise error

    monkeypatch.setattr(a, "elsewhere", asked)
    with pytest.raises(kind) as found:
        query.nearest(a, example=40, site="blocks.2.mlp", where="loss < 1")
    assert str(found.value) == f"{error} (where is 'loss < 1')"


def test_a_writer_takes_no_condition(damaged):
    with (
        atlas.open(damaged(), writable=True) as a,
        pytest.raises(UsageError, match="open for writing, outside the sandbox"),
    ):
        query.nearest(a, example=40, site="blocks.2.mlp", where="true")


def test_a_filter_is_of_the_target_alone(a):
    """Examples of other networks meet the condition too, and have no code here."""
    found = query.nearest(a, example=40, site="blocks.2.mlp", where="example_id > 365 or example_id < 20", k=14)
    assert found["example_id"].between(12, 371).all() and found.attrs["n_searched"] == 14
    np.testing.assert_array_equal(np.sort(found["example_id"]), [*range(12, 20), *range(366, 372)])
