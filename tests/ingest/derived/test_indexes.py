"""Indexes from the codes in an atlas: which are built, when again, and what is left when that fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas.errors import IndexMismatch, IndexMissing, NotStored, UnknownName, UsageError
from atlas.search.files import INDEXES
from atlas.search.hamming_index import HammingIndex
from atlas.store.atlas import Atlas
from atlas.store.disk import sealed, unsealed
from bench.atlases import SITE, generated_atlas
from bench.data import clustered_codes
from ingest.derived.index_files import index_file, span_blocks
from ingest.derived.indexes import Built, build_indexes
from ingest.derived.neighbors import store_neighbors
from ingest.progress import Progress, Step
from ingest.run.engines import LocalEngine
from tests.atlases import add_texts, built_once
from tests.networks import plane_network, word_network, word_texts


def _add_words(path: Path) -> None:
    add_texts(path, word_network(), word_texts(60), spans=("blocks.1.mlp->",), indexed=False)


@pytest.fixture(scope="module")
def unindexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "unindexed.atlas", _add_words)


@pytest.fixture
def path(unindexed: Path, tmp_path: Path) -> Path:
    """360 tokens, no index."""
    return Path(shutil.copytree(unindexed, tmp_path / "a"))


@pytest.fixture(scope="module")
def with_indexes(unindexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a flat index of every site and span, to read."""
    path = Path(shutil.copytree(unindexed, tmp_path_factory.mktemp("indexed") / "a"))
    build_indexes(path)
    return path


@pytest.fixture
def indexed(with_indexes: Path, tmp_path: Path) -> Path:
    """A copy of that, to write."""
    return Path(shutil.copytree(with_indexes, tmp_path / "a"))


def files(path: Path) -> list[str]:
    return sorted(file.name for file in (path / INDEXES).iterdir())


def rows(path: Path, query: str) -> list[tuple]:
    with atlas.open(path) as a:
        return a.rows(query)


def names(built: list[Built]) -> list[tuple[str, str]]:
    return [(each.target, each.kind) for each in built]


def test_every_site_and_span_is_indexed_once(path: Path) -> None:
    """Every site and every named span gets an index once."""
    targets = ["blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp", "blocks.3.mlp", "blocks.1.mlp->"]
    assert names(build_indexes(path)) == [(target, "flat") for target in targets]
    assert build_indexes(path) == []
    assert names(build_indexes(path, targets=["blocks.1.mlp"], force=True)) == [("blocks.1.mlp", "flat")]
    with atlas.open(path) as a:
        for target in targets:
            found = a.catalog.target(site=target)
            index = HammingIndex.load(path / INDEXES / index_file(found))
            ids, codes = a.codes(found.sites)
            np.testing.assert_array_equal(index.ids, ids)
            np.testing.assert_array_equal(index.packed, codes.packed)
            index.check(len(ids), found.digest)


def test_span_blocks_join_what_sites_share(tmp_path: Path) -> None:
    """Three runs with the codes of one site, of both, and of both in another order of sites; blocks of 7 ids."""
    path, network = tmp_path / "a", word_network()
    add_texts(path, network, word_texts(5), sites=["blocks.1.mlp"], dataset="one", indexed=False)
    add_texts(path, network, word_texts(9)[5:], dataset="both", indexed=False)
    two = ["blocks.2.mlp", "blocks.3.mlp"]
    add_texts(path, network, word_texts(12)[9:], sites=two, dataset="two", indexed=False)
    add_texts(path, network, word_texts(15)[12:], dataset="again", indexed=False)
    with atlas.open(tmp_path / "a") as a:
        sites = a.catalog.target(span="blocks.1.mlp->").sites
        ids, codes = a.codes(sites)
        for n_rows in (3, 7, 8192):
            reader = a.code_blocks
            few = partial(reader, rows=n_rows)
            a.code_blocks = few  # type: ignore[method-assign]
            blocks = list(span_blocks(a, sites))
            a.code_blocks = reader  # type: ignore[method-assign]
            np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), ids)
            np.testing.assert_array_equal(np.concatenate([packed for _, packed in blocks]), codes.packed)
            assert len(blocks) == 1 or n_rows < 8192


def test_approximate_index_stands_beside(indexed: Path) -> None:
    """An approximate index stands beside the exact one and says so."""
    [built] = build_indexes(indexed, targets=["blocks.3.mlp"], kind="ivf")
    assert (built.target, built.kind, built.n_codes, built.sample) == ("blocks.3.mlp", "ivf", 360, 180)
    stored = rows(
        indexed, "select kind, recall, recall_sample, parameters from indexes where target = 'blocks.3.mlp'"
    )
    [(in_order,)] = rows(indexed, "select recall_in_order from indexes where kind = 'ivf'")
    assert built.recall_in_order == in_order <= built.recall
    assert stored[0] == ("flat", None, None, None)
    assert stored[1][:3] == ("ivf", built.recall, 180) and json.loads(stored[1][3]) == built.parameters
    assert build_indexes(indexed) == [] and build_indexes(indexed, targets=["blocks.3.mlp"], kind="ivf") == []
    with atlas.open(indexed) as a:
        assert query.verify(a)["ok"].all()
        asked = {"example": 40, "site": "blocks.3.mlp", "k": 20}
        near, exact = query.nearest(a, **asked), query.nearest(a, **asked, exact=True)
        assert (near.attrs["exact_search"], near.attrs["searched"]) == (False, "ivf index")
        assert near.attrs["recall"] == built.recall and f"recall@10 {built.recall:.4f}" in near.attrs["search_note"]
        assert (exact.attrs["exact_search"], exact.attrs["recall"], exact.attrs["search_note"]) == (True, None, None)
        assert len(near) == 20 and (near["distance"].to_numpy() >= exact["distance"].to_numpy()).all()
        filtered = query.nearest(a, **asked, where="example_id > 0")
        assert filtered.attrs["exact_search"] and filtered["example_id"].tolist() == exact["example_id"].tolist()
        within = query.nearest(a, example=40, site="blocks.3.mlp", radius=0)
        assert within.attrs["exact_search"] is False
        many = query.nearest_many(a, examples=[40, 41], site="blocks.3.mlp", k=20)
        assert many.attrs["exact_search"] is False
        assert many.loc[many["query_id"] == 40, "example_id"].tolist() == near["example_id"].tolist()
        assert query.info(a)["indexes"].set_index(["target", "kind"]).loc[("blocks.3.mlp", "ivf"), "recall"] > 0.5


def test_engines_build_the_same_files(path: Path, tmp_path: Path) -> None:
    """A file a task: what is recorded, and its bytes, are those that one process writes."""
    other = Path(shutil.copytree(path, tmp_path / "b"))
    only = {"targets": ["blocks.3.mlp", "blocks.1.mlp->"]}
    for kind in (None, "ivf"):
        alone = build_indexes(path, **only, kind=kind)  # type: ignore[arg-type]
        assert build_indexes(other, **only, kind=kind, engine=LocalEngine()) == alone != []  # type: ignore[arg-type]
    for file in files(path):
        assert (path / INDEXES / file).read_bytes() == (other / INDEXES / file).read_bytes(), file
    assert build_indexes(other, **only, kind="ivf", engine=LocalEngine()) == []
    assert not (other / "staging" / "indexes").exists()
    with atlas.open(other, writable=True) as a, pytest.raises(UsageError, match="give its path and close it"):
        build_indexes(a, engine=LocalEngine())


def test_ivf_replaces_an_abandoned_kind(indexed: Path) -> None:
    """An atlas of an earlier version may hold another kind: it is refused, rebuilt as ivf, and removed by flat."""
    before = files(indexed)
    build_indexes(indexed, targets=["blocks.3.mlp"], kind="ivf")
    for suffix in ("faiss", "json"):
        (indexed / INDEXES / f"1.blocks.3.mlp@ivf.{suffix}").rename(
            indexed / INDEXES / f"1.blocks.3.mlp@hnsw.{suffix}"
        )
    about = indexed / INDEXES / "1.blocks.3.mlp@hnsw.json"
    about.write_bytes(sealed({**(unsealed(about.read_bytes()) or {}), "kind": "hnsw"}))
    with atlas.open(indexed, writable=True) as a:
        a.execute("update indexes set kind = 'hnsw', file = replace(file, '@ivf', '@hnsw') where kind = 'ivf'")
    with atlas.open(indexed) as a, pytest.raises(IndexMissing, match=r"kind ivf.*rebuild it with `polytope index`"):
        query.nearest(a, example=40, site="blocks.3.mlp")
    assert names(build_indexes(indexed)) == [("blocks.3.mlp", "ivf")]
    assert set(files(indexed)) - set(before) == {"1.blocks.3.mlp@ivf.faiss", "1.blocks.3.mlp@ivf.json"}
    assert build_indexes(indexed, kind="flat") == [] and files(indexed) == before
    assert rows(indexed, "select distinct kind from indexes") == [("flat",)]


def test_indexes_follow_the_codes(indexed: Path) -> None:
    """Indexes follow the codes whatever their kind."""
    build_indexes(indexed, targets=["blocks.3.mlp"], kind="ivf")
    build_indexes(indexed, targets=["blocks.2.mlp->"])  # a span that was not asked for at ingestion
    add_texts(indexed, word_network(), word_texts(63)[60:], indexed=False)
    with atlas.open(indexed) as a, pytest.raises(IndexMismatch, match="Rebuild it with `polytope index`"):
        query.nearest(a, example=40, site="blocks.3.mlp")
    again = names(build_indexes(indexed))
    assert ("blocks.3.mlp", "ivf") in again and ("blocks.2.mlp->", "flat") in again and len(again) == 7
    with atlas.open(indexed) as a:
        assert query.nearest(a, example=375, site="blocks.3.mlp").attrs["n_codes"] == 378
        assert query.verify(a)["ok"].all()


def test_damaged_index_is_built_again(indexed: Path) -> None:
    """A damaged approximate index is found and built again."""
    build_indexes(indexed, targets=["blocks.3.mlp"], kind="ivf")
    file = indexed / INDEXES / "1.blocks.3.mlp@ivf.faiss"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with atlas.open(indexed) as a:
        with pytest.raises(IndexMissing, match="damaged"):
            query.nearest(a, example=40, site="blocks.3.mlp")
        assert len(query.nearest(a, example=40, site="blocks.3.mlp", exact=True)) == 10
        found = query.verify(a)
    failed = found[~found["ok"]]
    assert failed["subject"].tolist() == ["words blocks.3.mlp (ivf)"] and "damaged" in failed["detail"].iloc[0]
    assert names(build_indexes(indexed)) == [("blocks.3.mlp", "ivf")]
    assert file.stat().st_size == len(content)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": ["nowhere"]}, UnknownName, "no site 'nowhere'"),
        ({"network": "none"}, UnknownName, "no network 'none'"),
        ({"kind": "tree"}, UsageError, "kind is 'tree'; expected flat, ivf"),
        ({"kind": "ivf", "recall": 0}, UsageError, "recall to reach is 0"),
        ({"kind": "ivf", "recall": 1.5}, UsageError, "recall to reach is 1.5"),
    ],
)
def test_what_can_not_be_built(path: Path, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build_indexes(path, **arguments)
    assert not (path / INDEXES).exists()


def test_no_codes_nothing_to_index(tmp_path: Path) -> None:
    """An atlas without codes has nothing to index."""
    atlas.create(tmp_path / "a").close()
    with pytest.raises(NotStored, match="holds no codes to index"):
        build_indexes(tmp_path / "a")


# --- neighbours of all examples ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"site": "blocks.2.mlp", "k": 0}, UsageError, "k is 0; expected a whole number of at least 1"),
        ({"site": "blocks.2.mlp", "k": 360}, UsageError, "codes of 360 examples, 359 others for each: ask for fewer"),
        ({"site": "nowhere"}, UnknownName, "no site 'nowhere'"),
        ({"span": "blocks.2.mlp->"}, IndexMissing, r"`polytope index .*/a --span 'blocks.2.mlp->'`"),
        ({"site": "blocks.2.mlp", "device": "tpu"}, UsageError, "device is 'tpu'"),
        ({}, UsageError, "name a site or a span"),
    ],
)
def test_neighbors_that_can_not_be_found(with_indexes: Path, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        store_neighbors(with_indexes, **arguments)
    assert rows(with_indexes, "from neighbors") == rows(with_indexes, "from neighborhoods") == []


def test_neighbors_of_stale_index_refused(indexed: Path) -> None:
    """Neighbors among other codes than the index holds are refused."""
    add_texts(indexed, word_network(), word_texts(63)[60:], indexed=False)
    with pytest.raises(IndexMismatch, match=r"`polytope index`"):
        store_neighbors(indexed, site="blocks.2.mlp")


def test_progress_counts_codes_by_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress of flat indexes counts codes block by block."""
    seen: list[tuple[int, int]] = []

    class Noted(Progress):
        @contextmanager
        def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
            class Told(Step):
                def update(self, done: int, total: int) -> None:
                    seen.append((done, total))

            assert (total, unit) == (5 * 360, "codes")
            yield Told()

    read = Atlas.code_blocks
    monkeypatch.setattr(Atlas, "code_blocks", lambda a, site, within=None: read(a, site, 100))
    build_indexes(path, progress=Noted())
    done = [each for each, _ in seen]
    assert done == sorted(done) and seen[-1] == (1800, 1800) and {total for _, total in seen} == {1800}
    assert len(set(done)) >= 5 * 4


class Watched(Progress):
    """Notes what a step reports, and runs something at its first report."""

    def __init__(self, then=lambda: None) -> None:
        self.done, self.total, self.then = 0, 0, then

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        self.total, watched = total, self

        class Noted(Step):
            def advance(self, amount: int) -> None:
                first = not watched.done
                watched.done += amount
                if first:
                    watched.then()

        yield Noted()


def test_progress_counts_every_example(indexed: Path) -> None:
    progress = Watched()
    store_neighbors(indexed, site="blocks.2.mlp", progress=progress)
    assert progress.done == progress.total == 360


def test_stopped_job_leaves_what_was_stored(indexed: Path) -> None:
    """A job that is stopped leaves what was stored before."""
    store_neighbors(indexed, site="blocks.2.mlp", k=3)
    before = rows(indexed, "from neighbors order by all"), rows(indexed, "from neighborhoods")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_neighbors(indexed, site="blocks.2.mlp", k=9, progress=Watched(stop))
    assert (rows(indexed, "from neighbors order by all"), rows(indexed, "from neighborhoods")) == before


def test_ctrl_c_stops_the_comparing_of_codes(tmp_path: Path) -> None:
    """Ctrl c while codes are compared stops at once and leaves what was stored before."""
    path = generated_atlas(tmp_path / "a", clustered_codes(2_500, 512, 60, seed=0))
    store_neighbors(path, site=SITE, k=1)
    before = rows(path, "select count(*), sum(neighbor_id), max(rank) from neighbors")

    watched = Watched(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        store_neighbors(path, site=SITE, k=9, progress=watched)
    assert 0 < watched.done < watched.total
    assert rows(path, "select count(*), sum(neighbor_id), max(rank) from neighbors") == before
    assert rows(path, "select k from neighborhoods") == [(1,)]


def test_two_networks_with_one_site_name(path: Path) -> None:
    """Two networks may have sites of one name."""
    points = [("1:1.txt", "even", "1:1"), ("2:2.txt", "odd", "2:2")]
    add_texts(path, plane_network(), points, dataset="points", per_sequence=1)
    assert store_neighbors(path, site="hidden", k=1) == 2
    assert rows(path, "select network_id, example_id, neighbor_id from neighbors order by all") == [
        (2, 361, 362),
        (2, 362, 361),
    ]
