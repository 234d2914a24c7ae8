"""Packed codes against the bits that they stand for, in NumPy and in DuckDB."""

import inspect
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import atlas
from atlas.codes import SplineCodes, concatenate, hamming
from atlas.errors import UsageError, WidthError
from atlas.store.atlas import Atlas

WIDTHS = st.integers(1, 70)
PARTS = st.lists(st.integers(1, 20), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with atlas.create(tmp_path_factory.mktemp("codes") / "a") as opened:
        yield opened


@st.composite
def gate_matrices(draw: st.DrawFn, widths: st.SearchStrategy[int] = WIDTHS) -> np.ndarray:
    return draw(arrays(np.bool_, (draw(st.integers(0, 9)), draw(widths))))


@st.composite
def codes_in_parts(draw: st.DrawFn) -> tuple[np.ndarray, SplineCodes]:
    """Gates of some codes side by side, and the codes put together from their parts."""
    parts, rows = draw(PARTS), draw(st.integers(1, 6))
    gates = draw(arrays(np.bool_, (rows, sum(parts))))
    edges = np.cumsum([0, *parts])
    return gates, concatenate([SplineCodes.pack(gates[:, low:high]) for low, high in pairwise(edges)])


@given(gate_matrices())
def test_unpack_undoes_pack(gates: np.ndarray) -> None:
    """Unpack undoes pack and padding is zero."""
    codes = SplineCodes.pack(gates)
    assert (codes.unpack() == gates).all() and codes.unpack().shape == gates.shape
    assert codes.n_bytes == -(-gates.shape[1] // 8) and codes.n_bits == gates.shape[1]
    assert not np.unpackbits(codes.packed, axis=1)[:, gates.shape[1] :].any()
    assert (codes.n_active() == gates.sum(axis=1)).all()
    assert codes.gate_counts().tolist() == gates.sum(axis=0).tolist()


@given(gate_matrices())
def test_gate_j_is_where_the_docs_say(gates: np.ndarray) -> None:
    """Gate j is bit seven minus j of byte j over eight."""
    packed = SplineCodes.pack(gates).packed
    for j in range(gates.shape[1]):
        assert ((packed[:, j // 8] >> (7 - j % 8) & 1).astype(bool) == gates[:, j]).all()


@given(codes_in_parts())
def test_parts_unpack_without_padding(made: tuple[np.ndarray, SplineCodes]) -> None:
    """A code of parts unpacks without their padding."""
    gates, codes = made
    assert codes.gate_counts().tolist() == gates.sum(axis=0).tolist()
    assert (codes.unpack() == gates).all() and codes.n_bits == gates.shape[1]
    assert codes.n_bytes == sum(-(-part // 8) for part in codes.parts)
    assert concatenate([codes]).parts == codes.parts


@given(codes_in_parts(), st.randoms())
def test_hamming_counts_gates_not_padding(made: tuple[np.ndarray, SplineCodes], random: object) -> None:
    """Hamming counts the gates that differ and no padding."""
    gates, codes = made
    backwards = codes[::-1]
    assert (hamming(codes, backwards) == (gates != gates[::-1]).sum(axis=1)).all()
    assert (hamming(codes, codes) == 0).all()
    assert (hamming(codes[:1], codes) == (gates[:1] != gates).sum(axis=1)).all()
    assert (hamming(codes, codes[-1:]) == (gates != gates[-1:]).sum(axis=1)).all()


@given(codes_in_parts())
def test_strings_hold_a_character_a_gate(made: tuple[np.ndarray, SplineCodes]) -> None:
    gates, codes = made
    strings = ["".join("1" if gate else "0" for gate in row) for row in gates]
    for row, written in enumerate(strings):
        assert (SplineCodes.from_string(written, codes.parts).packed == codes.packed[row]).all()


@given(gate_matrices(widths=st.integers(1, 40)).filter(len))
def test_duckdb_reads_the_same_bits(a: Atlas, gates: np.ndarray) -> None:
    codes = SplineCodes.pack(gates)
    first, last = codes.packed[0].tobytes(), codes.packed[-1].tobytes()
    query = """
        select [get_bit(cast($1 as bit), j::integer) for j in range($3)], bit_count(cast($1 as bit)),
               bit_count(xor(cast($1 as bit), cast($2 as bit))), bit_length(cast($1 as bit))
    """
    [(bits, active, distance, length)] = a.rows(query, [first, last, codes.n_bits])
    assert bits == gates[0].astype(int).tolist() and active == codes.n_active()[0]
    assert distance == hamming(codes[:1], codes[-1:])[0] and length == 8 * codes.n_bytes


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(WidthError, match=r"2-D boolean array, got int64 of shape \(2, 2\)"):
        inspect.unwrap(SplineCodes.pack.__func__)(SplineCodes, np.ones((2, 2), int))  # type: ignore[attr-defined]
    with pytest.raises(WidthError, match=r"2-D uint8 array, got uint8 of shape \(2,\)"):
        SplineCodes(np.zeros(2, np.uint8), (16,))
    with pytest.raises(WidthError, match=r"13 \+ 3 gates take 3 bytes a row, got 2"):
        SplineCodes(np.zeros((1, 2), np.uint8), (13, 3))
    for parts in ((), (8, 0)):
        with pytest.raises(WidthError, match="at least one gate in every part"):
            SplineCodes(np.zeros((1, 1), np.uint8), parts)
    with pytest.raises(WidthError, match="the code has 3 bits; 4 gates are expected"):
        SplineCodes.from_string("101", (4,))
    with pytest.raises(UsageError, match=r"0 and 1 only, got \['2'\]"):
        SplineCodes.from_string("1012", (4,))
    with pytest.raises(UsageError, match="at least one site"):
        concatenate([])


def test_codes_of_other_shapes_are_refused() -> None:
    """Codes of other widths or other lengths are not compared."""
    a, b = SplineCodes.pack(np.zeros((2, 9), bool)), SplineCodes.pack(np.zeros((3, 9), bool))
    with pytest.raises(WidthError, match="got 2 and 3 rows"):
        hamming(a, b)
    with pytest.raises(WidthError, match=r"of the same examples, got \[2, 3\] rows"):
        concatenate([a, b])
    with pytest.raises(WidthError, match=r"codes of 9 and 10 gates can't be compared"):
        hamming(a, SplineCodes.pack(np.zeros((2, 10), bool)))
    # 16 bits and 16 bytes alike, yet other gates: 9 + 7 against 16.
    mixed = concatenate([a, SplineCodes.pack(np.zeros((2, 7), bool))])
    with pytest.raises(WidthError, match=r"parts \(9, 7\), \(16,\)"):
        hamming(mixed, SplineCodes.pack(np.zeros((2, 16), bool)))
