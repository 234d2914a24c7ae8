"""Exact search of an atlas in segments by Ray's workers, each of which holds the index files of some segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import UInt64

from atlas.codes import SplineCodes
from atlas.errors import UsageError, WorkersLost
from atlas.search.hamming_index import HammingIndex
from atlas.store.atlas import Atlas
from atlas.store.index_parts import IndexPart
from atlas.store.segmented import SegmentedAtlas
from atlas.threads import use_threads

from .ray_engine import RayEngine, connected


@contextmanager
def searching(atlas: Atlas, engine: RayEngine) -> Iterator[None]:
    """Until it is left, what is asked of an atlas is searched by the workers of an engine, with equal answers.

    What is in one file, and what an approximate index answers, is searched here. All nodes see the atlas' files, or
    the cache of its address, at the same path.

    Args:
        atlas: open for reading, and nothing was asked of it yet.
        engine: where the workers run, and how many.

    Raises:
        UsageError: a cluster that is not there or has no room, or an atlas in tables.
    """
    if not isinstance(atlas, SegmentedAtlas):
        raise UsageError(f"{atlas.address} keeps an index in one file; `polytope convert` makes an atlas in segments")
    with connected(engine.address):
        count, cpus, _ = engine.shares(len(atlas.version.indexes) or 1)
        searchers = RaySearchers(count, cpus)
        atlas.searchers = searchers
        try:
            yield
        finally:
            atlas.searchers = None
            searchers.end()


class RaySearchers:
    """As `Searchers` says: files of an index are dealt out to the workers in turn, each of which keeps its own."""

    def __init__(self, count: int, cpus: float) -> None:
        import ray

        actors: Any = ray.remote(_Searcher).options(num_cpus=cpus)
        self._workers = [actors.remote(max(1, int(cpus))) for _ in range(count)]

    def nearest(
        self, parts: Sequence[tuple[IndexPart, int, np.ndarray | None]], queries: SplineCodes
    ) -> list[UInt64[np.ndarray, "queries k"]]:
        """As `Searchers.nearest`. Raises `WorkersLost` where a worker has ended."""
        import ray

        asked = [
            self._workers[number % len(self._workers)].nearest.remote(part, queries, k, among)
            for number, (part, k, among) in enumerate(parts)
        ]
        try:
            return list(ray.get(asked))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise WorkersLost(f"a worker that searches has ended ({str(error).strip()}); ask again") from error

    def end(self) -> None:
        """End all workers."""
        import ray

        for worker in self._workers:
            ray.kill(worker)


class _Searcher:
    """Holds index files, by path and digest."""

    def __init__(self, threads: int) -> None:
        use_threads(threads)
        self._held: dict[tuple[str, str], HammingIndex] = {}

    def nearest(
        self, part: IndexPart, queries: SplineCodes, k: int, among: np.ndarray | None
    ) -> UInt64[np.ndarray, "queries k"]:
        key = str(part.path), part.digest
        if key not in self._held:
            with part.called():
                self._held[key] = HammingIndex.load(part.path)
        return self._held[key].nearest_candidates(queries, k, among)
