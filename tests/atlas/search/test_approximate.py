"""Approximate indexes against the exact one: what they find, what they say of it, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes
from atlas.errors import IndexMismatch, IndexMissing, UsageError, WidthError
from atlas.search import approximate
from atlas.search.approximate import ApproximateIndex
from atlas.search.hamming_index import HammingIndex
from bench.data import clustered_codes

means = approximate._means


def truth_of(index: ApproximateIndex, queries: SplineCodes, k: int) -> np.ndarray:
    """Distances of the true nearest."""
    return index.exact.search(queries, k)[1]


def hamming_to(index: ApproximateIndex, queries: SplineCodes, ids: np.ndarray) -> np.ndarray:
    """Distances of the queries to the codes of those ids, bit by bit."""
    gates, asked = index.exact.codes(np.searchsorted(index.exact.ids, ids.ravel())).unpack(), queries.unpack()
    return (gates.reshape(*ids.shape, -1) != asked[:, None]).sum(axis=2)


@pytest.fixture(scope="module")
def exact() -> HammingIndex:
    codes = clustered_codes(6000, 200, 30, seed=0)
    return HammingIndex.build(codes, np.cumsum(np.random.default_rng(0).integers(1, 5, len(codes))), "d0")


@pytest.fixture(scope="module")
def index(exact: HammingIndex) -> ApproximateIndex:
    return ApproximateIndex.build(exact)


def test_answers_are_in_order_and_complete(index: ApproximateIndex) -> None:
    queries = clustered_codes(50, 200, 50, seed=1)  # far from all that is stored
    for k in (1, 10, 500):
        ids, distances = index.search(queries, k)
        assert ids.shape == distances.shape == (50, k)
        np.testing.assert_array_equal(distances, hamming_to(index, queries, ids))
        order = np.lexsort((ids, distances), axis=1)
        np.testing.assert_array_equal(order, np.tile(np.arange(k), (50, 1)))
        assert all(len(set(row)) == k for row in ids.tolist())


@pytest.mark.parametrize("share", [2, 5, 20])
def test_lists_are_found_group_by_group(share: int, exact: HammingIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where k-means may see a part of the codes at once there are as many lists, nearly, and they serve as well."""
    seen: list[int] = []
    most = 40 * 77 * exact.n_bits // share
    monkeypatch.setattr(approximate, "_TRAINING_FLOATS", most)
    monkeypatch.setattr(approximate, "_means", lambda codes, n: seen.append(len(codes)) or means(codes, n))
    index = ApproximateIndex.build(exact)
    assert index.parameters["nlist"] == pytest.approx(77, rel=0.15) and index.recall >= 0.98
    assert len(seen) > share and max(seen) * exact.n_bits <= most


def test_equal_codes_make_few_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that are all alike fall into one group, however small the groups are to be."""
    monkeypatch.setattr(approximate, "_TRAINING_FLOATS", 8 * 40 * 2)
    codes = SplineCodes(np.full((4000, 1), 5, np.uint8), (8,))
    index = ApproximateIndex.build(HammingIndex.build(codes, np.arange(4000), "d0"))
    assert index.recall == 1 and index.search(codes[:3], 2)[1].max() == 0


def test_the_stored_recall_is_the_recall(index: ApproximateIndex) -> None:
    """Measured again on codes of which few were in the sample, by counting."""
    assert index.recall >= 0.98 and index.sample == 1000
    queries = index.exact.codes(np.arange(0, 6000, 7))
    own = index.exact.ids[np.arange(0, 6000, 7)]
    ids, distances = index.search(queries, 11)
    farthest = truth_of(index, queries, 11)[:, -1]
    near = ((distances <= farthest[:, None]) & (ids != own[:, None])).sum(axis=1)
    assert np.minimum(near, 10).mean() / 10 == pytest.approx(index.recall, abs=0.02)


def test_ties_are_hits_in_one_recall_alone() -> None:
    """Codes of 12 gates tie often. Which of those as far as the tenth are found is the lists' choice."""
    codes = SplineCodes.pack(np.random.default_rng(3).random((800, 12)) < 0.3)
    index = ApproximateIndex.build(HammingIndex.build(codes, np.arange(800), "d0"), target_recall=0.5)
    gates = codes.unpack()
    all_distances = (gates[:, None] != gates[None]).sum(axis=2)
    ids, _ = index.search(codes, 11)
    hits, very = [], []
    for place in range(800):
        others = [other for other in np.argsort(all_distances[place], kind="stable") if other != place][:10]
        found = [other for other in ids[place] if other != place][:10]
        hits.append(sum(all_distances[place, other] <= all_distances[place, others[-1]] for other in found) / 10)
        very.append(len(set(others) & set(found)) / 10)
    assert np.mean(hits) == pytest.approx(index.recall, abs=0.03)
    assert np.mean(very) == pytest.approx(index.recall_in_order, abs=0.03)
    assert np.mean(very) < np.mean(hits) - 0.1


def test_the_least_effort_is_chosen(exact: HammingIndex) -> None:
    low = ApproximateIndex.build(exact, target_recall=0.3)
    high = ApproximateIndex.build(exact, target_recall=1.0)
    assert low.parameters["nprobe"] < high.parameters["nprobe"] and low.recall <= high.recall
    every = ApproximateIndex.build(exact, target_recall=1.0, seed=1)
    assert every.recall > 0.99


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 300), bits=st.integers(1, 60))
def test_few_codes_are_never_padded(seed: int, n: int, bits: int) -> None:
    codes = SplineCodes.pack(np.random.default_rng(seed).random((n, bits)) < 0.5)
    index = ApproximateIndex.build(HammingIndex.build(codes, np.arange(5, 5 + n), "d0"))
    assert 0 <= index.recall <= 1
    for k in (1, n):
        ids, distances = index.search(codes[:3], k)
        assert ids.min() >= 5 and ids.max() < 5 + n
        np.testing.assert_array_equal(distances, hamming_to(index, codes[:3], ids))
    np.testing.assert_array_equal(
        np.sort(index.search(codes[:2], n)[0], axis=1), np.tile(np.arange(5, 5 + n), (2, 1))
    )


@pytest.mark.parametrize("radius", [0, 15, 25, 10**9])
def test_within_stays_within_the_radius(index: ApproximateIndex, radius: int) -> None:
    queries = index.exact.codes(np.arange(40))
    found, total = 0, 0
    for (ids, distances), (all_ids, all_distances) in zip(
        index.within(queries, radius), index.exact.within(queries, radius), strict=True
    ):
        truth = dict(zip(all_ids.tolist(), all_distances.tolist(), strict=True))
        assert [truth[example] for example in ids.tolist()] == distances.tolist()
        assert list(zip(distances, ids, strict=True)) == sorted(zip(distances, ids, strict=True))
        found, total = found + len(ids), total + len(all_ids)
    assert 0 < found <= total
    if radius == 0:
        assert found == total  # equal codes share a list


def test_a_saved_index_is_mapped(index: ApproximateIndex, tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    index.save(path)
    loaded = ApproximateIndex.load(path, index.exact)
    assert (loaded.parameters, loaded.sample) == (index.parameters, index.sample)
    assert (loaded.recall, loaded.recall_in_order) == (index.recall, index.recall_in_order)
    queries = index.exact.codes(np.arange(0, 6000, 60))
    for before, after in zip(index.search(queries, 10), loaded.search(queries, 10), strict=True):
        np.testing.assert_array_equal(before, after)
    assert str(path) in Path("/proc/self/maps").read_text()


def test_an_index_of_other_codes_is_refused(index: ApproximateIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "a.faiss")
    codes, ids = index.exact.codes(np.arange(6000)), index.exact.ids
    for other in (HammingIndex.build(codes, ids, "d1"), HammingIndex.build(codes[:99], ids[:99], "d0")):
        with pytest.raises(IndexMismatch, match=r"built from 6000 codes with digest d0; .*`polytope index`"):
            ApproximateIndex.load(tmp_path / "a.faiss", other)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no file", "no recall", "flat"])
def test_a_damaged_index_is_refused(damage: str, index: ApproximateIndex, tmp_path: Path) -> None:
    path, sidecar = tmp_path / "a.faiss", tmp_path / "a.json"
    index.save(path)
    content, about = path.read_bytes(), json.loads(sidecar.read_text())
    match damage:
        case "truncated":
            path.write_bytes(content[:-10])
        case "flipped":
            path.write_bytes(content[:999] + bytes([content[999] ^ 1]) + content[1000:])
        case "no file":
            path.unlink()
        case "no recall":
            about.pop("recall")
            sidecar.write_text(json.dumps(about))
        case "flat":
            HammingIndex.write(path, [(index.exact.ids, index.exact.packed)], index.exact.parts, "d0")
    with pytest.raises(IndexMissing, match="polytope index"):
        ApproximateIndex.load(path, index.exact)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_recall": 0.0}, "recall to reach is 0.0"),
        ({"target_recall": 1.1}, "recall to reach is 1.1"),
    ],
)
def test_what_can_not_be_built(arguments: dict, message: str, exact: HammingIndex) -> None:
    with pytest.raises(UsageError, match=message):
        ApproximateIndex.build(exact, **arguments)


def test_a_single_code_is_too_few() -> None:
    codes = SplineCodes.pack(np.ones((1, 8), np.bool_))
    with pytest.raises(UsageError, match="at least two codes"):
        ApproximateIndex.build(HammingIndex.build(codes, np.arange(1), "d0"))


def test_what_the_exact_index_refuses(index: ApproximateIndex) -> None:
    queries = index.exact.codes(np.arange(2))
    with pytest.raises(UsageError, match="at least 1, got 0"):
        index.search(queries, 0)
    with pytest.raises(UsageError, match="6001 neighbours were asked for"):
        index.search(queries, 6001)
    with pytest.raises(UsageError, match="can't be negative"):
        index.within(queries, -1)
    with pytest.raises(WidthError, match="the query has 199 gates"):
        index.search(clustered_codes(2, 199, 1, seed=0), 1)
    assert index.search(queries[:0], 3)[0].shape == (0, 3) and index.within(queries[:0], 3) == []


def test_progress_counts_the_codes_added(exact: HammingIndex) -> None:
    seen: list[tuple[int, int]] = []
    ApproximateIndex.build(exact, progress=lambda done, total: seen.append((done, total)))
    done = [each for each, _ in seen]
    assert seen[-1] == (6000, 6000) and done == sorted(done) and {total for _, total in seen} == {6000}
    assert sum(0 < each < 1200 for each in done) > 10  # while the truth is looked for
    # Nothing can be told of training in between; the efforts that need not be tried are left out at the end.
    assert max(np.diff(done[:-1], prepend=0)) <= 1440 + 1


@pytest.mark.parametrize(
    "edit",
    [
        {"parameters": {"nlist": 4}},
        {"parameters": {"nprobe": "4"}},
        {"parameters": 3},
        {"recall": "1"},
        {"recall": 7},
        {"recall_in_order": 1.1},
        {"recall_in_order": None},
        {"sample": None},
        {"parameters": {"nprobe": 1 << 40}},
    ],
)
def test_an_edited_description_is_damage(exact: HammingIndex, tmp_path: Path, edit: dict) -> None:
    path = tmp_path / "a.faiss"
    ApproximateIndex.build(exact).save(path)
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | edit))
    with pytest.raises(IndexMissing, match="damaged"):
        ApproximateIndex.load(path, exact)
