"""Names of clusters: kept with the medoid, found again in another clustering."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas.errors import UnknownName, UsageError
from atlas.store.atlas import Atlas
from ingest.derived.clusters import cluster
from query.clustering.names import NAME_LENGTH, NOTE_LENGTH, borne_name

SITE = "blocks.3.mlp"


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    path = tmp_path / "own.atlas"
    shutil.copytree(built, path)
    return path


def newest(a: Atlas) -> int:
    return a.value("select min(clustering_id) from clusterings where target = $1 and space = 'codes'", [SITE])


def test_a_name_is_shown_wherever_the_cluster_is(own: Path):
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        given = query.name_cluster(a, "  left half ", clustering=number, cluster=1, note="two lines\nof a note")
        medoid = a.value("select medoid from clusters where clustering_id = $1 and label = 1", [number])
    assert (given.name, given.note, given.example) == ("left half", "two lines\nof a note", medoid)
    with atlas.open(own) as a:
        shown = query.clusters(a, clustering=number).set_index("label")
        assert shown["name"].dropna().to_dict() == {1: "left half"} and shown.loc[1, "note"] == "two lines\nof a note"
        assert query.membership(a, example=medoid, clustering=number).name == "left half"
        listed = query.cluster_names(a)
        assert listed[["network", "target", "space", "example_id"]].values.tolist() == [
            ["words", SITE, "codes", medoid]
        ]
        assert query.verify(a)["ok"].all()


def test_a_name_outlives_the_clustering(own: Path):
    """Clustered anew with another least size, the cluster that holds the named medoid bears its name."""
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        medoid = query.name_cluster(a, "kept", clustering=number, cluster=0).medoid
    again = cluster(own, site=SITE, min_cluster_size=9)
    with atlas.open(own) as a:
        labels = dict(a.rows("select example_id, label from cluster_labels where clustering_id = $1", [again]))
        assert again != number and labels[medoid] >= 0
        names = query.clusters(a, clustering=again).set_index("label")["name"].dropna()
        assert names.to_dict() == {labels[medoid]: "kept"}


def test_of_several_names_its_own_medoids_is_borne_then_the_strongest_members_then_the_newest(own: Path):
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        members = query.members(a, clustering=number, cluster=0)
        medoid = a.value("select medoid from clusters where clustering_id = $1 and label = 0", [number])
        others = members[members["example_id"] != medoid]
        weak, strong = others.iloc[0], others.iloc[-1]
        a.execute("update cluster_labels set probability = 0.3 where example_id = $1", [int(weak["example_id"])])
        network = a.catalog.network("words").network_id
        for day, row in enumerate((strong, weak), start=1):
            a.execute(
                "insert into cluster_names values ($1, $2, 'codes', $3, $4, null, make_date(2024, 1, $5))",
                [network, SITE, int(row["example_id"]), f"of {row['example_id']}", day],
            )
        assert (
            borne_name(a, clustering=number, cluster=0).example == strong["example_id"]
        )  # though the weak one's is newer
        a.execute("update cluster_labels set probability = 0.5 where label = 0")
        assert borne_name(a, clustering=number, cluster=0).example == weak["example_id"]
        assert query.name_cluster(a, "own", clustering=number, cluster=0).example == medoid


def test_the_last_of_two_names_wins_and_none_takes_it_away(own: Path):
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        query.name_cluster(a, "first", clustering=number, cluster=0, note="old")
        assert query.name_cluster(a, "second", clustering=number, cluster=0).note is None
        assert len(query.cluster_names(a)) == 1
        assert query.name_cluster(a, None, clustering=number, cluster=0, note="a note alone").name is None
        assert query.name_cluster(a, "  ", clustering=number, cluster=0, note="").example is None
        assert query.cluster_names(a).empty


def test_names_of_one_space_and_target_stay_there(own: Path):
    with atlas.open(own, writable=True) as a:
        query.name_cluster(a, "of codes", clustering=newest(a), cluster=0)
        activations = query.clusters(a, site=SITE, network="words", space="activations")
        span = query.clusters(a, span="blocks.1.mlp->", network="words")
    assert activations["name"].isna().all() and span["name"].isna().all()


@pytest.mark.parametrize(
    ("name", "note", "said"),
    [
        ("x" * (NAME_LENGTH + 1), None, f"the name has {NAME_LENGTH + 1} characters; at most {NAME_LENGTH}"),
        ("x", "y" * (NOTE_LENGTH + 1), f"the note has {NOTE_LENGTH + 1:,} characters"),
        ("two\nlines", None, r"the name holds a line break or control character \(U\+000A\)"),
        ("bell\a", None, r"U\+0007"),
        ("ok", "nul\0", r"the note holds a control character \(U\+0000\)"),
        ("turned \u202eround", None, r"U\+202E"),
    ],
)
def test_words_that_can_not_be_shown_are_refused(own: Path, name: str, note: str | None, said: str):
    with atlas.open(own, writable=True) as a:
        with pytest.raises(UsageError, match=said):
            query.name_cluster(a, name, clustering=newest(a), cluster=0, note=note)
        assert query.cluster_names(a).empty


def test_what_can_not_be_named_is_said(own: Path):
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        with pytest.raises(UnknownName, match="no cluster 99 in clustering"):
            query.name_cluster(a, "x", clustering=number, cluster=99)
        with pytest.raises(UnknownName, match="the noise is no cluster"):
            query.name_cluster(a, "x", clustering=number, cluster=-1)
        with pytest.raises(UnknownName, match="no clustering 99"):
            query.name_cluster(a, "x", clustering=99, cluster=0)
    with atlas.open(own) as a, pytest.raises(UsageError, match="open for reading"):
        query.name_cluster(a, "x", clustering=number, cluster=0)


def test_hostile_words_are_kept_as_they_are(own: Path):
    hostile = "<script>'; drop table clusters; --"
    with atlas.open(own, writable=True) as a:
        assert query.name_cluster(a, hostile, clustering=newest(a), cluster=np.int64(0)).name == hostile
        assert a.value("select name from cluster_names") == hostile
