"""A user's SQL answers questions and can do nothing else."""

import pytest

import atlas
import query
from atlas.errors import SqlError, SqlFailed, SqlRefused, SqlTimeout, UsageError
from query.sql import DEFAULT_LIMIT, schema


def test_questions_are_answered(a):
    found = query.sql(
        a, "select label, count(*) as n from spline_codes where is_on(code, 4) group by all order by all"
    )
    assert found.columns.tolist() == ["label", "n"] and found.attrs["truncated"] is False
    assert query.sql(a, "select $1 + 1 as n", [41])["n"].tolist() == [42]
    for query_text in (
        "from sites",
        "describe codes",
        "summarize sites",
        "explain from codes",
        "with x as (from runs) from x",
    ):
        assert len(query.sql(a, query_text))


def test_rows_are_limited(a):
    found = query.sql(a, "from range(2000)")
    assert len(found) == DEFAULT_LIMIT and found.attrs["truncated"] is True
    assert len(query.sql(a, "from range(2000)", limit=3)) == 3
    assert len(query.sql(a, "from range(2000)", limit=None)) == 2000
    with pytest.raises(UsageError, match="it must be at least 1"):
        query.sql(a, "from sites", limit=0)


def test_time_is_limited(a):
    with pytest.raises(SqlTimeout, match=r"ran longer than 0.2 s"):
        query.sql(
            a, "select count(*) from range(1000000) as x(i), range(1000000) as y(j) where i * j % 7 = 3", timeout=0.2
        )
    assert query.sql(a, "select 1 as one")["one"].tolist() == [1]
    with pytest.raises(SqlTimeout, match=r"ran longer than 0.01 s"):  # within one value the clock is not looked at
        query.sql(a, "select len(range(2000000)) as n", timeout=0.01)


def test_every_column_is_explained(a):
    found = schema(a)
    assert found.columns.tolist() == ["table", "column", "type", "comment"]
    assert {"codes", "spline_codes", "cluster_members"} <= set(found["table"]) and found[
        "comment"
    ].str.len().min() > 5


ATTACKS = [
    "insert into meta values ('a', 'b')",
    "update sites set n_codes = 0",
    "delete from codes",
    "drop table codes",
    "create table mine as select 1",
    "alter table codes add column x integer",
    "with gone as (delete from codes returning *) from gone",
    "explain analyze delete from codes",
    "explain analyze insert into meta values ('a', 'b')",
    "attach 'other.duckdb'",
    "attach ':memory:' as other",
    "detach atlas",
    "copy codes to 'codes.csv'",
    "copy meta from '/etc/passwd'",
    "explain analyze copy codes to 'codes.csv'",
    "export database 'folder'",
    "import database 'folder'",
    "from read_csv('/etc/passwd')",
    "from read_text('/etc/passwd')",
    "from read_blob('/etc/passwd')",
    "from read_parquet('x.parquet')",
    "from read_json('x.json')",
    "from '/etc/passwd'",
    "from 'https://example.org/x.parquet'",
    "from glob('/*')",
    "from sniff_csv('/etc/passwd')",
    "select getenv('HOME')",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset enable_external_access",
    "explain analyze set threads = 1",
    "pragma database_list",
    "pragma enable_external_access = true",
    "call pragma_version()",
    "checkpoint",
    "vacuum",
    "use memory",
    "begin transaction",
    "prepare p as select 1",
    "execute p",
    "from query('drop table codes')",
    "from duckdb_secrets()",
    "select 1; drop table codes",
    "select 1; select 2",
    "",
    "-- nothing",
    "not sql",
    "from a_python_variable",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(a, attack):
    a_python_variable = query.sql(a, "select 'leaked' as secret")
    before = [a.value(f"select count(*) from {table}") for table in ("codes", "meta")]
    with pytest.raises(SqlError):
        query.sql(a, attack)
    assert [a.value(f"select count(*) from {table}") for table in ("codes", "meta")] == before
    assert len(a_python_variable) == 1


def test_what_kind_of_refusal(a):
    with pytest.raises(SqlRefused, match="SQL on an atlas is read-only: DROP is not a query"):
        query.sql(a, "drop table codes")
    with pytest.raises(SqlRefused, match="one query at a time, got 2 statements"):
        query.sql(a, "select 1; select 2")
    with pytest.raises(SqlRefused, match="reads its own tables only, no files or network"):
        query.sql(a, "from read_csv('/etc/passwd')")
    with pytest.raises(SqlFailed, match="no_such_column"):
        query.sql(a, "select no_such_column from sites")


def test_an_atlas_open_for_writing_runs_no_sql_of_a_user(damaged):
    with atlas.open(damaged(), writable=True) as a, pytest.raises(UsageError, match="open it for reading"):
        query.sql(a, "from sites")
