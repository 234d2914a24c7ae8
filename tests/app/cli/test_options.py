"""What every command that answers with rows can do, and how commands are made."""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from app.cli.main import cli
from app.cli.options import Answer, Target, question
from atlas.store.atlas import Atlas

LISTS = ("neighbors", "layout", "experiment list", "clusterings", "names", "info --table sites")
"""Commands that list something, and take nothing but an atlas."""


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "three.atlas"))


def polytope(*words: object, status: int = 0) -> str:
    """Both outputs of a command in this process, which ends with such a status."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output if result.exception is None or status == 2 else str(result.exception)


@pytest.mark.parametrize("words", LISTS)
def test_whatever_lists_rows_writes_them(words: str, path: Path, tmp_path: Path):
    """As CSV, JSON and Parquet, of the same columns."""
    command, *option = words.split(" --")
    given = (*command.split(), path, *(word for text in option for word in f"--{text}".split()))
    polytope(*given, "--format", "csv", "--output", tmp_path / "rows.csv")
    polytope(*given, "--format", "json", "--output", tmp_path / "rows.json")
    polytope(*given, "--format", "parquet", "--output", tmp_path / "rows.parquet")
    names, *rows = csv.reader(io.StringIO((tmp_path / "rows.csv").read_text()))
    assert pq.read_table(tmp_path / "rows.parquet").column_names == names
    listed = json.loads((tmp_path / "rows.json").read_text())
    assert len(listed) == len(rows) and all(list(row) == names for row in listed)


def test_info_writes_one_of_its_tables(path: Path):
    assert {row["name"] for row in json.loads(polytope("info", path, "--table", "networks", "--format", "json"))}
    assert "the tables are networks, sites" in polytope("info", path, "--table", "moons", status=1)
    assert "--table" in polytope("info", path, "--format", "json", status=1)


def test_a_file_that_cannot_be_written_is_named(path: Path, tmp_path: Path):
    file = tmp_path / "nowhere" / "rows.csv"
    assert f"--output is {file}" in polytope("clusterings", path, "--format", "csv", "--output", file, status=1)


def test_the_version_is_printed():
    assert polytope("--version").startswith("polytope-atlas ")


def test_export_needs_its_file(path: Path):
    [option] = [p for p in get_command(cli).commands["export"].params if p.name == "embedding_atlas"]  # type: ignore[attr-defined]
    assert option.required
    assert "--embedding-atlas" in polytope("export", path, status=2)


def test_a_question_is_a_command_of_few_lines(path: Path):
    """Its groups are options, and it takes ATLAS, --format and --output besides."""
    commands = typer.Typer()

    @commands.command()
    @question
    def bits(a: Atlas, target: Target, times: int = 1) -> Answer:
        return Answer(a.sql(f"select {times} * n_gates as bits from sites where name = '{target.site}'"))

    result = CliRunner().invoke(commands, [str(path), "--site", "blocks.3.mlp", "--times", "2", "--format", "json"])
    assert list(json.loads(result.output)[0]) == ["bits"]


EXACT = """
select [1, null, 3] as holed, range(3328)::float[] as long, 1e-12::double as small, 0.1234567890123456 as double,
    170141183460469231731687303715884105727::hugeint as huge, 12345678901234567890.123456789::decimal(38, 9) as exact,
    timestamp '2026-01-02 03:04:05.123456' as moment, '\\x00\\xFF'::blob as blob, sum(1) as total,
    null::hugeint as none
"""


def test_sql_keeps_what_the_database_holds(path: Path, tmp_path: Path):
    """In each of the four formats; a terminal cuts a long list, and says so with an ellipsis."""
    file = tmp_path / "rows.parquet"
    polytope("sql", path, EXACT, "--format", "parquet", "--output", file)
    [row], [plain] = pq.read_table(file).to_pylist(), json.loads(polytope("sql", path, EXACT, "--format", "json"))
    for found in (row, plain):
        assert (found["holed"], found["long"]) == ([1, None, 3], list(range(3328)))
        assert (found["small"], found["double"]) == (1e-12, 0.1234567890123456)
        assert (int(found["huge"]), found["total"], found["none"]) == (2**127 - 1, 1, None)
        assert str(found["exact"]) == "12345678901234567890.123456789"
    assert (row["moment"], plain["moment"]) == (datetime(2026, 1, 2, 3, 4, 5, 123456), "2026-01-02T03:04:05.123456")
    assert (row["blob"], plain["blob"]) == (b"\x00\xff", "AP8=")
    [written] = csv.DictReader(io.StringIO(polytope("sql", path, EXACT, "--format", "csv")))
    assert (written["huge"], written["exact"]) == (str(2**127 - 1), "12345678901234567890.123456789")
    assert len(json.loads(written["long"])) == 3328 and written["blob"] == "AP8="
    shown = polytope("sql", path, EXACT)
    assert str(2**127 - 1) in shown and "[1, –, 3]" in shown and "12345678901234567890.123456789" in shown
