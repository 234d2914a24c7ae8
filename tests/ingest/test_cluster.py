"""Clustering what an atlas holds: what is stored, what is refused, what an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import atlas
from atlas.errors import TooManyPoints, UsageError
from ingest.cluster import cluster
from ingest.progress import Progress, Step
from tests.builder import add_texts, word_network, word_texts

SITE = "blocks.3.mlp"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """360 tokens, not clustered."""
    path = tmp_path_factory.mktemp("cluster") / "words.atlas"
    with atlas.create(path) as a:
        add_texts(a, word_network(), word_texts())
    return path


def stored(path: Path, number: int) -> dict:
    with atlas.open(path) as a:
        return a.records("from clusterings where clustering_id = $1", [number])[0]


def labels(path: Path, number: int) -> list[tuple]:
    with atlas.open(path) as a:
        return a.rows("select example_id, label from cluster_labels where clustering_id = $1 order by 1", [number])


def counts(path: Path) -> list[int]:
    with atlas.open(path) as a:
        return [a.value(f"select count(*) from {table}")
                for table in ("clusterings", "cluster_labels", "clusters", "condensed_trees")]  # fmt: skip


def test_the_same_clustering_is_stored_once_and_another_beside_it(words: Path) -> None:
    first = cluster(words, site=SITE)
    assert cluster(words, site=SITE) == first == cluster(words, site=SITE, memory_budget=1 << 22, device="cpu")
    assert cluster(words, site=SITE, min_cluster_size=7) != first
    about = stored(words, first)
    assert (about["exact"], about["neighbors"], about["proven"], about["n_examples"]) == (True, None, 1.0, 360)


def test_the_budget_of_memory_does_not_change_what_is_stored(words: Path) -> None:
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


@pytest.mark.parametrize("space", ["codes", "activations"])
def test_an_approximate_clustering_is_stored_as_one_and_is_not_taken_for_the_exact(words: Path, space: str) -> None:
    exact = cluster(words, site=SITE, space=space, min_cluster_size=8)  # type: ignore[arg-type]
    found = cluster(words, site=SITE, space=space, min_cluster_size=8, neighbors=12)  # type: ignore[arg-type]
    assert found not in (exact, cluster(words, site=SITE, space=space, min_cluster_size=8, neighbors=13))  # type: ignore[arg-type]
    about = stored(words, found)
    assert not about["exact"] and about["neighbors"] == 12 and 0 <= about["proven"] <= 1
    assert "approximate" in about["algorithm"] and "exact" not in about["algorithm"]
    assert len(labels(words, found)) == 360


def test_min_samples_that_no_point_has_is_stored_as_what_was_used(words: Path) -> None:
    assert stored(words, cluster(words, site=SITE, min_samples=400))["min_samples"] == 359


class Interrupting(Progress):
    """Ctrl-C at the first step of the work."""

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        class Interrupted(Step):
            def update(self, done: int, total: int) -> None:
                raise KeyboardInterrupt

        yield Interrupted()


@pytest.mark.parametrize("neighbors", [None, 20])
def test_an_interrupted_clustering_leaves_nothing_behind(words: Path, neighbors: int | None) -> None:
    before = counts(words)
    with pytest.raises(KeyboardInterrupt):
        cluster(words, site=SITE, min_cluster_size=11, neighbors=neighbors, progress=Interrupting())
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
