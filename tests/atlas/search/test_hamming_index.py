"""Exact search against sorting in NumPy and against FAISS, and what an index on disk refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes, concatenate, hamming
from atlas.errors import IndexMismatch, IndexMissing, UsageError, WidthError
from atlas.search.candidates import candidates_of, parted
from atlas.search.files import (
    CODES_START,
    FULL_CHECK_BYTES,
    SAMPLE_BYTES,
    _open_flat,
    hashes,
    read_again,
    write_flat,
)
from atlas.search.gpu import MOST_ON_GPU, OneAtATime, OnGpu, n_gpus, search_with_any_ties
from atlas.search.hamming_index import HammingIndex, hamming_matrix, without_own

EDITS: list[dict[str, object]] = [
    {"count": "50"},
    {"count": 2**70},
    {"count": -1},
    {"count": 50.0},
    {"count": True},
    {"parts": ["40"]},
    {"parts": 40},
    {"parts": []},
    {"parts": [0, 40]},
    {"kind": "ivf"},
    {"kind": ["flat"]},
    {"digest": 7},
    {"size": "458"},
    {"sha256": None},
    {"sampled": 3},
]
"""What someone may have made of the JSON beside an index of 50 codes of 40 gates."""


def random_codes(seed: int, n: int, *parts: int) -> SplineCodes:
    rng = np.random.default_rng(seed)
    return concatenate([SplineCodes.pack(rng.random((n, part)) < 0.3) for part in parts])


def sparse_ids(seed: int, n: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).integers(1, 50, n))


def true_distances(queries: SplineCodes, codes: SplineCodes) -> np.ndarray:
    return (queries.unpack()[:, None] != codes.unpack()[None]).sum(axis=2)


def index_of(codes: SplineCodes) -> HammingIndex:
    return HammingIndex.build(codes, np.arange(len(codes)), digest="d0")


def save(index: HammingIndex, path: Path) -> None:
    HammingIndex.write(path, [(index.ids, index.packed)], index.parts, index.digest)


def nearest_truth(
    queries: SplineCodes, codes: SplineCodes, k: int, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and distances, by sorting all distances to the codes at ``among`` by (distance, place)."""
    truth = true_distances(queries, codes[among])
    order = np.argsort(truth, axis=1, kind="stable")[:, :k]
    return among[order], np.take_along_axis(truth, order, axis=1)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 120),
    n_queries=st.integers(0, 9),
    parts=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    data=st.data(),
)
def test_search_is_a_sort_by_distance_then_id(
    seed: int, n: int, n_queries: int, parts: list[int], data: st.DataObject
) -> None:
    codes, queries = random_codes(seed, n, *parts), random_codes(seed + 1, n_queries, *parts)
    among = np.array(data.draw(st.one_of(st.none(), st.sets(st.integers(0, n - 1), min_size=1).map(sorted))))
    everything = among.ndim == 0
    places = np.arange(n) if everything else among
    ids, k = sparse_ids(seed, n), data.draw(st.integers(1, len(places)))
    index = HammingIndex.build(codes, ids, "d0")
    found, distances = index.search(queries, k, among=None if everything else among)
    assert found.shape == distances.shape == (n_queries, k)
    expected = nearest_truth(queries, codes, k, places)
    np.testing.assert_array_equal(found, ids[expected[0]])
    np.testing.assert_array_equal(distances, expected[1])
    for search in (index._nearest_compiled, index._nearest_interpreted):
        for got, true in zip(parted(search(queries, k, None if everything else among)), expected, strict=True):
            np.testing.assert_array_equal(got, true)


@pytest.mark.parametrize(("n_queries", "k"), [(1, 1), (1, 5_000), (70, 1), (70, 333)])
def test_ties_are_broken_by_id_across_the_blocks_and_threads_in_which_the_kernels_work(
    n_queries: int, k: int
) -> None:
    codes, queries = random_codes(0, 200_000, 11), random_codes(1, n_queries, 11)
    ids = sparse_ids(0, len(codes))
    index = HammingIndex.build(codes, ids, "d0")
    for search in (index._nearest_compiled, index._nearest_interpreted):
        places, distances = parted(search(queries, k, None))
        for row in range(n_queries):
            truth = hamming(queries[row : row + 1], codes)
            order = np.argsort(truth, kind="stable")[:k]
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
def test_others_are_the_nearest_without_itself_though_many_equal_it(
    seed: int, n: int, bits: int, data: st.DataObject
) -> None:
    codes, ids, k = random_codes(seed, n, bits), sparse_ids(seed, n), data.draw(st.integers(1, n - 1))
    found, distances = HammingIndex.build(codes, ids, "d0").others(np.arange(n), k)
    for place in range(n):
        others = np.delete(np.arange(n), place)
        expected = nearest_truth(codes[place : place + 1], codes, k, others)
        np.testing.assert_array_equal(found[place], ids[expected[0][0]])
        np.testing.assert_array_equal(distances[place], expected[1][0])


def test_without_its_own_id_an_answer_is_one_shorter() -> None:
    ids, distances = without_own(np.array([5, 9]), np.array([[4, 5, 6], [1, 2, 3]]), np.array([[0, 0, 1], [0, 0, 0]]))
    assert ids.tolist() == [[4, 6], [1, 2]] and distances.tolist() == [[0, 1], [0, 0]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_queries=st.integers(0, 4),
    radius=st.integers(0, 2**40),
    share=st.none() | st.floats(0, 1),
)
def test_within_finds_every_code_up_to_and_at_the_radius(
    seed: int, n: int, n_queries: int, radius: int, share: float | None
) -> None:
    codes, queries = random_codes(seed, n, 5, 9), random_codes(seed + 1, n_queries, 5, 9)
    ids, radius = sparse_ids(seed, n), radius if radius > 2**20 else radius % 15
    allowed = np.random.default_rng(seed).random(n) < (2 if share is None else share)
    among = None if share is None else np.flatnonzero(allowed)
    index = HammingIndex.build(codes, ids, "d0")
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


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), gaps=st.booleans(), wanted=st.lists(st.integers(-5, 400))
)
def test_places_are_those_of_the_examples_that_are_held(seed: int, n: int, gaps: bool, wanted: list[int]) -> None:
    ids = sparse_ids(seed, n) if gaps else np.arange(17, 17 + n)
    index = HammingIndex.build(random_codes(seed, n, 8), ids, "d0")
    places = index.places(np.array(wanted, dtype=np.int64))
    assert places.tolist() == [place for place in range(n) if ids[place] in wanted]


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
    np.testing.assert_array_equal(hamming_matrix(a[::2], a[::2]), true_distances(a[::2], a[::2]))


def test_a_saved_index_answers_as_it_did(tmp_path: Path) -> None:
    codes = random_codes(0, 300, 12, 20)
    index = HammingIndex.build(codes, sparse_ids(0, 300), "d0")
    save(index, tmp_path / "a.faiss")
    loaded = HammingIndex.load(tmp_path / "a.faiss")
    for before, after in zip(index.search(codes, 7), loaded.search(codes, 7), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(loaded.ids, index.ids)
    assert (len(loaded), loaded.parts, loaded.n_bits, loaded.digest) == (300, (12, 20), 32, "d0")
    loaded.check(300, "d0")


def test_faiss_itself_opens_a_saved_index_and_answers_in_example_ids(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 50, 40), sparse_ids(0, 50)
    save(HammingIndex.build(codes, ids, "d0"), tmp_path / "a.faiss")
    opened = faiss.read_index_binary(str(tmp_path / "a.faiss"))
    assert opened.search(codes.packed[7:8], 1)[0].tolist() == [[0]]
    assert set(opened.search(codes.packed, 50)[1].ravel()) == set(ids)
    about = json.loads((tmp_path / "a.json").read_text())
    assert (about["count"], about["n_bits"], about["parts"], about["digest"]) == (50, 40, [40], "d0")


def test_saving_replaces_an_older_index_and_leaves_only_the_pair(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    save(index_of(random_codes(0, 50, 40)), path)
    save(index_of(random_codes(1, 20, 8)), path)
    assert len(HammingIndex.load(path)) == 20
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.faiss", "a.json"]


DAMAGE = ["truncated", "flipped", "empty", "no json", "other json", "torn pair", "count", "other kind"]


@pytest.mark.parametrize("damage", [*DAMAGE, *range(len(EDITS))])
def test_a_damaged_index_is_refused_before_faiss_reads_it(tmp_path: Path, damage: str | int) -> None:
    path, sidecar = tmp_path / "a.faiss", tmp_path / "a.json"
    save(index_of(random_codes(0, 50, 40)), path)
    content, about = path.read_bytes(), json.loads(sidecar.read_text())
    match damage:
        case int():
            sidecar.write_text(json.dumps(about | EDITS[damage]))
        case "count":
            sidecar.write_text(json.dumps(about | {"count": 49}))
        case "other kind":  # a file that FAISS wrote, with hashes that fit it
            other = faiss.IndexBinaryFlat(40)
            other.add(np.zeros((50, 5), np.uint8))
            faiss.write_index_binary(other, str(path))
            sidecar.write_text(json.dumps(about | hashes(path)))
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
            save(index_of(random_codes(1, 50, 40)), path)
            sidecar.write_bytes(older)
    with pytest.raises(IndexMissing, match=r"damaged.*polytope index"):
        HammingIndex.load(path)


@pytest.mark.parametrize("absent", ["a.faiss", "a.json"])
def test_an_absent_index_says_how_to_build_it(tmp_path: Path, absent: str) -> None:
    save(index_of(random_codes(0, 5, 8)), tmp_path / "a.faiss")
    (tmp_path / absent).unlink()
    with pytest.raises(IndexMissing, match=r"there is no index at .*a\.faiss.*polytope index"):
        HammingIndex.load(tmp_path / "a.faiss")


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    save(index_of(random_codes(0, 5, 8)), tmp_path / "a.faiss")
    about = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(IndexMissing, match="format 99, this version reads 2"):
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
        save(index_of(random_codes(0, 5, 8)), tmp_path / "a.json")


# --- mapped files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index file larger than what is hashed whole when it is opened."""
    path = tmp_path_factory.mktemp("large") / "a.faiss"
    n_bytes = 384
    count = FULL_CHECK_BYTES // n_bytes + 5000
    rng = np.random.default_rng(0)

    def blocks():  # type: ignore[no-untyped-def]
        for start in range(0, count, 8192):
            ids = np.arange(start, min(start + 8192, count))
            yield ids, rng.integers(0, 256, (len(ids), n_bytes), dtype=np.uint8)

    assert HammingIndex.write(path, blocks(), (8 * n_bytes,), "d0") == count
    return path


def test_a_file_written_block_by_block_is_the_one_written_at_once(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 300, 12, 20), sparse_ids(0, 300)
    save(HammingIndex.build(codes, ids, "d0"), tmp_path / "a.faiss")
    blocks = ((ids[rows], codes.packed[rows]) for rows in (slice(0, 100), slice(100, 101), slice(101, 300)))
    HammingIndex.write(tmp_path / "b.faiss", blocks, codes.parts, "d0")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_blocks_that_do_not_ascend_leave_nothing_written_and_the_older_index_as_it_was(tmp_path: Path) -> None:
    path, codes = tmp_path / "a.faiss", random_codes(0, 4, 8)
    save(index_of(codes), path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="strictly increasing"):
        HammingIndex.write(
            path, [(np.array([3, 4]), codes.packed[:2]), (np.array([4]), codes.packed[2:3])], (8,), "d1"
        )
    with pytest.raises(UsageError, match="at least one code, got none"):
        HammingIndex.write(path, [], (8,), "d1")
    assert path.read_bytes() == before and HammingIndex.load(path).digest == "d0"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.faiss", "a.json"]


def test_a_large_index_is_opened_without_reading_it_and_searched_in_shared_memory(large: Path) -> None:
    """Resident memory that is the process's own grows by less than a tenth of the codes, that of the file by all."""
    code = f"""
import numpy as np
from pathlib import Path
from atlas.codes import SplineCodes
from atlas.search.hamming_index import HammingIndex

def resident(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) << 10

path = Path({str(large)!r})
warm = HammingIndex.build(SplineCodes(np.zeros((99, 384), np.uint8), (3072,)), np.arange(99), "")
warm._nearest_compiled(warm.codes(np.arange(1)), 5, None)  # what the compiler takes is not the index's
own, file = resident("RssAnon"), resident("RssFile")
index = HammingIndex.load(path)
opened = resident("RssFile")
found = [index._nearest_compiled(index.codes(np.arange(n)), 5, None) for n in (1, 20)]
print(len(index) * 384, resident("RssAnon") - own, opened - file, resident("RssFile") - file)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    codes, own, opened, searched = map(int, ran.stdout.split())
    assert own < codes / 10 and opened < codes / 10 and searched > 0.9 * codes


READER = """
import sys
from pathlib import Path
import numpy as np
from atlas.search.hamming_index import HammingIndex

path = Path(sys.argv[1])
index = HammingIndex.load(path)
print("open", flush=True)
sys.stdin.readline()
asked = index.codes(np.arange(7, 9))
print(len(index), index.search(asked, 1)[1].ravel().tolist(), len(HammingIndex.load(path)), flush=True)
"""


def test_processes_that_have_an_index_open_keep_it_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    save(index_of(random_codes(0, 500, 40)), path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", READER, str(path)], **pipes) for _ in range(3)]  # type: ignore[call-overload]
    try:
        assert [reader.stdout.readline() for reader in readers] == ["open\n"] * 3
        save(index_of(random_codes(1, 20, 40)), path)
        assert [reader.communicate("go\n")[0] for reader in readers] == ["500 [0, 0] 20\n"] * 3
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def test_a_reader_that_comes_between_the_two_renames_looks_again(tmp_path: Path) -> None:
    path, sidecar = tmp_path / "a.faiss", tmp_path / "a.json"
    save(index_of(random_codes(0, 500, 40)), path)
    older = sidecar.read_bytes()
    save(index_of(random_codes(1, 20, 40)), path)
    newer = sidecar.read_bytes()
    sidecar.write_bytes(older)
    found = read_again(path, lambda: _open_flat(path, False), wait=lambda: sidecar.write_bytes(newer))
    assert found[0]["count"] == 20
    waits: list[int] = []
    sidecar.write_bytes(older)
    with pytest.raises(IndexMissing, match="damaged"):
        read_again(path, lambda: _open_flat(path, False), wait=lambda: waits.append(1))
    sidecar.unlink()
    with pytest.raises(IndexMissing, match="there is no index"):
        read_again(path, lambda: _open_flat(path, False), wait=lambda: waits.append(1))
    assert waits == [1]


@pytest.mark.parametrize(
    ("ids", "packed", "error", "message"),
    [
        (np.arange(4), np.zeros((4, 4), np.uint8), WidthError, r"rows of 5 bytes \(uint8\), got .* shape \(4, 4\)"),
        (np.arange(4), np.zeros((4, 5), np.int64), WidthError, "type int64"),
        (np.arange(3), np.zeros((4, 5), np.uint8), UsageError, r"got 4 codes and ids of shape \(3,\)"),
        (np.arange(4.0), np.zeros((4, 5), np.uint8), UsageError, "type float64"),
    ],
)
def test_blocks_that_do_not_fit_leave_the_older_index_as_it_was(
    tmp_path: Path, ids: np.ndarray, packed: np.ndarray, error: type, message: str
) -> None:
    path = tmp_path / "a.faiss"
    save(index_of(random_codes(0, 50, 40)), path)
    with pytest.raises(error, match=message):
        write_flat(path, [(ids, packed)], {"kind": "flat", "n_bits": 40, "parts": [40], "digest": "d1"}, 5)
    assert HammingIndex.load(path).digest == "d0"


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
def test_auto_does_without_a_gpu_that_fails_and_remembers_it(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
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


def test_a_gpu_is_searched_by_one_thread_at_a_time() -> None:
    inside, most, lock = [0], [0], threading.Lock()

    class Watched:
        ntotal = 5

        def search(self, packed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            with lock:
                inside[0] -= 1
            return np.zeros((1, k), np.int32), np.zeros((1, k), np.int64)

    one = OneAtATime(Watched())
    threads = [threading.Thread(target=one.search, args=(np.zeros((1, 5), np.uint8), 3)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_cuda_can_not_be_had_for_a_search_among_some_codes() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match=r"device is cuda, but .* \(a filter\) runs on the processor"):
        index_of(codes).search(codes, 1, among=np.arange(3), device="cuda")
    with pytest.raises(UsageError, match="device is 'gpu'; expected auto, cpu or cuda"):
        index_of(codes).search(codes, 1, among=np.arange(3), device="gpu")  # type: ignore[arg-type]


def test_the_ids_of_a_mapped_file_are_copied_once_to_where_they_can_be_searched(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 300, 40), sparse_ids(0, 300)
    save(HammingIndex.build(codes, ids, "d0"), tmp_path / "a.faiss")
    index = HammingIndex.load(tmp_path / "a.faiss")
    assert not index.ids.flags.aligned and index._aligned_ids.flags.aligned
    assert index._aligned_ids is index._aligned_ids
    np.testing.assert_array_equal(index.places(ids[5:200]), np.arange(5, 200))


@pytest.mark.parametrize(
    ("damage", "at_open"),
    [("truncated", True), ("first code", True), ("last id", True), ("between samples", False)],
)
def test_damage_of_a_large_file_is_found_at_its_samples_at_once_and_everywhere_thoroughly(
    damage: str, at_open: bool, large: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.faiss"
    path.write_bytes(large.read_bytes())
    path.with_suffix(".json").write_bytes(large.with_suffix(".json").read_bytes())
    assert len(HammingIndex.load(path, thorough=True)) > 0
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "truncated":
            file.truncate(size - 8)
        else:
            at = {"first code": CODES_START, "last id": size - 8, "between samples": SAMPLE_BYTES + 1000}[damage]
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    if at_open:
        with pytest.raises(IndexMissing, match=r"damaged.*polytope index"):
            HammingIndex.load(path)
    else:
        assert HammingIndex.load(path).digest == "d0"
    with pytest.raises(IndexMissing, match=r"damaged.*polytope index"):
        HammingIndex.load(path, thorough=True)


@pytest.mark.parametrize("among", [[3, 2], [1, 1], [-1, 2], [2, 5]])
def test_places_to_search_among_ascend_and_are_there(among: list[int]) -> None:
    codes = random_codes(0, 5, 8)
    for ask in (index_of(codes).search, index_of(codes).within):
        with pytest.raises(UsageError, match="by their places, ascending, from 0 to 4"):
            ask(codes, 1, among=np.array(among))


def test_more_neighbours_than_may_be_searched_among_is_an_error() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match="3 neighbours were asked for; the index holds 2"):
        index_of(codes).search(codes, 3, among=np.array([1, 4]))
    with pytest.raises(UsageError, match="5 other codes were asked for; the index holds 5: ask for 1 to 4"):
        index_of(codes).others(np.arange(5), 5)


# --- a GPU -------------------------------------------------------------------------------------------------------


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
def test_an_index_that_breaks_ties_anyhow_gives_the_same_answers(
    seed: int, n: int, bits: int, data: st.DataObject
) -> None:
    codes, queries, k = random_codes(seed, n, bits), random_codes(seed + 1, 6, bits), data.draw(st.integers(1, n))
    index = index_of(codes)
    answer = search_with_any_ties(Shuffled(codes, seed), queries, k, lambda left: index._nearest(left, k, None))
    np.testing.assert_array_equal(answer, index._nearest(queries, k, None))


def test_only_queries_whose_ties_are_out_of_view_are_answered_elsewhere() -> None:
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


def test_candidates_come_apart_into_what_they_were_made_of() -> None:
    distances, places = np.array([[0, 3072, 2**27]]), np.array([[2**36 - 1, 0, 77]])
    back = parted(candidates_of(distances.astype(np.int32), places))
    assert back[0].tolist() == places.tolist() and back[1].tolist() == distances.tolist()


def test_a_gpu_that_is_not_there_can_not_be_asked_for() -> None:
    codes = random_codes(0, 5, 8)
    with pytest.raises(UsageError, match="device is 'tpu'; expected auto, cpu or cuda"):
        index_of(codes).search(codes, 1, device="tpu")  # type: ignore[arg-type]
    if n_gpus() == 0:
        with pytest.raises(UsageError, match="FAISS sees no GPU"):
            index_of(codes).search(codes, 1, device="cuda")


@pytest.mark.skipif(n_gpus() == 0, reason="FAISS sees no GPU on this machine")
@pytest.mark.parametrize("bits", [8, 40, 512])
@pytest.mark.parametrize("k", [1, 10, 700])
def test_a_gpu_gives_the_answers_of_the_processor(bits: int, k: int) -> None:
    codes, queries = random_codes(0, 20_000, bits), random_codes(1, 50, bits)
    index = HammingIndex.build(codes, sparse_ids(0, len(codes)), "d0")
    for got, true in zip(
        index.search(queries, k, device="cuda"), index.search(queries, k, device="cpu"), strict=True
    ):
        np.testing.assert_array_equal(got, true)
