"""Search on a GPU: the processor's answers, tie order included, and what happens without one."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes
from atlas.errors import UsageError
from atlas.search.gpu import MOST_ON_GPU, OneAtATime, OnGpu, n_gpus, search_with_any_ties
from atlas.search.hamming_index import HammingIndex
from tests.atlas.search.generated import index_of, random_codes, sparse_ids


class Gpu:
    """Stands for `GpuCodes`, in the memory of the processor; fails when it is told to."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def of(self, packed: np.ndarray) -> Gpu:
        if self.failing == "copy":
            raise UsageError("0.0 GB of codes can't be taken to the GPU (out of memory)")
        self._codes = HammingIndex.build(SplineCodes(packed, (40,)), np.arange(len(packed)), "")
        return self

    def search(self, queries: SplineCodes, k: int, elsewhere: object) -> np.ndarray:
        if self.failing == "search":
            raise UsageError("the search on the GPU failed (out of memory)")
        return self._codes._nearest(queries, k, None)


@pytest.mark.parametrize("failing", ["", "copy", "search"])
def test_auto_does_without_a_failing_gpu(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    codes = random_codes(0, 50, 40)
    monkeypatch.setattr("atlas.search.hamming_index.GPU_BYTES", 1)
    made: list[Gpu] = []

    def copy(packed: np.ndarray) -> Gpu:
        made.append(Gpu(failing))
        return made[-1].of(packed)

    index = replace(index_of(codes), _gpu=OnGpu(count=lambda: 1, copy=copy))
    expected = index.search(codes, 3, device="cpu")
    assert not made
    for _ in range(3):
        for got, true in zip(index.search(codes, 3), expected, strict=True):
            np.testing.assert_array_equal(got, true)
    assert len(made) == 1
    if failing:
        with pytest.raises(UsageError, match="out of memory"):
            index.search(codes, 3, device="cuda")
    else:
        assert index.search(codes, 3, device="cuda")[0].tolist() == expected[0].tolist()


class Shuffled:
    """FAISS's flat index with its codes in another order: exact, and of codes that tie it takes any."""

    def __init__(self, codes: SplineCodes, seed: int) -> None:
        self.order = np.random.default_rng(seed).permutation(len(codes))
        self.index = faiss.IndexBinaryFlat(8 * codes.n_bytes)
        self.index.add(codes.packed[self.order])
        self.ntotal = self.index.ntotal

    def search(self, packed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        distances, places = self.index.search(packed, k)
        return distances, self.order[places]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 400), bits=st.integers(1, 40), data=st.data())
def test_any_order_of_ties_gives_one_answer(seed: int, n: int, bits: int, data: st.DataObject) -> None:
    codes, queries, k = random_codes(seed, n, bits), random_codes(seed + 1, 6, bits), data.draw(st.integers(1, n))
    index = index_of(codes)
    answer = search_with_any_ties(Shuffled(codes, seed), queries, k, lambda left: index._nearest(left, k, None))
    np.testing.assert_array_equal(answer, index._nearest(queries, k, None))


def test_ties_out_of_view_go_elsewhere() -> None:
    codes = SplineCodes.pack(np.concatenate([np.zeros((500, 20), np.bool_), np.tri(20, dtype=np.bool_)]))
    asked: list[int] = []

    def elsewhere(left: SplineCodes) -> np.ndarray:
        asked.append(len(left))
        return index_of(codes)._nearest(left, 5, None)

    search_with_any_ties(Shuffled(codes, 0), codes[np.array([0, 519, 518])], 5, elsewhere)
    assert asked == [1]  # 500 codes are at distance 0 of the first
    search_with_any_ties(Shuffled(codes, 0), codes[:2], len(codes), elsewhere)
    assert asked == [1]  # all were in view
    search_with_any_ties(Shuffled(random_codes(0, 3 * MOST_ON_GPU, 20), 0), codes[:2], MOST_ON_GPU, elsewhere)
    assert asked == [1, 2]


def test_cuda_knows_no_filter() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match=r"device is cuda, but .* \(a filter\) runs on the processor"):
        index_of(codes).search(codes, 1, among=np.arange(3), device="cuda")


@pytest.mark.skipif(n_gpus() > 0, reason="FAISS sees a GPU on this machine")
def test_an_absent_gpu_is_an_error() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match="FAISS sees no GPU"):
        index_of(codes).search(codes, 1, device="cuda")


@pytest.mark.skipif(n_gpus() == 0, reason="FAISS sees no GPU on this machine")
@pytest.mark.parametrize("bits", [8, 40, 512])
@pytest.mark.parametrize("k", [1, 10, 700])
def test_a_gpu_answers_as_the_processor(bits: int, k: int) -> None:
    codes, queries = random_codes(0, 20_000, bits), random_codes(1, 50, bits)
    index = index_of(codes, sparse_ids(0, len(codes)))
    for got, true in zip(
        index.search(queries, k, device="cuda"), index.search(queries, k, device="cpu"), strict=True
    ):
        np.testing.assert_array_equal(got, true)


def test_one_thread_searches_a_gpu() -> None:
    """FAISS is asked while the lock is held, and only then."""
    locked: list[bool] = []

    class Watched:
        ntotal = 5

        def search(self, packed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            locked.append(one._lock.locked())
            return np.zeros((1, k), np.int32), np.zeros((1, k), np.int64)

    one = OneAtATime(Watched())
    one.search(np.zeros((1, 5), np.uint8), 3)
    assert locked == [True] and not one._lock.locked()
