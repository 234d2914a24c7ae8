"""Names of clusters: kept with the medoid, found again in another clustering."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas.errors import DamagedAtlas, UnknownName, UsageError
from atlas.store.atlas import Atlas
from atlas.store.names import Name, changing_names
from ingest.derived.clusters import cluster
from query.clustering.names import NAME_LENGTH, NOTE_LENGTH, borne_name

SITE = "blocks.3.mlp"


@pytest.fixture
def own(damaged: Callable[..., Path]) -> Path:
    return damaged()


def newest(a: Atlas) -> int:
    return a.value("select min(clustering_id) from clusterings where target = $1 and space = 'codes'", [SITE])


def test_a_name_is_shown_with_its_cluster(own: Path):
    with atlas.open(own) as a:
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


def test_which_of_several_names_is_borne(own: Path):
    """That of the medoid, then that of the strongest member, then the newest."""
    with atlas.open(own, writable=True) as a:
        number = newest(a)
        members = query.members(a, clustering=number, cluster=0)
        medoid = a.value("select medoid from clusters where clustering_id = $1 and label = 0", [number])
        others = members[members["example_id"] != medoid]
        weak, strong = others.iloc[0], others.iloc[-1]
        a.execute("update cluster_labels set probability = 0.3 where example_id = $1", [int(weak["example_id"])])
        with changing_names(own) as append:
            for day, row in enumerate((strong, weak), start=1):
                number_of = int(row["example_id"])
                append(Name("words", SITE, "codes", number_of, f"of {number_of}", None, f"2024-01-0{day}T00:00:00"))
        # Though the weak one's is newer.
        assert borne_name(a, clustering=number, cluster=0).example == strong["example_id"]
        a.execute("update cluster_labels set probability = 0.5 where label = 0")
        assert borne_name(a, clustering=number, cluster=0).example == weak["example_id"]
        assert query.name_cluster(a, "own", clustering=number, cluster=0).example == medoid


def test_the_last_name_wins(own: Path):
    with atlas.open(own) as a:
        number = newest(a)
        query.name_cluster(a, "first", clustering=number, cluster=0, note="old")
        assert query.name_cluster(a, "second", clustering=number, cluster=0).note is None
        assert len(query.cluster_names(a)) == 1
        assert query.name_cluster(a, None, clustering=number, cluster=0, note="a note alone").name is None
        assert query.name_cluster(a, "  ", clustering=number, cluster=0, note="").example is None
        assert query.cluster_names(a).empty


def test_names_stay_with_space_and_target(own: Path):
    with atlas.open(own) as a:
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
def test_words_not_to_be_shown_are_refused(own: Path, name: str, note: str | None, said: str):
    with atlas.open(own) as a:
        with pytest.raises(UsageError, match=said):
            query.name_cluster(a, name, clustering=newest(a), cluster=0, note=note)
        assert query.cluster_names(a).empty


def test_what_can_not_be_named_is_said(own: Path):
    with atlas.open(own) as a:
        number = newest(a)
        with pytest.raises(UnknownName, match="no cluster 99 in clustering"):
            query.name_cluster(a, "x", clustering=number, cluster=99)
        with pytest.raises(UnknownName, match="the noise is no cluster"):
            query.name_cluster(a, "x", clustering=number, cluster=-1)
        with pytest.raises(UnknownName, match="no clustering 99"):
            query.name_cluster(a, "x", clustering=99, cluster=0)
    assert not (own / "names.jsonl").exists()


def test_hostile_words_are_kept_as_they_are(own: Path):
    hostile = "<script>'; drop table clusters; --"
    with atlas.open(own) as a:
        assert query.name_cluster(a, hostile, clustering=newest(a), cluster=np.int64(0)).name == hostile
        assert a.value("select name from cluster_names") == hostile


SHOWN = "select name from named_clusters where clustering_id = $1 and label = 0"


def test_a_name_is_seen_by_who_opened_before(own: Path):
    """By our own statements and by a user's SQL, while a reader holds the atlas."""
    with atlas.open(own) as reader, atlas.open(own) as writer:
        number = newest(reader)
        assert reader.sql(SHOWN, [number])["name"].tolist() == [None]
        for name in ("one", "two"):
            query.name_cluster(writer, name, clustering=number, cluster=0)
            assert reader.sql(SHOWN, [number])["name"].tolist() == [name] == reader.columns(SHOWN, [number])["name"]
        assert reader.sql("from cluster_names")["name"].tolist() == ["two"]


def test_what_another_changed_is_shown_first(own: Path):
    with atlas.open(own) as a:
        number = newest(a)
        seen = borne_name(a, clustering=number, cluster=0)
        query.name_cluster(a, "theirs", clustering=number, cluster=0, note="by them", seen=seen)
        with pytest.raises(UsageError, match="Now the name is “theirs” and the note is “by them”"):
            query.name_cluster(a, "mine", clustering=number, cluster=0, seen=seen)
        query.name_cluster(a, "theirs", clustering=number, cluster=0, note="by them", seen=seen)
        assert borne_name(a, clustering=number, cluster=0).name == "theirs"


def test_many_may_write_at_once(own: Path):
    def write(cluster: int) -> None:
        with atlas.open(own) as a:
            for turn in range(5):
                query.name_cluster(a, f"{cluster} {turn}", clustering=3, cluster=cluster)

    threads = [threading.Thread(target=write, args=(cluster,)) for cluster in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((own / "names.jsonl").read_text().splitlines()) == 10
    with atlas.open(own) as a:
        assert set(query.cluster_names(a)["name"]) == {"0 4", "1 4"}


@pytest.mark.parametrize("torn", ['{"network": "wo', '{"network": "words"}', "\N{SNOWMAN}"])
def test_a_line_cut_off_is_no_damage(own: Path, torn: str):
    with atlas.open(own) as a:
        query.name_cluster(a, "before", clustering=3, cluster=0)
        with (own / "names.jsonl").open("a") as file:
            file.write(torn)
        assert query.cluster_names(a)["name"].tolist() == ["before"]
        query.name_cluster(a, "after", clustering=3, cluster=1)
        assert query.cluster_names(a)["name"].tolist() == ["after", "before"]


def test_a_line_cut_off_is_verified(own: Path):
    with atlas.open(own) as a:
        query.name_cluster(a, "before", clustering=3, cluster=0)
        with (own / "names.jsonl").open("a") as file:
            file.write('{"network": "wo')
        assert query.verify(a)["ok"].all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no JSON", "line 1 of .*names.jsonl is no name"),
        ('{"network": "words"}', "line 1 of .* is no name"),
        ("[]", "line 1 of .* is no name"),
        (
            '{"network": "w", "target": "t", "space": "codes", "example_id": "4", "name": "x", "note": null, '
            '"named_at": "2024-01-01"}',
            "is no name",
        ),
    ],
)
def test_another_line_is_damage(own: Path, line: str, said: str):
    (own / "names.jsonl").write_text(f"{line}\n")
    with atlas.open(own) as a:
        for ask in (query.cluster_names, lambda a: query.sql(a, "select 1")):
            with pytest.raises(DamagedAtlas, match=said):
                ask(a)


def test_names_of_nothing_are_found(own: Path):
    with changing_names(own) as append:
        append(Name("words", SITE, "codes", 9999, "lost", None, "2024-01-01"))
    with atlas.open(own) as a:
        [failed] = query.verify(a).query("not ok").itertuples()
    assert failed.check == "names are of what exists" and "the first to example 9999" in failed.detail


def test_a_changed_byte_of_a_name_is_told(own: Path):
    """A name that another program changed is not taken for what a person wrote."""
    with atlas.open(own) as a:
        query.name_cluster(a, "weather", clustering=1, cluster=0)
        file = own / "names.jsonl"
        written = file.read_bytes()
        file.write_bytes(written.replace(b"weather", b"feather"))
        with pytest.raises(DamagedAtlas, match=r"line 1 of .*names.jsonl is no name"):
            query.clusters(a, clustering=1)
        assert query.verify(a).query("not ok")["subject"].tolist() == ["names.jsonl"]
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(DamagedAtlas, match=r"names.jsonl is no file but a pipe"):
            query.clusters(a, clustering=1)
