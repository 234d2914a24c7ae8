"""What is written is what was asked: read back, every value is the same."""

from __future__ import annotations

import base64
import csv
import io
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import atlas
from app.row_files import as_csv, as_json, write_parquet

LONG = np.linspace(0, 1, 3000, dtype=np.float32)

ROWS = pd.DataFrame(
    {
        "holed": [[1, None, 3], np.ma.masked_array([4, 5], [False, True])],
        "long": [LONG, LONG[::-1]],
        "small": [1e-12, 0.1234567890123456],
        "single": np.array([0.1, 3e-9], dtype=np.float32),
        "huge": [Decimal(2**100), Decimal(3)],
        "exact": [Decimal("12345678901234567890.123456789"), Decimal("0.5")],
        "moment": pd.to_datetime(["2026-01-02 03:04:05.123456", None]).astype("datetime64[us]"),
        "blob": [b"\x00\xff", None],
        "counted": pd.array([2**62 + 1, None], dtype="Int64"),
        "open": [float("inf"), float("-inf")],
        "fields": [{"a": [1, None]}, {"a": None}],
        "gaps": pd.arrays.FloatingArray(np.array([np.nan, 0.0]), np.array([False, True])),
        "plain gaps": [np.nan, 0.5],
        "nested": [[np.nan, None, [np.ma.masked_array([np.nan, 1.0], [False, True])]], {"a": np.nan}],
        "words": ['a "quoted", word\nof two lines', ""],
    }
)


def test_json_keeps_every_value():
    first, second = json.loads(as_json(ROWS))
    assert (first["holed"], second["holed"]) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(first["long"], dtype=np.float32), LONG)
    assert (first["small"], second["small"]) == (1e-12, 0.1234567890123456)
    assert (first["single"], second["single"]) == (0.1, 3e-9)
    assert (first["huge"], second["huge"]) == (str(2**100), 3)
    assert (first["exact"], second["exact"]) == ("12345678901234567890.123456789", 0.5)
    assert (first["moment"], second["moment"]) == ("2026-01-02T03:04:05.123456", None)
    assert (base64.b64decode(first["blob"]), second["blob"]) == (b"\x00\xff", None)
    assert (first["counted"], second["counted"]) == (2**62 + 1, None)
    assert (first["open"], second["open"]) == ("Infinity", "-Infinity")
    assert (first["fields"], second["fields"]) == ({"a": [1, None]}, {"a": None})
    assert (first["gaps"], second["gaps"]) == ("NaN", None)
    assert (first["plain gaps"], second["plain gaps"]) == (None, 0.5)
    assert (first["nested"], second["nested"]) == (["NaN", None, [["NaN", None]]], {"a": "NaN"})
    assert [first["words"], second["words"]] == ROWS["words"].tolist()


def test_csv_keeps_every_value():
    first, second = csv.DictReader(io.StringIO(as_csv(ROWS)))
    assert (json.loads(first["holed"]), json.loads(second["holed"])) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(json.loads(second["long"]), dtype=np.float32), LONG[::-1])
    assert (float(first["small"]), float(second["small"])) == (1e-12, 0.1234567890123456)
    assert (first["huge"], first["exact"]) == (str(2**100), "12345678901234567890.123456789")
    assert (first["moment"], second["moment"]) == ("2026-01-02 03:04:05.123456", "")
    assert (base64.b64decode(first["blob"]), second["blob"]) == (b"\x00\xff", "")
    assert (first["counted"], second["counted"]) == (str(2**62 + 1), "")
    assert float(first["open"]) == float("inf")
    assert (first["gaps"], second["gaps"], first["plain gaps"]) == ("nan", "", "")
    assert (first["nested"], second["nested"]) == ('["NaN", null, [["NaN", null]]]', '{"a": "NaN"}')
    assert first["words"] == ROWS["words"][0]


def test_parquet_keeps_values_and_order(tmp_path: Path):
    rows = ROWS.drop(columns="nested")  # of no one type
    write_parquet(rows, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.column_names == list(rows)
    assert table["gaps"].is_null().to_pylist() == [False, True]
    first, second = table.to_pylist()
    assert (first["holed"], second["holed"]) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(first["long"], dtype=np.float32), LONG)
    assert (first["huge"], first["exact"]) == (2**100, Decimal("12345678901234567890.123456789"))
    assert (first["moment"], second["moment"]) == (datetime(2026, 1, 2, 3, 4, 5, 123456), None)
    assert (first["blob"], second["blob"]) == (b"\x00\xff", None)
    assert (first["counted"], second["counted"]) == (2**62 + 1, None)


def test_no_rows_are_names_alone(tmp_path: Path):
    assert as_csv(ROWS[:0]).count("\n") == 1 and as_json(ROWS[:0]) == "[]\n"
    write_parquet(ROWS[:0], tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").column_names == list(ROWS)


HUGE = 170141183460469231731687303715884105727

TYPES = {
    "[1, null, 3]": [1, None, 3],
    "[[1, null], null, []]": [[1, None], None, []],
    "[1, 2]::integer[2]": [1, 2],
    "range(3328)::float[]": [float(number) for number in range(3328)],
    "1e-12::double": 1e-12,
    "0.1::float": 0.1,
    "['inf'::double, '-inf'::double, 'nan'::double, null]": ["Infinity", "-Infinity", "NaN", None],
    "{'x': 'nan'::double, 'y': null::double, 'z': ['nan'::float, null]}": {"x": "NaN", "y": None, "z": ["NaN", None]},
    "'-inf'::float": "-Infinity",
    f"{HUGE}::hugeint": str(HUGE),
    f"(-{HUGE} - 1)::hugeint": str(-HUGE - 1),
    "340282366920938463463374607431768211455::uhugeint": "340282366920938463463374607431768211455",
    "18446744073709551615::ubigint": 18446744073709551615,
    "9007199254740993": 9007199254740993,
    "12345678901234567890.123456789::decimal(38, 9)": "12345678901234567890.123456789",
    f"{{'h': {HUGE}::hugeint, 'd': [12345678901234567890.5::decimal(38, 1), null]}}": {
        "h": str(HUGE),
        "d": ["12345678901234567890.5", None],
    },
    f"map {{'h': {HUGE}::hugeint, 'n': null}}": {"h": str(HUGE), "n": None},
    "map {1: 'a', 2: null}": {"1": "a", "2": None},
    "timestamp '2026-01-02 03:04:05.123456'": "2026-01-02T03:04:05.123456",
    "timestamp_ns '2026-01-02 03:04:05.123456789'": "2026-01-02T03:04:05.123456789",
    "[timestamp_ns '2026-01-02 03:04:05.123456789', null]": ["2026-01-02 03:04:05.123456789", None],
    "timestamptz '2026-01-02 03:04:05.123456+02'": "2026-01-02T01:04:05.123456+00:00",
    "timestamp '-infinity'": "-infinity",
    "date '2026-01-02'": "2026-01-02",
    "date '0044-03-15 (BC)'": "0044-03-15 (BC)",
    "[date '2026-01-02', 'infinity']": ["2026-01-02", "infinity"],
    "time '03:04:05.123456'": "03:04:05.123456",
    "interval '1 month 2 days 3 seconds'": "1 month 2 days 00:00:03",
    "'\\x00\\xFF'::blob": "AP8=",
    "['\\x00\\xFF'::blob, null]": ["AP8=", None],
    "['101'::bit]": ["101"],
    "uuid '00000000-0000-0000-0000-000000000001'": "00000000-0000-0000-0000-000000000001",
    "'b'::enum('a', 'b')": "b",
    "union_value(num := 2)": "2",
    "true": True,
    "'a,\"b\"'": 'a,"b"',
}
"""What SQL holds, and what JSON must hold of it."""


@pytest.fixture(scope="module")
def of_every_type(built: Path) -> pd.DataFrame:
    columns = ", ".join(f"if(i = 0, ({value}), null) as v" for value in TYPES)
    with atlas.open(built) as a:
        return a.sql(f"select {columns} from range(2) t(i) order by i")


def test_sql_to_json_keeps_every_type(of_every_type: pd.DataFrame):
    """Each beside a null, and though all columns have one name."""
    first, second = json.loads(as_json(of_every_type))
    assert dict(zip(TYPES, first.values(), strict=True)) == TYPES
    assert set(second.values()) == {None}


def test_sql_to_csv_keeps_every_type(of_every_type: pd.DataFrame):
    """As in JSON, lists and structs as JSON."""
    _, first, second = csv.reader(io.StringIO(as_csv(of_every_type)))
    for (value, held), cell in zip(TYPES.items(), first, strict=True):
        shown = json.loads(cell) if isinstance(held, list | dict) else cell.replace(" ", "T")
        expected = held if isinstance(held, list | dict) else str(held).replace(" ", "T")
        assert shown == expected or float(cell) == float(held), value  # type: ignore[arg-type]
    assert set(second) == {""}


def test_sql_to_parquet_keeps_every_type(of_every_type: pd.DataFrame, tmp_path: Path):
    """Read back and written as JSON it is the same: types are kept, or are texts."""
    write_parquet(of_every_type, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert len(set(table.column_names)) == len(TYPES)
    read = pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names})
    first, second = json.loads(as_json(read))
    for (value, held), found in zip(TYPES.items(), first.values(), strict=True):
        found = json.loads(found) if isinstance(held, dict) and isinstance(found, str) else found
        same = found == held or (value == "0.1::float" and np.float32(found) == np.float32(held))
        assert same or str(found).replace(" ", "T") == str(held), value
    assert set(second.values()) == {None}


NESTED = ("[", "{", "map ")
"""How a value begins whose cell is JSON."""


def test_duckdb_reads_back_what_was_asked(of_every_type: pd.DataFrame, tmp_path: Path):
    """Every type, out of CSV: the value that DuckDB's SQL made is the one that it reads, and null is null."""
    file = tmp_path / "rows.csv"
    file.write_text(as_csv(of_every_type.set_axis([f"c{n}" for n in range(len(TYPES))], axis="columns")))
    with duckdb.connect() as connection:
        rows = connection.sql(f"select * from read_csv('{file}', all_varchar = true, allow_quoted_nulls = false)")
        texts, missing = rows.fetchall()
        assert set(missing) == {None}
        for (value, held), text in zip(TYPES.items(), texts, strict=True):
            if value.startswith(NESTED):
                assert json.loads(text) == held
                continue
            back = (
                "from_base64($1)" if "blob" in value else f"cast($1 as {connection.sql(f'select {value}').types[0]})"
            )
            if value.startswith("union"):
                back = "union_value(num := $1::integer)"
            same = f"select {back} is not distinct from {value}"
            assert connection.execute(same, [text]).fetchone() == (True,), (value, text)


def test_an_empty_text_is_not_missing(tmp_path: Path):
    """In CSV quotes around nothing are an empty text, for DuckDB and Arrow; pandas can't tell, as its own file."""
    rows = pd.DataFrame({"n": [1, 2, 3], "text": ["", None, '"'], "more": [None, "", ","]})
    assert as_csv(rows) == 'n,text,more\n1,"",\n2,,""\n3,"""",","\n'
    file = tmp_path / "rows.csv"
    file.write_text(as_csv(rows))
    expected = [(1, "", None), (2, None, ""), (3, '"', ",")]
    with duckdb.connect() as connection:
        assert connection.sql(f"from read_csv('{file}', allow_quoted_nulls = false)").fetchall() == expected
    options = pa_csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    assert [tuple(row.values()) for row in pa_csv.read_csv(file, convert_options=options).to_pylist()] == expected
    assert pd.read_csv(file, keep_default_na=False)["text"].tolist() == ["", "", '"']
    alone = as_csv(pd.DataFrame({"one": [None, "", "x"]}))
    assert len(pd.read_csv(io.StringIO(alone), keep_default_na=False)) == 3 and alone == 'one\n""\n""\nx\n'


def test_pandas_reads_back_numbers_and_texts(tmp_path: Path):
    """To the last digit of a double, however it is written; texts with what divides cells in them."""
    numbers = np.array([0.1, 1e-300, 1.7976931348623157e308, 5e-324, np.inf, -np.inf, 2 / 3])
    texts = ["a,b", 'say "x"', "two\nlines", " spaces ", "\r", "é😀", "=1+1"]
    rows = pd.DataFrame({"numbers": numbers, "texts": texts})
    read = pd.read_csv(
        io.StringIO(as_csv(rows)), float_precision="round_trip", keep_default_na=False, lineterminator="\n"
    )
    assert read["numbers"].tolist() == numbers.tolist() and read["texts"].tolist() == texts


def test_formulas_stay_text_where_asked():
    """An apostrophe before what a spreadsheet would run; numbers are numbers."""
    rows = pd.DataFrame({"=a": ["=cmd|' /C calc'!A0", "@SUM(A1)", "plain"], "n": [-1.5, 2.0, 3.0]})
    assert as_csv(rows, safe=True) == "'=a,n\n'=cmd|' /C calc'!A0,-1.5\n'@SUM(A1),2.0\nplain,3.0\n"
    assert as_csv(rows).startswith("=a,n\n=cmd")
