"""What every command that answers with rows can do, and how commands are made."""

import csv
import io
import json
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from app import sandbox
from app.cli.commands import cli
from app.cli.options import Answer, Target, question
from atlas.store.atlas import Atlas
from tests.app.cli.command import Run

LISTS = (
    "neighbors ATLAS",
    "layout ATLAS",
    "experiment list ATLAS",
    "clusterings ATLAS",
    "names ATLAS",
    "info ATLAS --table sites",
)
"""Commands that list something."""


@pytest.mark.parametrize("words", LISTS)
def test_whatever_lists_rows_writes_them(words: str, small: Path, polytope: Run, tmp_path: Path):
    """As CSV, JSON and Parquet, of the same columns."""
    given = [small if word == "ATLAS" else word for word in words.split()]
    for style in ("csv", "json", "parquet"):
        assert polytope(*given, "--format", style, "--output", tmp_path / f"rows.{style}").status == 0
    names, *rows = csv.reader(io.StringIO((tmp_path / "rows.csv").read_text()))
    assert pq.read_table(tmp_path / "rows.parquet").column_names == names
    listed = json.loads((tmp_path / "rows.json").read_text())
    assert len(listed) == len(rows) and all(list(row) == names for row in listed)


def test_info_writes_one_of_its_tables(small: Path, polytope: Run):
    assert {row["name"] for row in polytope("info", small, "--table", "networks", "--format", "json").rows()}
    assert polytope("info", small, "--table", "moons").refuses("the tables are networks, sites")
    assert polytope("info", small, "--format", "json").refuses("--table")


def test_an_unwritable_file_is_named(small: Path, polytope: Run, tmp_path: Path):
    file = tmp_path / "nowhere" / "rows.csv"
    answer = polytope("clusterings", small, "--format", "csv", "--output", file)
    assert answer.refuses(f"--output is {file}")


def test_the_version_is_printed(polytope: Run):
    assert polytope("--version").out.startswith("polytope-atlas ")


def test_export_needs_its_file(small: Path, polytope: Run):
    [option] = [p for p in get_command(cli).commands["export"].params if p.name == "embedding_atlas"]  # type: ignore[attr-defined]
    answer = polytope("export", small)
    assert option.required and answer.status == 2 and "--embedding-atlas" in answer.err


def test_a_question_is_a_short_command(small: Path):
    """Its groups are options, and it takes ATLAS, --format and --output besides."""
    commands = typer.Typer()

    @commands.command()
    @question
    def bits(a: Atlas, target: Target, times: int = 1) -> Answer:
        return Answer(a.sql(f"select {times} * n_gates as bits from sites where name = '{target.site}'"))

    result = CliRunner().invoke(commands, [str(small), "--site", "blocks.3.mlp", "--times", "2", "--format", "json"])
    assert list(json.loads(result.output)[0]) == ["bits"]


EXACT = """
select [1, null, 3] as holed, range(3328)::float[] as long, 1e-12::double as small, 0.1234567890123456 as double,
    170141183460469231731687303715884105727::hugeint as huge, 12345678901234567890.123456789::decimal(38, 9) as exact,
    timestamp '2026-01-02 03:04:05.123456' as moment, '\\x00\\xFF'::blob as blob, sum(1) as total,
    null::hugeint as none, [12345678901234567890.123456789::decimal(38, 9), null] as exacts,
    [[170141183460469231731687303715884105727::hugeint], []] as huges
"""


def test_sql_keeps_what_the_database_holds(small: Path, polytope: Run, tmp_path: Path):
    """In each of the four formats; a terminal cuts a long list, and says so with an ellipsis."""
    asked = ("sql", small, EXACT, "--format")
    polytope(*asked, "parquet", "--output", tmp_path / "rows.parquet")
    [row], [plain] = pq.read_table(tmp_path / "rows.parquet").to_pylist(), polytope(*asked, "json").rows()
    for held in (row, plain):
        assert (held["holed"], held["long"]) == ([1, None, 3], list(range(3328)))
        assert (held["small"], held["double"]) == (1e-12, 0.1234567890123456)
        assert (int(held["huge"]), held["total"], held["none"]) == (2**127 - 1, 1, None)
        assert str(held["exact"]) == "12345678901234567890.123456789"
        assert [str(item) for item in held["exacts"]] == ["12345678901234567890.123456789", "None"]
        assert [[int(item) for item in items] for items in held["huges"]] == [[2**127 - 1], []]
    assert (row["moment"], plain["moment"]) == (datetime(2026, 1, 2, 3, 4, 5, 123456), "2026-01-02T03:04:05.123456")
    assert (row["blob"], plain["blob"]) == (b"\x00\xff", "AP8=")
    [written] = csv.DictReader(io.StringIO(polytope(*asked, "csv").out))
    assert (written["huge"], written["exact"]) == (str(2**127 - 1), "12345678901234567890.123456789")
    assert json.loads(written["exacts"]) == ["12345678901234567890.123456789", None]
    assert len(json.loads(written["long"])) == 3328 and written["blob"] == "AP8="
    shown = polytope(*asked, "table").out
    assert (
        str(2**127 - 1) in shown
        and "[1, –, 3]" in shown
        and "…" in shown
        and "12345678901234567890.123456789" in shown
    )


def test_a_command_asks_in_another_process(small: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch):
    """So one value that takes minutes ends with its time, however short that is."""
    monkeypatch.setattr(sandbox, "GRACE", 0.1)
    deaf = "select len(list_transform(range(20000000), lambda i: hash(i)::varchar)) as n"
    assert polytope("sql", small, deaf, "--timeout", "0.001").refuses("ran longer than 0.001 s")


def test_sql_tells_missing_from_nan(small: Path, polytope: Run, tmp_path: Path):
    """Of doubles, of single precision, and in lists; where there is no NaN, what is missing is missing as ever."""
    numbers = "select * from (values (1, 'nan'::double), (2, null), (3, 0.5)) t(i, x)"
    query = f"select x, x::float as y, [x] as listed, if(i < 3, null, x) as missing from ({numbers}) order by i"
    asked = ("sql", small, query, "--format")
    first, second, third = polytope(*asked, "json").rows()
    assert first == {"x": "NaN", "y": "NaN", "listed": ["NaN"], "missing": None}
    assert second == {"x": None, "y": None, "listed": [None], "missing": None}
    assert third == {"x": 0.5, "y": 0.5, "listed": [0.5], "missing": 0.5}
    assert polytope(*asked, "csv").out.splitlines()[1:] == ['nan,nan,"[""NaN""]",', ",,[null],", "0.5,0.5,[0.5],0.5"]
    polytope(*asked, "parquet", "--output", tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert repr([row["x"] for row in rows]) == "[nan, None, 0.5]" and rows[0]["missing"] is None
    lines = [line.split()[:2] for line in polytope(*asked, "table").out.splitlines()]
    assert [words for words in lines if words][-3:] == [["nan", "nan"], ["–", "–"], ["0.5", "0.5"]]
