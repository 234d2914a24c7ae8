"""Digests depend on the rows alone, and on every one of their columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas
from atlas.errors import UsageError
from atlas.store import digests
from atlas.store.digests import (
    Digested,
    RowsDigest,
    SiteDigest,
    activations_digest,
    changes,
    codes_digest,
    whole,
)


def test_rows_read_back_have_the_digest(built: Path) -> None:
    with atlas.open(built) as a:
        compared = 0
        for site in (site for site in a.catalog.sites if site.n_codes):
            ids, codes = a.codes([site])
            digest = RowsDigest(ids)
            digest.update(codes.packed)
            assert whole(digest.pieces) == codes_digest(a, site) == (site.n_codes, site.codes_digest)
            if site.n_activations:
                ids, values = a.activations(site)
                digest = RowsDigest(ids)
                digest.update(values)
                assert whole(digest.pieces) == activations_digest(a, site)
                compared += 1
        assert compared


def test_every_table_is_digested(built: Path) -> None:
    """``codes`` and ``activations`` by site."""
    with atlas.open(built) as a:
        tables = {*a.tables()} - {"meta", "digests", "codes", "activations"}
    assert tables == {digested.table for digested in digests.TABLES}


def test_no_block_or_batch_decides(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written with blocks of 8,192 is the same in blocks of 37 and batches of 23."""
    monkeypatch.setattr(digests, "BATCH_ROWS", 23)
    tables = [Digested(table.table, table.owner, table.key, 37) for table in digests.TABLES]
    monkeypatch.setattr(digests, "TABLES", tables)
    with atlas.open(built) as a:
        found = dict(changes(a))
        assert len(found) > 20 and set(found.values()) == {""}
        for site in (site for site in a.catalog.sites if site.name in ("hidden", "blocks.3.mlp", "conv1:full")):
            digest = SiteDigest()
            for block in a.code_blocks(site, 5):
                digest.update(*block)
            assert digest.result() == (site.n_codes, site.codes_digest)


KINDS = [
    (pa.array([1, None, 3], pa.uint32()), pa.array([1, 0, 3], pa.uint32())),
    (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
    (pa.array(["", None]), pa.array([None, ""])),
    (pa.array([b"\0", b""]), pa.array([b"", b"\0"])),
    (pa.array([[1, 2], [3]], pa.list_(pa.float32())), pa.array([[1], [2, 3]], pa.list_(pa.float32()))),
    (pa.array([["ab"], ["c"]]), pa.array([["a"], ["bc"]])),
    (pa.array([0.0, 1.0]), pa.array([-0.0, 1.0])),
    (pa.array([True, False]), pa.array([True, True])),
]


@pytest.mark.parametrize(("column", "other"), KINDS)
def test_a_column_is_told_from_another(column: pa.Array, other: pa.Array) -> None:
    def digest(*pieces: pa.Array) -> str:
        hashed = digests.ColumnDigest()
        for piece in pieces:
            hashed.update(piece)
        return hashed.hexdigest()

    assert digest(column) != digest(other)
    assert digest(column) == digest(column[:1], column[1:1], column[1:])


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    st.lists(st.integers(1, 7), max_size=30),
    st.integers(1, 40),
)
def test_pieces_of_any_length_give_the_whole(ids: list[int], lengths: list[int], piece: int) -> None:
    """However many rows go by at a time, and however many ids a piece has: what is digested by itself is the same."""
    values = np.arange(3 * len(ids), dtype=np.uint8).reshape(-1, 3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(digests, "PIECE_IDS", piece)
        at_once, in_turn = (RowsDigest(np.array(ids, np.uint32)) for _ in range(2))
        at_once.update(values)
        start = 0
        for length in lengths:
            in_turn.update(values[start : start + length])
            start = min(start + length, len(ids))
        in_turn.update(values[start:])
        assert at_once.pieces == in_turn.pieces
        for number, found in at_once.pieces.items():
            of_piece = np.array(ids) // piece == number
            alone = RowsDigest(np.array(ids, np.uint32)[of_piece])
            alone.update(values[of_piece])
            assert alone.pieces == {number: found}


def test_another_value_is_another_digest() -> None:
    def digest(ids: list[int], values: list[int]) -> str:
        rows = RowsDigest(np.array(ids))
        rows.update(np.array(values, np.uint8)[:, None])
        return whole(rows.pieces)[1]

    assert len({digest([1, 2, 9], [5, 6, 7]), digest([1, 3, 9], [5, 6, 7]), digest([1, 2, 9], [5, 6, 8])}) == 3


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="in order of id"):
        RowsDigest(np.array([1, 3, 3]))
    digest = RowsDigest(np.array([1, 2]))
    with pytest.raises(UsageError, match="3 rows were given; 2 are left"):
        digest.update(np.zeros((3, 1), np.uint8))
    with pytest.raises(UsageError, match="2 rows were not given"):
        digest.pieces  # noqa: B018
