"""Answers as bytes: read again they are the very same, types and attributes included, and nothing else is built."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlas import SplineCodes, errors, wire
from atlas.errors import PolytopeError, ServerFailed
from atlas.network import GateRange


def frame_of_all() -> pd.DataFrame:
    """A column of every type that an answer has had, and worse."""
    told_apart = pd.arrays.FloatingArray(np.array([np.nan, 1.0, 0.0]), np.array([False, False, True]))
    frame = pd.DataFrame(
        {
            "unsigned": np.array([1, 2, 3], np.uint32),
            "double": [1.5, np.nan, np.inf],
            "text": ["a", None, "é"],
            "blob": pd.Series([b"x", None, b""], dtype=object),
            "lists": pd.Series([[1, 2], None, np.array([1.0, 2.0], np.float32)], dtype=object),
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "truth": pd.array([True, None, False], dtype="boolean"),
            "exact": pd.Series([Decimal("1.0"), Decimal("1e30"), None], dtype=object),
            "moment": pd.to_datetime(["2020-01-01", "2021-01-01 01:02:03.123456", None], format="ISO8601"),
            "zoned": pd.to_datetime(["2020-01-01", "2021-01-01", None], utc=True),
            "plain": pd.Series(["a", None, "b"], dtype=object),
            "mixed": pd.Series([pd.NA, 1, "x"], dtype=object),
            "span": pd.to_timedelta([1, 2, None], unit="s"),
            "kind": pd.Categorical(["a", "b", "a"]),
        }
    )
    frame["told apart"] = told_apart
    frame.attrs = {"none": None, "pair": (1, 2), "deep": {"number": np.int64(3), "nan": float("nan")}}
    return frame


def test_tables_are_read_as_they_were() -> None:
    frame = frame_of_all()
    read = wire.read_frame(wire.frame_bytes(frame))
    pd.testing.assert_frame_equal(read, frame)
    assert read["told apart"].array.to_numpy(float, na_value=7.0).tolist()[1:] == [1.0, 7.0]
    assert repr(read.attrs) == repr(frame.attrs)
    assert [type(value) for value in read["lists"]] == [list, type(None), np.ndarray]
    read.loc[0, "unsigned"] = 9  # it can be written to


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=range(3)),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        frame_of_all()[:0],
        frame_of_all()[1:],
        frame_of_all().set_index("text"),
    ],
)
def test_odd_tables_are_read_as_they_were(frame: pd.DataFrame) -> None:
    """Empty ones, two columns of one name, other indexes."""
    pd.testing.assert_frame_equal(wire.read_frame(wire.frame_bytes(frame)), frame, check_names=False)


def test_long_tables_come_in_pieces() -> None:
    frame = pd.DataFrame({"n": range(25_000)})
    pieces = list(wire.frame_pieces(frame))
    assert len(pieces) == 4 and max(map(len, pieces)) < 100_000
    pd.testing.assert_frame_equal(wire.read_frame(b"".join(pieces)), frame)


VALUES: list[Any] = [
    None,
    True,
    10**30,
    -0.5,
    float("-inf"),
    "é\udcff",
    b"\x00\xff",
    (1, (2, [3])),
    {"a": 1, "$b": {2: "c"}},
    Decimal("1.10"),
    Path("a/b"),
    pd.Timestamp("2020-01-02 03:04:05.000000001"),
    datetime(2020, 1, 2, 3, 4, 5, 6),
    date(2020, 1, 2),
    time(3, 4, 5),
    timedelta(days=1, microseconds=5),
    np.float32(0.1),
    GateRange("fc", 0, 3),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_read_as_they_were(value: Any) -> None:
    read = wire.read_answer(wire.answer_bytes(value))
    assert read == value and type(read) is type(value)


def test_arrays_and_records_are_rebuilt() -> None:
    codes = SplineCodes(np.array([[3, 128]], np.uint8), (8, 1))
    read = wire.read_answer(wire.answer_bytes({"codes": codes, "none": np.empty((0, 3), np.float32)}))
    np.testing.assert_array_equal(read["codes"].packed, codes.packed, strict=True)
    assert read["codes"].parts == (8, 1) and read["none"].shape == (0, 3) and read["none"].dtype == np.float32
    with pytest.raises(TypeError, match="no answer holds a set"):
        wire.answer_bytes({1, 2})


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"$record": ["os", "system", {"command": "true"}]}, "which is none of atlas, query"),
        ({"$record": ["atlas.store.opening", "make", {"path": "x"}]}, "make is no record"),
        ({"$record": ["atlas.codes", "gone", {}]}, "atlas.codes.gone, which this version does not have"),
        ({"$record": ["atlas.gone", "Codes", {}]}, "atlas.gone.Codes, which this version does not have"),
        ({"$record": ["atlas.codes", "__class__", {}]}, "is no record"),
        ({"$pickle": "x"}, r"holds \$pickle, which this version does not know"),
    ],
)
def test_nothing_but_data_is_built(sent: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wire.read_answer(json.dumps(sent).encode())


def test_every_error_has_a_type_of_its_own() -> None:
    """And is raised again from it, with its sentence."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PolytopeError)]
    types = {wire.type_of(kind) for kind in kinds}
    assert len(types) == len(kinds) and "urn:polytope-atlas:unknown-name" in types
    for kind in kinds:
        problem = json.dumps({"type": wire.type_of(kind), "detail": "a sentence"}).encode()
        error = wire.error_of(422, wire.PROBLEM, problem, "http://x")
        assert type(error) is kind and str(error) == "a sentence"
    for form, data in ((wire.PROBLEM, b"[]"), (wire.PROBLEM, b"{"), ("text/html", b"<html>")):
        assert isinstance(wire.error_of(502, form, data, "http://x"), ServerFailed)
