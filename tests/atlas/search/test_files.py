"""Index files: written block by block, mapped, replaced while they are open, and refused where they are damaged."""

from __future__ import annotations

import inspect
import json
import os
import re
import tracemalloc
from pathlib import Path

import faiss
import numpy as np
import pytest

from atlas.errors import IndexMissing, UsageError, WidthError
from atlas.search.files import (
    CODES_START,
    FULL_CHECK_BYTES,
    SAMPLE_BYTES,
    _open_flat,
    hashes,
    read_about,
    read_again,
    write_flat,
)
from atlas.search.hamming_index import HammingIndex
from tests.atlas.search.generated import index_of, random_codes, save, sparse_ids

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


DAMAGE = ["truncated", "flipped", "empty", "no json", "other json", "torn pair", "count", "other kind"]


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


def test_a_saved_index_answers_as_before(tmp_path: Path) -> None:
    codes = random_codes(0, 300, 12, 20)
    index = index_of(codes, sparse_ids(0, 300))
    save(index, tmp_path / "a.faiss")
    loaded = HammingIndex.load(tmp_path / "a.faiss")
    for before, after in zip(index.search(codes, 7), loaded.search(codes, 7), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(loaded.ids, index.ids)
    assert (len(loaded), loaded.parts, loaded.n_bits, loaded.digest) == (300, (12, 20), 32, "d0")
    loaded.check(300, "d0")


def test_faiss_opens_a_saved_index(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 50, 40), sparse_ids(0, 50)
    save(index_of(codes, ids), tmp_path / "a.faiss")
    opened = faiss.read_index_binary(str(tmp_path / "a.faiss"))
    assert opened.search(codes.packed[7:8], 1)[0].tolist() == [[0]]
    assert set(opened.search(codes.packed, 50)[1].ravel()) == set(ids)
    about = json.loads((tmp_path / "a.json").read_text())
    assert (about["count"], about["n_bits"], about["parts"], about["digest"]) == (50, 40, [40], "d0")


def test_saving_replaces_an_older_index(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    save(index_of(random_codes(0, 50, 40)), path)
    save(index_of(random_codes(1, 20, 8)), path)
    assert len(HammingIndex.load(path)) == 20
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.faiss", "a.json"]


def test_blocks_make_the_same_file(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 300, 12, 20), sparse_ids(0, 300)
    save(index_of(codes, ids), tmp_path / "a.faiss")
    blocks = ((ids[rows], codes.packed[rows]) for rows in (slice(0, 100), slice(100, 101), slice(101, 300)))
    HammingIndex.write(tmp_path / "b.faiss", blocks, codes.parts, "d0")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_unsorted_blocks_write_nothing(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("ids", "packed", "error", "message"),
    [
        (np.arange(4), np.zeros((4, 4), np.uint8), WidthError, r"rows of 5 bytes \(uint8\), got .* shape \(4, 4\)"),
        (np.arange(4), np.zeros((4, 5), np.int64), WidthError, "type int64"),
        (np.arange(3), np.zeros((4, 5), np.uint8), UsageError, r"got 4 codes and ids of shape \(3,\)"),
        (np.arange(4.0), np.zeros((4, 5), np.uint8), UsageError, "type float64"),
    ],
)
def test_blocks_that_do_not_fit(
    tmp_path: Path, ids: np.ndarray, packed: np.ndarray, error: type, message: str
) -> None:
    path = tmp_path / "a.faiss"
    save(index_of(random_codes(0, 50, 40)), path)
    with pytest.raises(error, match=message):
        inspect.unwrap(write_flat)(
            path, [(ids, packed)], {"kind": "flat", "n_bits": 40, "parts": [40], "digest": "d1"}, 5
        )
    assert HammingIndex.load(path).digest == "d0"


@pytest.mark.parametrize("damage", [*DAMAGE, *range(len(EDITS))])
def test_a_damaged_index_is_refused(tmp_path: Path, damage: str | int) -> None:
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


@pytest.mark.parametrize(
    ("damage", "at_open"),
    [("truncated", True), ("first code", True), ("last id", True), ("between samples", False)],
)
def test_damage_of_a_large_file(damage: str, at_open: bool, large: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("absent", ["a.faiss", "a.json"])
def test_an_absent_index_says_what_to_do(tmp_path: Path, absent: str) -> None:
    save(index_of(random_codes(0, 5, 8)), tmp_path / "a.faiss")
    (tmp_path / absent).unlink()
    with pytest.raises(IndexMissing, match=r"there is no index at .*a\.faiss.*polytope index"):
        HammingIndex.load(tmp_path / "a.faiss")


def test_another_format_is_refused(tmp_path: Path) -> None:
    save(index_of(random_codes(0, 5, 8)), tmp_path / "a.faiss")
    about = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(IndexMissing, match="format 99, this version reads 3"):
        HammingIndex.load(tmp_path / "a.faiss")


def test_a_changed_byte_beside_an_index(tmp_path: Path) -> None:
    """Whatever byte of the JSON changes, what a search would read out of it among them."""
    path, sidecar = tmp_path / "a.faiss", tmp_path / "a.json"
    save(index_of(random_codes(0, 5, 8)), path)
    written = sidecar.read_bytes()
    for place in range(len(written)):
        changed = bytearray(written)
        changed[place] ^= 1
        sidecar.write_bytes(changed)
        try:
            same = json.loads(changed) == json.loads(written)  # white space between its parts
        except ValueError:
            same = False
        if same:
            continue
        with pytest.raises(IndexMissing, match="polytope index"):
            read_about(path)


@pytest.mark.parametrize("name", ["a.faiss", "a.json"])
@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_what_is_no_index_file_is_not_opened(name: str, what: str, tmp_path: Path) -> None:
    """A pipe, for which a reader would wait for ever, a link that leads nowhere, a folder."""
    save(index_of(random_codes(0, 5, 8)), tmp_path / "a.faiss")
    place = tmp_path / name
    place.unlink()
    if what == "pipe":
        os.mkfifo(place)
    elif what == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir()
    with pytest.raises(IndexMissing, match=r"damaged \(a\.\w+ is (no file but a|a link that leads nowhere)"):
        HammingIndex.load(tmp_path / "a.faiss")


def test_index_files_have_a_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\*\.faiss, got a\.json"):
        save(index_of(random_codes(0, 5, 8)), tmp_path / "a.json")


def test_a_reader_between_renames_retries(tmp_path: Path) -> None:
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


def test_mapped_ids_are_aligned_once(tmp_path: Path) -> None:
    codes, ids = random_codes(0, 300, 40), sparse_ids(0, 300)
    save(index_of(codes, ids), tmp_path / "a.faiss")
    index = HammingIndex.load(tmp_path / "a.faiss")
    assert not index.ids.flags.aligned and index._aligned_ids.flags.aligned
    assert index._aligned_ids is index._aligned_ids
    np.testing.assert_array_equal(index.places(ids[5:200]), np.arange(5, 200))


def test_an_open_index_outlives_its_file(tmp_path: Path) -> None:
    """Who has an index mapped keeps its codes while it is replaced, and gets the new ones when it opens it again."""
    path, codes = tmp_path / "a.faiss", random_codes(0, 500, 40)
    save(index_of(codes), path)
    index = HammingIndex.load(path)
    save(index_of(random_codes(1, 20, 40)), path)
    assert index.search(codes[7:9], 1)[1].tolist() == [[0], [0]] and len(index) == 500
    assert len(HammingIndex.load(path)) == 20


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says which pages of a file are loaded")
def test_a_large_index_is_searched_in_place(large: Path) -> None:
    """Opening loads few pages of the file, a search loads all, and neither copies them."""

    def loaded() -> int:
        mappings = Path("/proc/self/smaps").read_text().split(f"{large}\n")[1:]
        return sum(1024 * int(re.search(r"^Rss: +(\d+) kB", mapping, re.MULTILINE)[1]) for mapping in mappings)

    warm = index_of(random_codes(0, 99, 3072))
    warm._nearest_compiled(warm.codes(np.arange(1)), 5, None)  # what the compiler takes is not the index's
    tracemalloc.start()
    try:
        index = HammingIndex.load(large)
        at_opening = loaded()
        for n in (1, 20):
            index._nearest_compiled(index.codes(np.arange(n)), 5, None)
        copied = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = index.packed.nbytes
    assert at_opening < size / 10 and copied < size / 10 and loaded() > 0.9 * size
