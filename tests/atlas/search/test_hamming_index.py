"""Exact search against sorting in NumPy and against FAISS."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes, hamming
from atlas.errors import IndexMismatch, UsageError, WidthError
from atlas.search.candidates import candidates_of, parted
from atlas.search.hamming_index import HammingIndex, hamming_matrix, without_own
from tests.atlas.search.generated import index_of, random_codes, sparse_ids


def true_distances(queries: SplineCodes, codes: SplineCodes) -> np.ndarray:
    return (queries.unpack()[:, None] != codes.unpack()[None]).sum(axis=2)


def nearest_truth(
    queries: SplineCodes, codes: SplineCodes, k: int, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and distances, by sorting all distances to the codes at ``among`` by (distance, place)."""
    truth = true_distances(queries, codes[among])
    order = np.argsort(truth, axis=1, kind="stable")[:, :k]
    return among[order], np.take_along_axis(truth, order, axis=1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    n_queries=st.integers(0, 9),
    parts=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    data=st.data(),
)
def test_search_sorts_by_distance_then_id(
    seed: int, n: int, n_queries: int, parts: list[int], data: st.DataObject
) -> None:
    codes, queries = random_codes(seed, n, *parts), random_codes(seed + 1, n_queries, *parts)
    among = np.array(data.draw(st.one_of(st.none(), st.sets(st.integers(0, n - 1), min_size=1).map(sorted))))
    everything = among.ndim == 0
    places = np.arange(n) if everything else among
    ids, k = sparse_ids(seed, n), data.draw(st.integers(1, len(places)))
    index = index_of(codes, ids)
    found, distances = index.search(queries, k, among=None if everything else among)
    assert found.shape == distances.shape == (n_queries, k)
    expected = nearest_truth(queries, codes, k, places)
    np.testing.assert_array_equal(found, ids[expected[0]])
    np.testing.assert_array_equal(distances, expected[1])
    for search in (index._nearest_compiled, index._nearest_interpreted):
        for got, true in zip(parted(search(queries, k, None if everything else among)), expected, strict=True):
            np.testing.assert_array_equal(got, true)


@pytest.mark.parametrize(("n_queries", "k"), [(1, 1), (1, 5_000), (70, 1), (70, 333)])
def test_ties_go_to_the_lowest_id(n_queries: int, k: int) -> None:
    """Across the blocks of codes, and the pieces of threads, in which the kernels work: 100 bytes a code."""
    codes, queries = random_codes(0, 60_000, *[1] * 100), random_codes(1, n_queries, *[1] * 100)
    index = index_of(codes, sparse_ids(0, len(codes)))
    ways = [parted(search(queries, k, None)) for search in (index._nearest_compiled, index._nearest_interpreted)]
    for row in range(n_queries):
        truth = hamming(queries[row : row + 1], codes)
        order = np.argsort(truth, kind="stable")[:k]
        for places, distances in ways:
            np.testing.assert_array_equal(places[row], order)
            np.testing.assert_array_equal(distances[row], truth[order])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 400), bits=st.integers(1, 300), data=st.data())
def test_faiss_gives_the_same_answers(seed: int, n: int, bits: int, data: st.DataObject) -> None:
    codes, queries, k = random_codes(seed, n, bits), random_codes(seed + 1, 5, bits), data.draw(st.integers(1, n))
    peer = faiss.IndexBinaryFlat(8 * codes.n_bytes)
    peer.add(codes.packed)
    for search in (index_of(codes)._nearest_compiled, index_of(codes)._nearest_interpreted):
        places, distances = parted(search(queries, k, None))
        for got, true in zip((distances, places), peer.search(queries.packed, k), strict=True):
            np.testing.assert_array_equal(got, true)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), bits=st.integers(1, 12), data=st.data())
def test_others_leave_out_only_the_code(seed: int, n: int, bits: int, data: st.DataObject) -> None:
    codes, ids, k = random_codes(seed, n, bits), sparse_ids(seed, n), data.draw(st.integers(1, n - 1))
    found, distances = index_of(codes, ids).others(np.arange(n), k)
    for place in range(n):
        others = np.delete(np.arange(n), place)
        expected = nearest_truth(codes[place : place + 1], codes, k, others)
        np.testing.assert_array_equal(found[place], ids[expected[0][0]])
        np.testing.assert_array_equal(distances[place], expected[1][0])


def test_an_answer_without_its_own_id() -> None:
    ids, distances = without_own(np.array([5, 9]), np.array([[4, 5, 6], [1, 2, 3]]), np.array([[0, 0, 1], [0, 0, 0]]))
    assert ids.tolist() == [[4, 6], [1, 2]] and distances.tolist() == [[0, 1], [0, 0]]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_queries=st.integers(0, 4),
    radius=st.integers(0, 2**40),
    share=st.none() | st.floats(0, 1),
)
def test_within_reaches_the_radius(seed: int, n: int, n_queries: int, radius: int, share: float | None) -> None:
    codes, queries = random_codes(seed, n, 5, 9), random_codes(seed + 1, n_queries, 5, 9)
    ids, radius = sparse_ids(seed, n), radius if radius > 2**20 else radius % 15
    allowed = np.random.default_rng(seed).random(n) < (2 if share is None else share)
    among = None if share is None else np.flatnonzero(allowed)
    index = index_of(codes, ids)
    found = index.within(queries, radius, among=among)
    assert len(found) == n_queries
    for (near, distances), truth in zip(found, true_distances(queries, codes), strict=True):
        order = np.lexsort((ids, truth))
        order = order[(truth <= radius)[order] & allowed[order]]
        np.testing.assert_array_equal(near, ids[order])
        np.testing.assert_array_equal(distances, truth[order])
    if among is None or len(among):
        stop = n if among is None else len(among)
        np.testing.assert_array_equal(
            index._distances_compiled(queries, among, 0, stop), index._distances_interpreted(queries, among, 0, stop)
        )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), gaps=st.booleans(), wanted=st.lists(st.integers(-5, 400))
)
def test_places_of_the_examples_held(seed: int, n: int, gaps: bool, wanted: list[int]) -> None:
    ids = sparse_ids(seed, n) if gaps else np.arange(17, 17 + n)
    index = index_of(random_codes(seed, n, 8), ids)
    places = index.places(np.array(wanted, dtype=np.int64))
    assert places.tolist() == [place for place in range(n) if ids[place] in wanted]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), sizes=st.tuples(st.integers(0, 20), st.integers(0, 20)), bits=st.integers(1, 200)
)
def test_the_matrix_counts_differing_gates(seed: int, sizes: tuple[int, int], bits: int) -> None:
    a, b = random_codes(seed, sizes[0], bits, 3), random_codes(seed + 1, sizes[1], bits, 3)
    np.testing.assert_array_equal(hamming_matrix(a, b), true_distances(a, b))
    # A view of every other row isn't contiguous, which FAISS would not notice.
    np.testing.assert_array_equal(hamming_matrix(a[::2], a[::2]), true_distances(a[::2], a[::2]))


def test_candidates_come_apart_again() -> None:
    distances, places = np.array([[0, 3072, 2**27]]), np.array([[2**36 - 1, 0, 77]])
    back = parted(candidates_of(distances.astype(np.int32), places))
    assert back[0].tolist() == places.tolist() and back[1].tolist() == distances.tolist()


@pytest.mark.parametrize(("count", "digest"), [(6, "d0"), (5, "d1")])
def test_an_index_of_other_codes_refuses(count: int, digest: str) -> None:
    with pytest.raises(IndexMismatch, match=rf"5 codes with digest d0.* {count} codes with digest {digest}"):
        index_of(random_codes(0, 5, 8)).check(count, digest)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda index, codes: index.search(codes, 6), "6 neighbours were asked for; the index holds 5"),
        (lambda index, codes: index.search(codes, 0), "at least 1, got 0"),
        (lambda index, codes: index.search(codes, -3), "at least 1, got -3"),
        (lambda index, codes: index.within(codes, -1), "can't be negative, got -1"),
        (lambda index, codes: index.search(codes, 3, among=np.array([1, 4])), "3 neighbours .* the index holds 2"),
        (lambda index, codes: index.others(np.arange(5), 5), "5 other codes .* holds 5: ask for 1 to 4"),
        (lambda index, codes: index_of(codes[:0]), "at least one code"),
    ],
)
def test_what_can_not_be_answered(ask: Callable[[HammingIndex, SplineCodes], object], message: str) -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match=message):
        ask(index_of(codes), codes)


@pytest.mark.parametrize("parts", [(9,), (4, 4), (16,)])
def test_a_query_of_another_width(parts: tuple[int, ...]) -> None:
    index, query = index_of(random_codes(0, 5, 10)), random_codes(0, 1, *parts)
    for ask in (index.search, index.within):
        with pytest.raises(WidthError, match=f"the query has {sum(parts)} gates .* of 10 gates"):
            ask(query, 1)
    with pytest.raises(WidthError, match="can't be compared"):
        hamming_matrix(query, random_codes(0, 5, 10))


@pytest.mark.parametrize("ids", [[0, 1, 1], [2, 1, 3], [0, 1]])
def test_ids_ascend_and_name_each_code(ids: list[int]) -> None:
    with pytest.raises(UsageError, match="id"):
        HammingIndex.build(random_codes(0, 3, 8), np.array(ids), "d0")


@pytest.mark.parametrize("among", [[3, 2], [1, 1], [-1, 2], [2, 5]])
def test_places_to_search_among_ascend(among: list[int]) -> None:
    codes = random_codes(0, 5, 8)
    for ask in (index_of(codes).search, index_of(codes).within):
        with pytest.raises(UsageError, match="by their places, ascending, from 0 to 4"):
            ask(codes, 1, among=np.array(among))
