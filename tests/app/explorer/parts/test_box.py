"""The one box: what is meant by what is typed, and the pages that it leads to."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from app.explorer.parts.box import meaning
from app.explorer.parts.near import in_words
from atlas.errors import UsageError
from query.neighbors.nearness import NearestDistances, nearest_distances
from tests.app.explorer.running import computed, errors, ids, opened, tables, words

WORDS, PIXELS, SITE = "words", "pixels", "blocks.2.mlp"


def test_what_is_typed_has_a_meaning(built: Path):
    with atlas.open(built) as a:
        first = a.value(
            "select min(example_id) from examples join networks using (network_id) where name = $1", [PIXELS]
        )
        for network, typed, meant in (
            (WORDS, "20", {"example": "20"}),
            (WORDS, str(first), {"text": str(first)}),
            (PIXELS, f" {first} ", {"example": str(first)}),
            (WORDS, "99999999999", {"text": "99999999999"}),
            (WORDS, "fruit3", {"find": "fruit3"}),
            (WORDS, "ruit", {"find": "ruit"}),
            (WORDS, "words that nobody stored", {"text": "words that nobody stored"}),
            (WORDS, "fruit3\nfruit4", {"text": "fruit3\nfruit4"}),
            (PIXELS, "bright", {"find": "bright"}),
            (PIXELS, "nothing", {"find": "nothing"}),
        ):
            assert meaning(a, typed, network) == meant, typed
        with pytest.raises(UsageError, match="1,001 characters"):
            meaning(a, "x" * 1001, PIXELS)


def test_found_tokens_lead_to_their_clusters(built: Path):
    with atlas.open(built) as a:
        site = a.value("select target from clusterings where space = 'codes' and target like 'blocks._.mlp' limit 1")
        found = query.find(a, "fruit3", network=WORDS, limit=500)
        expected = a.rows(
            """
            select cluster, count(*) from cluster_members
            where token = 'fruit3' and clustering_id = (
                select max(clustering_id) from clusterings where target = $1 and space = 'codes')
            group by 1 order by 2 desc, 1
            """,
            [site],
        )
    app = opened(built, "look", network=WORDS, target=site, find="fruit3", limit=500)
    assert errors(app) == [] and ids(app) == found["example_id"].tolist()
    shown = next(part.value for part in app.html if "Their clusters" in part.value)
    links = re.findall(r"cluster=(\w+)[^>]*>[^<]*</a> (\d+)", shown)
    assert links == [("noise" if label == -1 else str(label), str(n)) for label, n in expected] != []
    marks = re.findall(r"<mark>(.*?)</mark>", "".join(part.value for part in app.html))
    assert marks == ["fruit3"] * len(found)


def test_a_clusters_name_is_found_by_the_box(small: Path):
    """In either case, on Look; and what a cluster is called is written beside the map as well."""
    with atlas.open(small) as a:
        [(site, clustering)] = a.rows(
            "select target, clustering_id from clusterings where space = 'codes' and target like 'blocks._.mlp' "
            "order by clustering_id desc limit 1"
        )
        query.name_cluster(a, "Sweet Things", clustering=clustering, cluster=0)
    with atlas.open(small) as a:
        assert meaning(a, "sweet things", WORDS) == {"find": "sweet things"}
    app = opened(small, "look", network=WORDS, target=site, find="sweet things")
    shown = next(part.value for part in app.html if "Clusters of that name" in part.value)
    assert re.findall(r"clustering=(\d+)&amp;cluster=(\w+)[^>]*>([^<]*)</a>", shown) == [
        (str(clustering), "0", "Sweet Things #0")
    ]
    app = opened(small, "atlas", network=WORDS, target=site, clustering=clustering, cluster=0)
    assert errors(app) == [] and [field.value for field in app.text_input if field.label == "Name"] == [
        "Sweet Things"
    ]


def test_the_box_changes_what_is_looked_at(built: Path):
    """From an example to a search and on to an example; what was looked at before is gone from the address."""
    app = opened(built, "look", network=WORDS, target=SITE, example=20)
    app.chat_input[0].set_value("fruit3")
    computed(app)
    assert "fruit3" in app.query_params["find"] and len(tables(app)) == 2
    app.chat_input[0].set_value("30")
    computed(app)
    assert "find" not in app.query_params and app.number_input(key="example").value == 30
    assert "look for the word “30” instead" in words(app) and errors(app) == []


def test_how_near_is_said_of_an_example(built: Path):
    with atlas.open(built) as a:
        scale = nearest_distances(a, a.catalog.target(site=SITE, network=WORDS))
        found = query.nearest(a, example=20, site=SITE, network=WORDS, outside=True, k=3)
    app = opened(built, "look", network=WORDS, target=SITE, example=20, k=3)
    sharing = found.attrs["n_same"] > 0
    assert in_words(scale, int(found["distance"].min()), sharing=sharing) in words(app)
    shares = scale.shares(found["distance"].tolist())["nearer_than"]
    assert [row[2] for row in tables(app)[-1]] == [f"{share:.0%}" for share in shares]


def test_what_is_far_out_is_told():
    scale = NearestDistances(np.arange(1, 201), 5000, False)
    assert "nearer than 50% of this atlas's own nearest neighbours (a sample of 200 of 5,000" in in_words(scale, 100)
    assert "150 gates away: nearer than only 25% of" in in_words(scale, 150)
    assert in_words(scale, 198).startswith("<b>Far out</b>: its nearest is 198 gates away, nearer than only 1.0%")
    assert "farther than each of" in in_words(scale, 201)
    assert in_words(scale, 3, sharing=True).startswith("Others share its polytope; so they do for 0%")
