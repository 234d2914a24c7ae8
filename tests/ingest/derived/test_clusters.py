"""Clustering what an atlas holds: what is stored, what is refused, what an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from app.cli.clusters import described
from app.cli.options import Clustered
from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.placement import approximate_predict
from atlas.codes import SplineCodes
from atlas.errors import NonFinite, RunInterrupted, TooManyPoints, UsageError
from atlas.store.atlas import Atlas
from ingest.derived.clusters import cluster
from ingest.derived.job import Space
from ingest.progress import Progress, Step
from ingest.run.engines import LocalEngine, Task, Tell, Work
from tests.atlases import add_texts
from tests.networks import word_network, word_texts

SITE = "blocks.3.mlp"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """360 tokens, not clustered."""
    path = tmp_path_factory.mktemp("cluster") / "words.atlas"
    add_texts(path, word_network(), word_texts())
    return path


def stored(path: Path, number: int) -> dict:
    with atlas.open(path) as a:
        return a.records("from clusterings where clustering_id = $1", [number])[0]


def labels(path: Path, number: int) -> list[tuple]:
    with atlas.open(path) as a:
        return a.rows("select example_id, label from cluster_labels where clustering_id = $1 order by 1", [number])


def counts(path: Path) -> list[int]:
    with atlas.open(path) as a:
        return [
            a.value(f"select count(*) from {table}")
            for table in ("clusterings", "cluster_labels", "clusters", "condensed_trees")
        ]


def test_same_clustering_is_stored_once(words: Path) -> None:
    """The same clustering is stored once and another beside it."""
    first = cluster(words, site=SITE)
    assert cluster(words, site=SITE) == first == cluster(words, site=SITE, memory_budget=1 << 22, device="cpu")
    assert cluster(words, site=SITE, min_cluster_size=7) != first
    about = stored(words, first)
    assert (about["exact"], about["neighbors"], about["proven"], about["n_examples"]) == (True, None, 1.0, 360)


def test_memory_budget_changes_no_result(words: Path) -> None:
    """The budget of memory does not change what is stored."""
    small = cluster(words, site=SITE, min_cluster_size=6, memory_budget=1 << 20)
    with atlas.open(words, writable=True) as a:
        kept = a.rows(
            "select label, probability, core_distance from cluster_labels where clustering_id = $1", [small]
        )
        a.execute("delete from clusterings where clustering_id = $1", [small])
        a.execute("delete from cluster_labels where clustering_id = $1", [small])
    large = cluster(words, site=SITE, min_cluster_size=6)
    with atlas.open(words) as a:
        again = a.rows(
            "select label, probability, core_distance from cluster_labels where clustering_id = $1", [large]
        )
    assert sorted(kept) == sorted(again)


class Counting(LocalEngine):
    """Does at most so many tasks, and ends as Ctrl-C does."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.done = most, list[str]()

    def run(self, tasks: Sequence[Task], work: Work, tell: Tell) -> None:
        able = tasks[: self.most - len(self.done)]
        super().run(able, work, tell)
        self.done += [task.file for task in able]  # type: ignore[attr-defined]
        if len(able) < len(tasks):
            raise KeyboardInterrupt


def test_parts_go_on_where_they_stopped(words: Path) -> None:
    """What is complete is not done again but where it is damaged; the result is that of all codes at once."""
    first, second = Counting(7), Counting()
    asked = {"site": "blocks.1.mlp", "min_cluster_size": 9, "parts": True, "memory_budget": 5 << 10}
    with pytest.raises(RunInterrupted, match=r"stopped with 7 of (\d+) tasks complete in .*staging/clustering-"):
        cluster(words, **asked, engine=first)
    [staged] = (words / "staging").glob("clustering-*")
    damaged = staged / first.done[2]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    number = cluster(words, **asked, engine=second)
    assert damaged.name in second.done and not {*first.done} - {damaged.name} & {*second.done}
    assert len(second.done) > 7 and len({*first.done, *second.done}) == len(first.done) + len(second.done) - 1
    assert list((words / "staging").iterdir()) == []
    with atlas.open(words) as a:
        ids, codes = a.codes(a.catalog.target(site="blocks.1.mlp").sites)
    whole = cluster_codes(codes, metric="hamming", min_cluster_size=9, ties="ids", device="cpu")
    assert labels(words, number) == list(zip(ids.tolist(), whole.labels.tolist(), strict=True))
    assert (stored(words, number)["ties"], stored(words, number)["exact"]) == ("ids", True)
    assert cluster(words, **asked) == number


@pytest.mark.parametrize(
    "wrong", [{"space": "activations"}, {"neighbors": 12}, {"ties": "stable"}], ids=["space", "neighbors", "ties"]
)
def test_parts_are_for_exact_codes(words: Path, wrong: dict) -> None:
    with pytest.raises(UsageError, match="by parts codes are clustered exactly"):
        cluster(words, site=SITE, parts=True, **wrong)


@pytest.mark.parametrize("space", ["codes", "activations"])
def test_approximate_clustering_is_marked(words: Path, space: str) -> None:
    """An approximate clustering is stored as one and is not taken for the exact."""
    exact = cluster(words, site=SITE, space=space, min_cluster_size=8)  # type: ignore[arg-type]
    found = cluster(words, site=SITE, space=space, min_cluster_size=8, neighbors=12)  # type: ignore[arg-type]
    assert found not in (exact, cluster(words, site=SITE, space=space, min_cluster_size=8, neighbors=13))  # type: ignore[arg-type]
    about = stored(words, found)
    assert not about["exact"] and about["neighbors"] == 12 and 0 <= about["proven"] <= 1
    assert "approximate" in about["algorithm"] and "exact" not in about["algorithm"]
    assert len(labels(words, found)) == 360


def test_min_samples_is_stored_as_used(words: Path) -> None:
    """Min samples that no point has is stored as what was used."""
    assert stored(words, cluster(words, site=SITE, min_samples=400))["min_samples"] == 359


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 tokens with a code at blocks.2.mlp, 18 of which have one at blocks.3.mlp too."""
    path = tmp_path_factory.mktemp("few") / "few.atlas"
    network = word_network()
    add_texts(path, network, word_texts(5), sites=["blocks.2.mlp"], dataset="one")
    add_texts(path, network, word_texts(8)[5:], dataset="both")
    return path


def test_span_counts_examples_at_every_site(few: Path) -> None:
    """Of a span the examples that have a code at every site count."""
    numbers = {cluster(few, span="blocks.1.mlp->", min_cluster_size=2, min_samples=asked) for asked in (17, 40)}
    [number] = numbers
    about = stored(few, number)
    assert (about["n_examples"], about["min_samples"]) == (18, 17)
    with atlas.open(few) as a:
        placed = query.membership(a, code="0" * 40, span="blocks.1.mlp->")
    assert not placed.stored and 0 <= placed.probability <= 1


def test_too_many_min_samples_still_place(few: Path) -> None:
    """A clustering stored with more min samples than it has neighbours still places new points."""
    number = cluster(few, span="blocks.1.mlp->", min_cluster_size=3, min_samples=17)
    asked = {"code": "01" * 20, "clustering": number}
    with atlas.open(few) as a:
        before = query.membership(a, **asked)
    with atlas.open(few, writable=True) as a:
        a.execute("update clusterings set min_samples = 30 where clustering_id = $1", [number])
    with atlas.open(few) as a:
        assert query.membership(a, **asked) == before


def test_clusters_are_described_by_members(words: Path) -> None:
    """Clusters are described by their members."""
    number = cluster(words, site=SITE, min_cluster_size=9)
    with atlas.open(words) as a:
        rows = a.records("from clusters where clustering_id = $1 order by label", [number])
        of_all = dict(a.rows("select example_id, label from examples"))
        known = a.rows("select label, example_id from cluster_labels where clustering_id = $1", [number])
        n_labels = a.value("select count(distinct label) from examples")
    assert len(rows) > 2
    for row in rows:
        members = [example for label, example in known if label == row["label"]]
        names = [of_all[example] for example in members if of_all[example] is not None]
        counts = {name: names.count(name) for name in sorted(set(names))}
        assert row["size"] == len(members) and row["medoid"] in members
        assert row["top_label"] == max(counts, key=counts.__getitem__)
        assert row["purity"] == pytest.approx(max(counts.values()) / len(names))
        shares = np.array([*counts.values()]) / len(names)
        assert row["entropy"] == pytest.approx(-(shares * np.log(shares)).sum() / np.log(n_labels))


def test_progress_ends_with_the_medoids(words: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Noted(Progress):
        @contextmanager
        def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
            class Told(Step):
                def update(self, done: int, total: int) -> None:
                    seen.append((done, total))

            assert total == 792
            yield Told()

    cluster(words, site=SITE, min_cluster_size=13, progress=Noted())
    dones = [done for done, _ in seen]
    assert {total for _, total in seen} == {792} and dones == sorted(dones) and dones[-1] == 792
    assert any(720 < done < 792 for done in dones)


def test_nan_activation_names_its_example(tmp_path: Path) -> None:
    """An activation that is not a number is named by its example."""
    add_texts(tmp_path / "a", word_network(), word_texts(5))
    with atlas.open(tmp_path / "a", writable=True) as a:
        ids = [example for (example,) in a.rows("select example_id from examples order by 1")]
        width = len(a.activations(a.catalog.target(site=SITE).sites[0], ids[:1])[1][0])
        a.execute(
            "update activations set activation = $1 where example_id = $2 and site_id = $3",
            [[float("nan")] * width, ids[7], a.catalog.target(site=SITE).sites[0].site_id],
        )
    with pytest.raises(NonFinite, match=f"activation of example {ids[7]} at {SITE} of network words holds NaN"):
        cluster(tmp_path / "a", site=SITE, space="activations")
    assert counts(tmp_path / "a") == [0, 0, 0, 0]


class Interrupting(Progress):
    """Ctrl-C at the first step of the work."""

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        class Interrupted(Step):
            def update(self, done: int, total: int) -> None:
                raise KeyboardInterrupt

        yield Interrupted()


@pytest.mark.parametrize("neighbors", [None, 20])
def test_stopped_clustering_leaves_nothing(words: Path, neighbors: int | None) -> None:
    """An interrupted clustering leaves nothing behind."""
    before = counts(words)
    with pytest.raises(KeyboardInterrupt):
        cluster(words, site=SITE, min_cluster_size=11, neighbors=neighbors, progress=Interrupting())
    assert counts(words) == before


def test_stopped_storing_leaves_nothing(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clustering interrupted while it is stored leaves nothing behind."""
    before, insert, written = counts(words), Atlas.insert, []

    def interrupted(a: Atlas, table: str, rows: object) -> None:
        insert(a, table, rows)  # type: ignore[arg-type]
        written.append(table)
        if table == "clusters":
            assert [a.value(f"select count(*) from {name}") for name in ("clusterings", "cluster_labels")] > before[
                :2
            ]
            raise KeyboardInterrupt

    monkeypatch.setattr(Atlas, "insert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster(words, site=SITE, min_cluster_size=14)
    assert written == ["clusterings", "cluster_labels", "clusters"]
    monkeypatch.undo()
    assert counts(words) == before
    cluster(words, site=SITE, min_cluster_size=14)
    assert counts(words)[0] == before[0] + 1


def test_unfit_is_refused_before_reading(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is refused before it is read."""

    def read(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Atlas, "codes", read)
    monkeypatch.setattr(Atlas, "activations", read)
    with pytest.raises(TooManyPoints, match="limit is 359"):
        cluster(words, span="blocks.1.mlp->", max_points=359)
    with pytest.raises(
        TooManyPoints, match=r"budget is 44,639 bytes, in which 117 would fit.*--approximate.*--memory"
    ):
        cluster(words, site=SITE, space="activations", memory_budget=360 * 31 * 4 - 1)
    with pytest.raises(UsageError, match="euclidean, not hamming"):
        cluster(words, site=SITE, space="activations", metric="hamming")
    with pytest.raises(AssertionError, match=r"^read$"):
        cluster(words, span="blocks.1.mlp->", max_points=360, min_cluster_size=15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_cluster_size": 1 << 40}, "min_cluster_size must be at most 4,294,967,295, got 1,099,511,627,776"),
        ({"min_samples": 1 << 40}, "min_samples must be at most 4,294,967,295"),
        ({"neighbors": 1 << 40}, r"neighbors \(--approximate\) must be at most 4,294,967,295"),
        ({"neighbors": 360}, r"is 360; each of 360 points has 359 others.*leave it out to cluster exactly"),
        ({"min_cluster_size": True}, "min_cluster_size is True; expected a whole number of at least 2"),
    ],
)
def test_numbers_of_points_that_can_not_be(words: Path, arguments: dict, message: str) -> None:
    before = counts(words)
    with pytest.raises(UsageError, match=message):
        cluster(words, site=SITE, **arguments)
    assert counts(words) == before


def test_what_is_refused_writes_nothing(words: Path) -> None:
    before = counts(words)
    with pytest.raises(TooManyPoints, match=r"360 points .* the limit is 100"):
        cluster(words, site=SITE, min_cluster_size=12, max_points=100)
    with pytest.raises(TooManyPoints, match="budget is 5 bytes"):
        cluster(words, site=SITE, min_cluster_size=12, memory_budget=5)
    with pytest.raises(UsageError, match="ask for at least as many, got 3"):
        cluster(words, site=SITE, min_cluster_size=12, neighbors=3)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        cluster(words, site=SITE, min_samples=0)
    assert counts(words) == before


@pytest.mark.parametrize("space", ["codes", "activations"])
def test_others_are_placed_in_a_sample(words: Path, space: Space) -> None:
    """As `approximate_predict` places them by their distances to the sample; everything says which were placed."""
    asked: dict = {"site": SITE, "space": space, "min_cluster_size": 4, "sample": 120, "seed": 3}
    alone, number = cluster(words, **asked), cluster(words, **asked, place=True)
    with atlas.open(words) as a:
        site = a.catalog.target(site=SITE).sites[0]
        ids, points = a.codes([site]) if space == "codes" else a.activations(site)
        rows = np.sort(np.random.default_rng(3).choice(len(ids), 120, replace=False))
        others = np.setdiff1d(np.arange(len(ids)), rows)
        if isinstance(points, SplineCodes):
            hierarchy = cluster_codes(points[rows], metric="hamming", min_cluster_size=4)
            bits = points.unpack()
            distances = (bits[others][:, None] != bits[rows][None]).mean(axis=2)
        else:
            hierarchy = cluster_activations(points[rows], min_cluster_size=4)
            wide = points.astype(np.float64)
            distances = np.linalg.norm(wide[others][:, None] - wide[rows][None], axis=2)
        found, strengths = approximate_predict(hierarchy, distances)
        expected = np.empty((2, len(ids)))
        expected[:, rows], expected[:, others] = (hierarchy.labels, hierarchy.probabilities), (found, strengths)
        of_one = (
            "select example_id, label, probability, placed from cluster_labels where clustering_id = $1 order by 1"
        )
        held = a.frame(of_one, [number])
        assert held["example_id"].tolist() == ids.tolist() and held["label"].tolist() == expected[0].tolist()
        np.testing.assert_allclose(held["probability"], expected[1], rtol=1e-9)
        assert np.flatnonzero(held["placed"]).tolist() == others.tolist()
        assert a.frame(of_one, [alone])["example_id"].tolist() == ids[rows].tolist()
        shown = query.clusters(a, clustering=number)
        assert "240 others were placed in their clusters" in shown.attrs["note"] and shown["n_placed"].sum() > 0
        assert query.members(a, clustering=number, cluster=0)["placed"].sum() == shown["n_placed"][0]
        told = described(a, Clustered(clustering=number))
        assert "240 of them placed in the clusters of 120" in told.title and "placed" in told.table
        assert "placed" not in described(a, Clustered(clustering=alone)).table
        placed = int(ids[others[0]])
        for kept in (number, alone):  # placed with the clustering, and placed now
            belongs = query.membership(a, example=placed, clustering=kept, site=SITE)
            assert (belongs.cluster, belongs.stored) == (found[0], False)
            assert belongs.probability == pytest.approx(strengths[0], rel=1e-9)
        checks = query.verify(a)
        mine = checks[checks["subject"].str.contains(f"clustering {number} |clustering_id {number}$")]
        assert mine["ok"].all() and len(mine) > 4
    about = stored(words, number)
    assert (about["exact"], about["sample"], about["n_placed"], about["n_examples"]) == (False, 120, 240, 360)
    assert "placed by approximate prediction" in about["algorithm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"place": True}, r"say of how many \(--sample\)"),
        ({"sample": 360}, "there are 360 examples: leave it out"),
        ({"sample": 1}, r"sample \(--sample\)"),
        ({"sample": 50, "parts": True}, "a sample is clustered at once"),
    ],
    ids=["no sample", "all", "one", "parts"],
)
def test_samples_that_can_not_be_drawn(words: Path, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cluster(words, site=SITE, **arguments)
