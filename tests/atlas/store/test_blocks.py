"""The digest of rows on their way against the one of rows read back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas
from atlas.errors import UsageError
from atlas.store.blocks import BLOCK_ROWS, RowsDigest, activation_block_rows, activations_digest, codes_digest
from tests.builder import build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("digest") / "three.atlas")


def test_the_digest_is_that_of_the_rows_that_are_read_back(built: Path) -> None:
    with atlas.open(built) as a:
        compared = 0
        for site in (site for site in a.catalog.sites if site.n_codes):
            ids, codes = a.codes([site])
            digest = RowsDigest(ids, BLOCK_ROWS)
            digest.update(codes.packed)
            assert digest.result() == codes_digest(a, site) == (site.n_codes, site.codes_digest)
            if site.n_activations:
                ids, values = a.activations(site)
                digest = RowsDigest(ids, activation_block_rows(site.n_parts))
                digest.update(values)
                assert digest.result() == activations_digest(a, site)
                compared += 1
        assert compared


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted),
    st.integers(1, 20),
    st.lists(st.integers(1, 7), max_size=30),
)
def test_pieces_of_any_length_give_the_digest_of_the_whole(ids: list[int], block: int, lengths: list[int]) -> None:
    values = np.arange(3 * len(ids), dtype=np.uint8).reshape(-1, 3)
    whole, pieces = (RowsDigest(np.array(ids, np.uint32), block) for _ in range(2))
    whole.update(values)
    start = 0
    for length in lengths:
        pieces.update(values[start : start + length])
        start = min(start + length, len(ids))
    pieces.update(values[start:])
    assert whole.result() == pieces.result()


def test_another_id_or_value_changes_the_digest() -> None:
    def digest(ids: list[int], values: list[int]) -> str:
        rows = RowsDigest(np.array(ids), 4)
        rows.update(np.array(values, np.uint8)[:, None])
        return rows.result()[1]

    assert len({digest([1, 2, 9], [5, 6, 7]), digest([1, 3, 9], [5, 6, 7]), digest([1, 2, 9], [5, 6, 8])}) == 3


def test_rows_out_of_order_too_many_or_too_few_are_refused() -> None:
    with pytest.raises(UsageError, match="in order of id"):
        RowsDigest(np.array([1, 3, 3]), 8)
    digest = RowsDigest(np.array([1, 2]), 8)
    with pytest.raises(UsageError, match="3 rows were given; there are 2 ids"):
        digest.update(np.zeros((3, 1), np.uint8))
    with pytest.raises(UsageError, match="0 of 2 rows were given"):
        digest.result()
