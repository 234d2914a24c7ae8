"""The schema: in one file, every column explained, nothing defined anywhere else."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas.store.atlas import Atlas

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "schema.sql"
DDL = re.compile(
    r"\b(create|alter|drop)\s+(or\s+replace\s+)?(temp\s+|temporary\s+)?(table|view|macro|index|type|schema)\b"
)
STAGING = re.compile(r"create temp table staged_\w+|drop table (staged_\w+|\{table\})")


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with atlas.create(tmp_path_factory.mktemp("schema") / "a") as opened:
        yield opened


def test_the_package_carries_the_schema() -> None:
    """The package carries the schema of the root."""
    assert (ROOT / "atlas" / "schema.sql").read_text(encoding="utf-8") == SCHEMA.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["tables", "views"])
def test_every_table_is_explained(kind: str, a: Atlas) -> None:
    """Every table and every view is explained."""
    name = kind.removesuffix("s")
    found = a.rows(f"select {name}_name, comment from duckdb_{kind}() where not internal")
    assert len(found) >= 3 and [name for name, comment in found if not comment] == []


def test_every_column_is_explained(a: Atlas) -> None:
    """Every column of every table and view is explained."""
    columns = a.rows(
        "select table_name, column_name, comment from duckdb_columns() "
        "where not internal and table_name != 'documentation'"
    )
    assert len(columns) > 100
    assert [(table, column) for table, column, comment in columns if not comment or comment[-1] not in ".)"] == []


def test_documentation_lists_every_column(a: Atlas) -> None:
    """The documentation lists every column."""
    listed = a.rows('select "table", "column" from documentation')
    tables = a.rows(
        "select table_name from duckdb_tables() union select view_name from duckdb_views() where not internal"
    )
    assert {table for table, _ in listed} == {table for (table,) in tables} - {"documentation"}


def test_macros_do_what_they_say(a: Atlas) -> None:
    [row] = a.rows(
        "select hamming('1100'::bit, '1010'::bit), "
        "is_on('0100'::bit, 1), is_on('0100'::bit, 0), is_on('01'::bit, 9), is_on('01'::bit, 1::bigint), "
        "is_on('01'::bit, -1), is_on('01'::bit, 10_000_000_000), "
        "polytope_density('1100'::bit, '1010'::bit, [0.0, 3.0], [4.0, 0.0]), "
        "polytope_density('11'::bit, '00'::bit, [1.0], [1.0])"
    )
    assert row == (2, True, False, None, True, None, None, 2 / 5, None)


def test_definitions_stand_in_the_schema() -> None:
    """Definitions stand in the schema alone but for the staging of a run."""
    found = {}
    for package in ("atlas", "ingest", "query", "app"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if file.relative_to(ROOT).as_posix() in ("ingest/run/publish.py", "ingest/run/labels.py"):
                text = STAGING.sub("", text)
            if statements := [match.group() for match in DDL.finditer(text)]:
                found[file.name] = statements
    assert found == {}
