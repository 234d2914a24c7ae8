"""Search by FAISS against sorting in NumPy, and what an index on disk refuses."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes, concatenate, hamming
from atlas.errors import IndexMismatch, IndexMissing, UsageError, WidthError
from atlas.index import HammingIndex, hamming_matrix, pairwise_hamming


def random_codes(seed: int, n: int, *parts: int) -> SplineCodes:
    rng = np.random.default_rng(seed)
    return concatenate([SplineCodes.pack(rng.random((n, part)) < 0.3) for part in parts])


def sparse_ids(seed: int, n: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).integers(1, 50, n))


def true_distances(queries: SplineCodes, codes: SplineCodes) -> np.ndarray:
    return (queries.unpack()[:, None] != codes.unpack()[None]).sum(axis=2)


def index_of(codes: SplineCodes) -> HammingIndex:
    return HammingIndex.build(codes, np.arange(len(codes)), digest="d0")


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    n_queries=st.integers(0, 5),
    parts=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    data=st.data(),
)
def test_search_is_a_sort_by_distance_then_id(
    seed: int, n: int, n_queries: int, parts: list[int], data: st.DataObject
) -> None:
    codes, queries = random_codes(seed, n, *parts), random_codes(seed + 1, n_queries, *parts)
    ids, k = sparse_ids(seed, n), data.draw(st.integers(1, n))
    found, distances = HammingIndex.build(codes, ids, "d0").search(queries, k)
    assert found.shape == distances.shape == (n_queries, k)
    for row, truth in enumerate(true_distances(queries, codes)):
        order = np.lexsort((ids, truth))[:k]
        np.testing.assert_array_equal(found[row], ids[order])
        np.testing.assert_array_equal(distances[row], truth[order])


@pytest.mark.parametrize(("n_queries", "k"), [(1, 1), (1, 5_000), (70, 1), (70, 333)])
def test_ties_are_broken_by_id_across_the_blocks_in_which_faiss_works(n_queries: int, k: int) -> None:
    codes, queries = random_codes(0, 80_000, 11), random_codes(1, n_queries, 11)
    ids = sparse_ids(0, len(codes))
    found, distances = HammingIndex.build(codes, ids, "d0").search(queries, k)
    for row in range(n_queries):
        truth = hamming(queries[row : row + 1], codes)
        order = np.argsort(truth, kind="stable")[:k]
        np.testing.assert_array_equal(found[row], ids[order])
        np.testing.assert_array_equal(distances[row], truth[order])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), n_queries=st.integers(0, 4), radius=st.integers(0, 2**40)
)
def test_within_finds_every_code_up_to_and_at_the_radius(seed: int, n: int, n_queries: int, radius: int) -> None:
    codes, queries = random_codes(seed, n, 5, 9), random_codes(seed + 1, n_queries, 5, 9)
    ids, radius = sparse_ids(seed, n), radius if radius > 2**20 else radius % 15
    found = HammingIndex.build(codes, ids, "d0").within(queries, radius)
    assert len(found) == n_queries
    for (near, distances), truth in zip(found, true_distances(queries, codes), strict=True):
        order = np.lexsort((ids, truth))
        order = order[truth[order] <= radius]
        np.testing.assert_array_equal(near, ids[order])
        np.testing.assert_array_equal(distances, truth[order])


def test_a_code_is_within_its_own_distance_and_not_within_one_gate_less() -> None:
    codes = SplineCodes.pack(np.array([[True, True, True, False]]))
    query = SplineCodes.pack(np.array([[False, False, False, False]]))
    assert index_of(codes).within(query, 3)[0][0].tolist() == [0]
    assert index_of(codes).within(query, 2)[0][0].tolist() == []


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), sizes=st.tuples(st.integers(0, 20), st.integers(0, 20)), bits=st.integers(1, 200)
)
def test_the_matrix_of_distances_counts_differing_gates(seed: int, sizes: tuple[int, int], bits: int) -> None:
    a, b = random_codes(seed, sizes[0], bits, 3), random_codes(seed + 1, sizes[1], bits, 3)
    np.testing.assert_array_equal(hamming_matrix(a, b), true_distances(a, b))
    # A view of every other row isn't contiguous, which FAISS would not notice.
    np.testing.assert_array_equal(pairwise_hamming(a[::2]), true_distances(a[::2], a[::2]))


def test_a_saved_index_answers_as_it_did(tmp_path: Path) -> None:
    codes = random_codes(0, 300, 12, 20)
    index = HammingIndex.build(codes, sparse_ids(0, 300), "d0")
    index.save(tmp_path / "a.faiss")
    loaded = HammingIndex.load(tmp_path / "a.faiss")
    for before, after in zip(index.search(codes, 7), loaded.search(codes, 7), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(loaded.ids, index.ids)
    assert (len(loaded), loaded.parts, loaded.n_bits, loaded.digest) == (300, (12, 20), 32, "d0")
    loaded.check(300, "d0")


def test_faiss_itself_opens_a_saved_index_and_answers_in_example_ids(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 50, 40), sparse_ids(0, 50)
    HammingIndex.build(codes, ids, "d0").save(tmp_path / "a.faiss")
    opened = faiss.read_index_binary(str(tmp_path / "a.faiss"))
    assert opened.search(codes.packed[7:8], 1)[0].tolist() == [[0]]
    assert set(opened.search(codes.packed, 50)[1].ravel()) == set(ids)
    about = json.loads((tmp_path / "a.json").read_text())
    assert (about["count"], about["n_bits"], about["parts"], about["digest"]) == (50, 40, [40], "d0")


def test_saving_replaces_an_older_index_and_leaves_only_the_pair(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    index_of(random_codes(0, 50, 40)).save(path)
    index_of(random_codes(1, 20, 8)).save(path)
    assert len(HammingIndex.load(path)) == 20
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.faiss", "a.json"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no json", "other json", "torn pair"])
def test_a_damaged_index_is_refused_before_faiss_reads_it(tmp_path: Path, damage: str) -> None:
    path, sidecar = tmp_path / "a.faiss", tmp_path / "a.json"
    index_of(random_codes(0, 50, 40)).save(path)
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[:-10])
        case "flipped":
            path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
        case "empty":
            path.write_bytes(b"")
        case "no json":
            sidecar.write_text("{")
        case "other json":
            sidecar.write_text("[]")
        case "torn pair":  # a crash between the two renames: the sidecar is still that of the older index
            older = sidecar.read_bytes()
            index_of(random_codes(1, 50, 40)).save(path)
            sidecar.write_bytes(older)
    with pytest.raises(IndexMissing, match=r"damaged.*polytope index"):
        HammingIndex.load(path)


@pytest.mark.parametrize("absent", ["a.faiss", "a.json"])
def test_an_absent_index_says_how_to_build_it(tmp_path: Path, absent: str) -> None:
    index_of(random_codes(0, 5, 8)).save(tmp_path / "a.faiss")
    (tmp_path / absent).unlink()
    with pytest.raises(IndexMissing, match=r"there is no index at .*a\.faiss.*polytope index"):
        HammingIndex.load(tmp_path / "a.faiss")


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    index_of(random_codes(0, 5, 8)).save(tmp_path / "a.faiss")
    about = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(IndexMissing, match="format 99, this version reads 1"):
        HammingIndex.load(tmp_path / "a.faiss")


@pytest.mark.parametrize(("count", "digest"), [(6, "d0"), (5, "d1")])
def test_an_index_refuses_to_answer_for_other_codes(count: int, digest: str) -> None:
    with pytest.raises(IndexMismatch, match=rf"5 codes with digest d0.* {count} codes with digest {digest}"):
        index_of(random_codes(0, 5, 8)).check(count, digest)


def test_more_neighbours_than_codes_is_an_error_that_says_how_many_there_are() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match="6 neighbours were asked for; the index holds 5"):
        index_of(codes).search(codes, 6)


@pytest.mark.parametrize("k", [0, -3])
def test_fewer_than_one_neighbour_is_an_error(k: int) -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match=f"at least 1, got {k}"):
        index_of(codes).search(codes, k)


def test_a_negative_radius_is_an_error() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match="can't be negative, got -1"):
        index_of(codes).within(codes, -1)


@pytest.mark.parametrize("parts", [(9,), (4, 4), (16,)])
def test_a_query_of_another_width_is_an_error_even_where_the_bytes_agree(parts: tuple[int, ...]) -> None:
    index, query = index_of(random_codes(0, 5, 10)), random_codes(0, 1, *parts)
    for ask in (index.search, index.within):
        with pytest.raises(WidthError, match=f"the query has {sum(parts)} gates .* of 10 gates"):
            ask(query, 1)
    with pytest.raises(WidthError, match="can't be compared"):
        hamming_matrix(query, random_codes(0, 5, 10))


@pytest.mark.parametrize("ids", [[0, 1, 1], [2, 1, 3], [0, 1]])
def test_ids_that_do_not_name_each_code_in_ascending_order_are_an_error(ids: list[int]) -> None:
    with pytest.raises(UsageError, match="id"):
        HammingIndex.build(random_codes(0, 3, 8), np.array(ids), "d0")


def test_an_index_of_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="at least one code"):
        index_of(random_codes(0, 0, 8))


def test_an_index_file_has_its_own_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\*\.faiss, got a\.json"):
        index_of(random_codes(0, 5, 8)).save(tmp_path / "a.json")
