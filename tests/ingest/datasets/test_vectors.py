"""Vectors out of Parquet, CSV, NumPy arrays and the builtins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits, make_moons

from atlas.errors import BadInput, EmptyDataset
from ingest.datasets.base import BadItem, Item
from ingest.datasets.sources import open_dataset
from ingest.datasets.vectors import picture, vector_item

POINTS = [[0.5, -1.25], [3.0, 4.0], [-2.0, 1e-3]]
LABELS = ["a", "b", None]


def read(path: Path | str, **options: Any) -> list[Item]:
    items = list(open_dataset(str(path), kind="vector", **options).items())
    assert all(isinstance(item, Item) for item in items), items
    return items  # type: ignore[return-value]


def reasons(path: Path) -> list[str | None]:
    items = open_dataset(str(path), kind="vector").items()
    return [item.reason if isinstance(item, BadItem) else None for item in items]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def sources(folder: Path) -> list[Path]:
    """The same points and labels in each way of writing them."""
    x, y = zip(*POINTS, strict=True)
    rows = [f"{x},{y},{label or ''}" for (x, y), label in zip(POINTS, LABELS, strict=True)]
    return [
        parquet(folder / "columns.parquet", x=x, label=LABELS, y=y),
        parquet(folder / "lists.parquet", label=LABELS, id=["1", "2", "3"], vector=POINTS),
        parquet(folder / "fixed.parquet", label=LABELS, v=pa.array(POINTS, pa.list_(pa.float64(), 2))),
        written(folder / "header.csv", "\n".join(["x,y,label", *rows])),
        written(folder / "spaces.tsv", "\n".join(["x\ty\tlabel", "", *(row.replace(",", " \t") for row in rows)])),
    ]


def test_all_formats_give_the_same_points(tmp_path):
    for path in sources(tmp_path):
        items = read(path)
        np.testing.assert_array_equal([item.content for item in items], np.array(POINTS, np.float32), str(path))
        assert [item.label for item in items] == LABELS, path
        assert len({item.content_hash for item in items}) == 3


def test_keys_name_the_row_or_the_line(tmp_path):
    """Rows count from 0, lines from 1; reading part of a file numbers alike."""
    files = sources(tmp_path)
    assert [item.key for item in read(files[0])] == [f"columns.parquet:{row}" for row in range(3)]
    assert [item.key for item in read(files[4])] == [f"spaces.tsv:{line}" for line in (3, 4, 5)]
    dataset = open_dataset(str(files[4]), kind="vector")
    assert [item.key for item in dataset.items(1, 2)] == ["spaces.tsv:4"]


def test_columns_are_chosen_by_their_names(tmp_path):
    path = parquet(tmp_path / "p.parquet", x=[1, 2], name=["n", "m"], y=[3.5, 4.5], kind=["a", "b"], ok=[True, False])
    items = read(path, vector_columns=["y", "x", "ok"], label_column="kind")
    np.testing.assert_array_equal([item.content for item in items], [[3.5, 1, 1], [4.5, 2, 0]])
    assert [item.label for item in items] == ["a", "b"]
    lists = parquet(tmp_path / "l.parquet", u=POINTS, v=[[1], [2], [3]])
    np.testing.assert_array_equal([item.content for item in read(lists, vector_columns=["v"])], [[1], [2], [3]])


def test_csv_without_header_counts_columns(tmp_path):
    """Columns without names are named by their places."""
    path = written(tmp_path / "p.csv", "1,2,cat\n3,4,dog\n")
    items = read(path, label_column="2")
    np.testing.assert_array_equal([item.content for item in items], [[1, 2], [3, 4]])
    assert [item.label for item in items] == ["cat", "dog"]


def test_arrays_keep_the_shape_of_a_row(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    items = read(tmp_path / "a.npy")
    np.testing.assert_array_equal([item.content for item in items], array)
    assert [item.key for item in items] == ["a.npy:0", "a.npy:1"]


def test_a_column_of_arrays_may_be_labels(tmp_path):
    """A class that is written as 1.0, since an array has one type, is called 1."""
    np.save(tmp_path / "a.npy", np.array([[0.5, 1, 2], [0.25, 0, 3]]))
    items = read(tmp_path / "a.npy", label_column="1")
    np.testing.assert_array_equal([item.content for item in items], [[0.5, 2], [0.25, 3]])
    assert [item.label for item in items] == ["1", "0"]


def test_nested_lists_give_vectors_a_shape(tmp_path):
    cells = [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]
    np.testing.assert_array_equal(
        [item.content for item in read(parquet(tmp_path / "p.parquet", pixels=cells))], cells
    )


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([1.0, float("nan")], r"2 numbers, of which number 1 \(from 0\) is missing or NaN"),
        ([None, 2.0], r"number 0 \(from 0\) is missing or NaN"),
        ([1.0, float("inf")], "number 1 .* is inf, which is not finite in single precision"),
        ([1e300], r"is 1e\+300, which is not finite in single precision"),
        ([], "holds no number"),
        (None, "has no numbers"),
        ([[1.0], [2.0, 3.0]], "holds no vector of numbers"),
        (["two"], "holds no vector of numbers: .*two"),
    ],
)
def test_a_broken_vector_says_what_broke(numbers, reason):
    item = vector_item(3, "p:3", "a", numbers)
    assert isinstance(item, BadItem) and re.search(reason, item.reason)


def test_broken_rows_stop_no_other_rows(tmp_path):
    path = written(tmp_path / "p.csv", "x,y\n1,2\n3\n,4\n5,six\n7,8\n")
    found = reasons(path)
    assert found[0] is None and found[4] is None
    assert found[1] == "has 1 field; expected 2"
    assert "number 0 (from 0) is missing or NaN" in str(found[2]) and "six" in str(found[3])


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": [1], "name": ["n"]}, {}, "column 'name' holds text; expected a number a row.*--vector-columns"),
        (
            {"x": [1], "y": [2]},
            {"vector_columns": ["x", "z"]},
            "has no column 'z'; it has: x, y. Name one with --vector",
        ),
        ({"u": [[1]], "v": [[2]]}, {}, r"2 columns of lists of numbers \(u, v\); expected one"),
        (
            {"u": [[1]], "x": [2]},
            {"vector_columns": ["u", "x"]},
            "'u' holds a list of numbers a row; expected a number",
        ),
        ({"label": ["a"]}, {}, "has no column of numbers; its columns: label"),
        ({"x": [1]}, {"label_column": "y"}, "has no column 'y'; it has: x. Name one with --label-column"),
    ],
)
def test_impossible_columns_are_refused(tmp_path, columns, options, message):
    with pytest.raises(BadInput, match=message):
        open_dataset(str(parquet(tmp_path / "p.parquet", **columns)), kind="vector", **options)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", EmptyDataset, "holds no record; expected a row of numbers a line"),
        ("x,y\n", EmptyDataset, "holds no row of numbers below its header"),
        ("x,name\n1,n\n", BadInput, "column 'name' holds 'n'; expected a number a row"),
        ("x;y\n1;2\n", BadInput, "column 'x;y' holds '1;2'; expected a number a row"),
    ],
)
def test_csv_that_is_no_table_of_numbers(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        open_dataset(str(written(tmp_path / "p.csv", text)), kind="vector")


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.arange(3), BadInput, r"int64 of shape \(3,\); expected one array of numbers"),
        (np.array([["a"]]), BadInput, "<U1 of shape"),
        (np.empty((0, 2)), EmptyDataset, r"holds no row; its shape is \(0, 2\)"),
    ],
)
def test_arrays_without_rows_of_numbers(tmp_path, array, error, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(error, match=message):
        open_dataset(str(tmp_path / "a.npy"), kind="vector")


def test_pickled_arrays_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="can't be read as a NumPy array"):
        open_dataset(str(tmp_path / "a.npy"), kind="vector")


def test_builtin_vectors_are_scikit_learns():
    """Digits as 8 x 8 numbers from 0 to 16, and the points of two moons; the parts make up the whole."""
    digits, truth = read("builtin:digits-vectors"), load_digits()
    np.testing.assert_array_equal([item.content for item in digits], truth.images)
    assert [item.label for item in digits] == [str(digit) for digit in truth.target]
    points, moons = make_moons(1000, noise=0.15, random_state=0)
    found = read("builtin:two-moons")
    np.testing.assert_allclose([item.content for item in found], points, rtol=1e-6)
    assert [item.label for item in found] == ["lower" if moon else "upper" for moon in moons]
    parts = [*read("builtin:two-moons-train"), *read("builtin:two-moons-heldout")]
    assert [item.content_hash for item in parts] == [item.content_hash for item in found]


def test_a_picture_is_of_an_images_shape():
    grey = picture(np.array([[-1, 0], [1, 3]], np.float32))
    assert grey is not None and grey.mode == "L"
    np.testing.assert_array_equal(np.asarray(grey), [[0, 64], [128, 255]])
    coloured = picture(np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    assert coloured is not None and coloured.mode == "RGB" and np.asarray(coloured)[1, 1].tolist() == [70, 162, 255]
    assert picture(np.zeros((1, 2, 2), np.float32)) is not None  # all alike: black
    assert picture(np.zeros(4, np.float32)) is None and picture(np.zeros((1, 4), np.float32)) is None
