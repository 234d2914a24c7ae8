"""Maps of what an atlas holds: what is stored, what is found again, what an interruption leaves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

import atlas
import ingest
import query
from atlas.errors import NotStored, RunInterrupted, UsageError
from atlas.search.hamming_index import hamming_matrix
from ingest.derived.layouts import layout
from ingest.progress import Progress, Step
from tests.atlases import add_texts
from tests.networks import word_network, word_texts

SITE = "blocks.3.mlp"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """360 tokens, without a map."""
    path = tmp_path_factory.mktemp("layout") / "words.atlas"
    add_texts(path, word_network(), word_texts(), activations=[SITE])
    return path


class Watching(Progress):
    """Does something once points are moved."""

    def __init__(self, act) -> None:
        self.act = act

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        watching = self

        class Acting(Step):
            def update(self, done: int, total: int) -> None:
                if done > total / 2:
                    watching.act()

        yield Acting()


def held(path: Path) -> list[int]:
    with atlas.open(path) as a:
        return [a.value(f"select count(*) from {table}") for table in ("layouts", "layout_points")]


def test_layout_is_stored_once(words: Path):
    """A map is stored once with the neighbours it rests on."""
    first = layout(words, site=SITE, neighbors=6)
    assert layout(words, site=SITE, neighbors=6) == first
    assert layout(words, site=SITE, neighbors=6, seed=1) != first
    with atlas.open(words) as a:
        target = a.catalog.target(site=SITE)
        ids, codes = a.codes(target.sites)
        stored = a.frame("from layout_points where layout_id = $1 order by example_id", [first])
        [about] = query.layouts(a).query("layout_id == @first").to_dict("records")
    apart = hamming_matrix(codes, codes).astype(float)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :6]
    assert stored["example_id"].tolist() == ids.tolist()
    assert np.stack(stored["neighbors"]).tolist() == ids[nearest].tolist()
    assert np.stack(stored["distances"]).tolist() == np.take_along_axis(apart, nearest, axis=1).tolist()
    assert (about["n_examples"], about["metric"], about["proven"], about["current"]) == (360, "hamming", 1.0, True)


def test_activations_and_spans_have_layouts(words: Path):
    """Activations and spans have maps of their own."""
    by_activation = layout(words, site=SITE, space="activations", neighbors=6)
    over_span = layout(words, span="blocks.0.mlp->", neighbors=6)
    with atlas.open(words) as a:
        made = query.layouts(a).set_index("layout_id")
    assert made.loc[by_activation, ["target", "space", "metric"]].tolist() == [SITE, "activations", "euclidean"]
    assert made.loc[over_span, ["target", "space", "metric"]].tolist() == ["blocks.0.mlp->", "codes", "hamming"]


def test_given_codes_have_a_layout(tmp_path: Path):
    """Codes that something else computed have a map, which rests on Jaccard neighbours where asked."""
    bits = np.random.default_rng(0).random((30, 20)) < 0.3
    np.savez(tmp_path / "given.npz", site=bits)
    ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(tmp_path / "given.npz"), cluster=False)
    number = layout(tmp_path / "x.atlas", site="site", metric="jaccard", neighbors=5)
    with atlas.open(tmp_path / "x.atlas") as a:
        stored = a.frame("from layout_points where layout_id = $1 order by example_id", [number])
    either = np.maximum((bits[:, None] | bits).sum(axis=2), 1)
    apart = (bits[:, None] ^ bits).sum(axis=2) / either
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(np.stack(stored["distances"]), np.sort(apart, axis=1)[:, :5], rtol=1e-6)
    assert len(stored) == 30 and stored[["x", "y"]].apply(np.isfinite).all(axis=None)


def test_maps_by_jaccard_keep_neighbors(built: Path, tmp_path: Path):
    path = shutil.copytree(built, tmp_path / "own.atlas")
    number = layout(path, site="hidden", metric="jaccard", neighbors=4)
    assert layout(path, site="hidden", neighbors=4) != number
    with atlas.open(path) as a:
        ids, codes = a.codes(a.catalog.target(site="hidden").sites)
        distances = pairwise_distances(codes.unpack(), metric="jaccard")
        stored = a.frame("select neighbors, distances from layout_points where layout_id = $1", [number])
        about = query.layouts(a).set_index("layout_id").loc[number]
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1, kind="stable")[:, :4]
    assert about["metric"] == "jaccard" and about["proven"] == 1
    assert stored["neighbors"].map(list).tolist() == ids[near].tolist()
    assert np.allclose(np.stack(stored["distances"]), np.take_along_axis(distances, near, axis=1))
    with pytest.raises(UsageError, match="activations are laid out by euclidean"):
        layout(path, site="hidden", space="activations", metric="jaccard")


@pytest.mark.usefixtures("unchecked")
def test_refused_or_stopped_leaves_nothing(words: Path):
    """What is refused or interrupted leaves nothing."""
    before = held(words)
    with pytest.raises(UsageError, match=r"a span .* has codes but no activations of its own"):
        layout(words, span="blocks.0.mlp->", space="activations")
    with pytest.raises(NotStored, match=r"no activations are stored for site blocks\.0\.mlp"):
        layout(words, site="blocks.0.mlp", space="activations")
    with pytest.raises(UsageError, match="space is 'tokens'"):
        layout(words, site=SITE, space="tokens")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="400 neighbours of each were asked for, but there are 360"):
        layout(words, site=SITE, neighbors=400)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layout(words, site=SITE, neighbors=7, progress=Watching(stop))
    assert held(words) == before


@pytest.mark.slow
def test_layout_of_grown_codes_is_not_stored(tmp_path: Path):
    """A map of codes that grew meanwhile is not stored."""
    path = tmp_path / "growing.atlas"
    network = word_network()
    add_texts(path, network, word_texts(6))

    def grow() -> None:
        if not grown:
            grown.append(True)
            add_texts(path, network, word_texts(6, seed=9))

    grown: list[bool] = []
    with pytest.raises(RunInterrupted, match="got new examples while it was laid out"):
        layout(path, site=SITE, neighbors=5, progress=Watching(grow))
    assert held(path) == [0, 0]
    number = layout(path, site=SITE, neighbors=5)
    with atlas.open(path) as a:
        assert query.layouts(a)["current"].tolist() == [True]
    add_texts(path, network, word_texts(6, seed=11))
    with atlas.open(path) as a:
        assert query.layouts(a).set_index("layout_id").loc[number, "current"] == False  # noqa: E712
