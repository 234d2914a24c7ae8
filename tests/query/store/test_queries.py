"""A user's SQL answers questions and can do nothing else."""

import pytest

import atlas
import query
from atlas.errors import SqlError, SqlFailed, SqlRefused, SqlTimeout, UsageError
from query.store.queries import DEFAULT_LIMIT, schema


@pytest.fixture(scope="module")
def a(either):
    with atlas.open(either) as opened:
        yield opened


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
    with pytest.raises(UsageError, match="row_limit is 0; expected a whole number of at least 1"):
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
    "from 'https://example.org/x.parquet'",
    "from glob('/*')",
    "from sniff_csv('/etc/passwd')",
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
    "with x as (delete from meta returning *) select 1",
    "explain analyze with x as (copy meta to 'codes.csv') from x",
    "select 1; drop table codes",
    "from query('drop table codes')",
    "select 1; select 2",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(a, attack):
    before = [a.value(f"select count(*) from {table}") for table in ("codes", "meta")]
    with pytest.raises(SqlRefused, match=r"read-only|own tables|one query at a time"):
        query.sql(a, attack)
    assert [a.value(f"select count(*) from {table}") for table in ("codes", "meta")] == before


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("from '/etc/passwd'", "no table /etc/passwd"),
        ("select getenv('HOME')", "Function with name getenv does not exist"),
        ("from repeat((select size from read_blob('x')), 1)", "Table function cannot contain subqueries"),
        ("not sql", "a query begins with select"),
        ("from python_variable", "no table python_variable"),
    ],
)
def test_attacks_on_what_is_not_there(a, attack, message):
    python_variable = query.sql(a, "select 'leaked' as secret")
    with pytest.raises(SqlFailed, match=message):
        query.sql(a, attack)
    assert len(python_variable) == 1


def test_what_kind_of_refusal(a):
    with pytest.raises(SqlRefused, match="SQL on an atlas is read-only: DROP is not a query"):
        query.sql(a, "drop table codes")
    with pytest.raises(SqlRefused, match="one query at a time, got 2 statements"):
        query.sql(a, "select 1; select 2")
    with pytest.raises(SqlRefused, match="reads its own tables only, no files or network"):
        query.sql(a, "from read_csv('/etc/passwd')")
    with pytest.raises(SqlFailed, match="no_such_column"):
        query.sql(a, "select no_such_column from sites")
    with pytest.raises(SqlRefused, match="read-only: INSTALL is not a query"):  # to DuckDB it is a LOAD
        query.sql(a, "-- é\n/* and */ install httpfs")
    with pytest.raises(SqlRefused, match="no files or network: it would open a file"):
        query.sql(a, "explain analyze copy codes to 'codes.csv'")
    with pytest.raises(SqlRefused, match=r'SQL on an atlas is read-only: .*(type "EXPLAIN"|base table)'):
        query.sql(a, "explain analyze delete from codes")
    with pytest.raises(SqlRefused, match=r"takes two; list them, as in `on label in"):
        query.sql(a, "pivot examples on label using count(*)")
    assert len(query.sql(a, "pivot examples on label in ('metal', 'fruit') using count(*) group by network_id"))


# {} stands for the database's own file, which is open all the time.
OWN_FILE = [
    "from read_blob('{}')",
    "from READ_BLOB('{}')",
    "from \"Read_Blob\" /* é */ ('{}')",
    "select 'é', (select size from read_blob -- (\n('{}'))",
    "from read_blob\u00a0('{}')",
    "from read_blob\ufeff('{}')",
    "from system.main.read_blob('{}')",
    "from y: read_blob('{}')",
    "from range(1) as x(i), lateral (from read_blob('{}'))",
    "with x as (from read_blob('{}')) from x",
    "select 1 where exists (from glob('{}'))",
    "from histogram('{}', 'x')",
    'with "{}" as (from "{}") from "{}"',
    "select 1 as range, r.* from read_text('{}') r",
    "describe from read_blob('{}')",
    "summarize from read_blob('{}')",
    "explain analyze from read_blob('{}')",
    "explain /* from meta */ analyze -- from meta\n select 'é', (select size from read_blob('{}'))",
    "explain\u00a0from read_blob('{}')",
    "pivot (from read_blob('{}')) on size in (1) using count(*)",
    "from read_duckdb('{}', table_name = 'meta')",
    "from '{}'",
    'from range(1), "{}"',
    "from range(1) join '{}' on true",
    "table '{}'",
    "describe '{}'",
    "summarize '{}'",
    "explain from '{}'",
]


@pytest.mark.parametrize("attack", OWN_FILE)
def test_the_atlas_file_is_no_table(a, attack):
    with pytest.raises(SqlRefused, match=r"it would open a file|own tables only: (query|json)\w* is not among them"):
        query.sql(a, attack.replace("{}", str((a.path / "atlas.duckdb").resolve())))


@pytest.mark.parametrize(
    "attack",
    [
        "with x as (copy meta to '{}') from x",
        "with x as materialized (copy (from meta) to '{}' (format csv)) select 1",
        "select (with x as (copy meta to '{}') select count(*) from x)",
        "explain analyze with x as (copy meta to '{}') from x",
        "explain analyze -- select 1 as \"\n copy meta to '{}' -- \"",
    ],
)
def test_nothing_is_written_beside(damaged, attack):
    """A journal there would be taken for changes by the next reader."""
    path = damaged()
    before = sorted(file.name for file in path.iterdir())
    with atlas.open(path) as a:
        for file in ("atlas.duckdb.wal", "atlas.duckdb.wal.checkpoint", "atlas.duckdb.tmp/x.csv"):
            with pytest.raises(SqlError, match=r"it would open a file|COPY statement must be at the top level"):
                query.sql(a, attack.format((path / file).resolve()))
    assert sorted(file.name for file in path.iterdir()) == before


def test_no_function_tells_of_the_file(a):
    """Whatever table function of DuckDB's a query calls with the path of the atlas, a later one's too."""
    own = (a.path / "atlas.duckdb").resolve()
    answered = set()
    known = "select distinct function_name from duckdb_functions() where function_type = 'table' order by 1"
    for (name,) in a.rows(known):
        try:
            if len(query.sql(a, f"from {name}('{own}')")):
                answered.add(name)
        except (SqlRefused, SqlFailed):
            pass
    assert answered == {"test_vector_types"}  # types of its own
    plan = a.value("select json_serialize_plan($1)", [f"from read_blob('{own}')"])
    assert "has been disabled" in plan


@pytest.mark.parametrize(
    "query_text",
    [
        "select 1 as read_blob, 'from read_blob(1)' as glob -- read_blob(1)",
        "select read_blob from range(3) as read_blob(read_blob)",
        "from range(3) as query(i)",
        "with query(i) as (select 1) from query",
        "select 'river' glob ('r*') as g from range(2)",
        'with "a/b.duckdb" as (select 1) from "a/b.duckdb"',
        'select \'/a/b.duckdb\' as path, "x/y" from (select 1 as "x/y")',
        "explain analyze from range(3) as read_blob(i)",
        "-- é\nexplain (format json) (from sites)",
        "explain describe sites",
        "select unnest(range(3)), i from generate_series(3) as t(i)",
        "from json_each('[1, 2]')",
        "from duckdb_tables()",
        "from histogram('sites', 'n_codes')",
        "show tables",
        "select " + " + ".join(["1"] * 500),
    ],
)
def test_what_looks_like_a_file_is_answered(a, query_text):
    assert len(query.sql(a, query_text))


MESSAGES = [
    ("select 1 +\n  los los los", r'^Parser Error: syntax error at or near "los" \(line 2, column 11\)$'),
    ("select 'é', 1 +", r'^Parser Error: syntax error at or near "\+" \(line 1, column 15\)$'),
    ("select " + "1, " * 200 + "2 3", r'^Parser Error: syntax error at or near "3" \(line 1\)$'),
    ("select strftime(1)", r"^Binder Error: [^\n]* Candidate functions: strftime[^;\n]*(; strftime[^;\n]*){2}; …$"),
    ("select error(repeat('word ', 1000))", r"^Invalid Input Error: word [word ]{300,400} …$"),
]


MISTAKES = [
    ("select xor('01'::bit, '011'::bit)", "codes of two sites are compared, .* `a.site_id = b.site_id` of codes$"),
    ("select label, loss from examples group by label", "^column loss is neither grouped by nor aggregated; add "),
    ("select label from examples where count(*) > 1 group by label", "as `having count.* > 1`$"),
    ("select loss from examples where row_number() over () < 3", "write the condition as `qualify` in its place$"),
    ('select * from examples where label = "a"', "double quotes name a column: if a text is meant, write 'a'$"),
    ("select * from examples where label = “a”", "“a” stands in curly quotes; .* straight single ones: 'a'$"),
    ("select los from examples", '^no column los in these tables; perhaps "loss", '),
    ("select e.los from examples e", "^e has no column los; `describe` and the table's name list those that it has"),
    ("select label where loss > 1", "^column (label|loss) is of no table; add a from"),
    ("select e.label from examples", '^no table or alias e stands in from; there is "examples"$'),
    ("from exampels", '^no table exampels; perhaps "examples"; `show tables` lists all$'),
    ("select name from networks join sites using (network_id)", "^several tables have a column name; say of which: "),
    ("select label::int from examples", "^the text '\\w+' is no number; compare texts with texts, or take `try_cast"),
    (
        "select avg(is_on(code, 3)) from spline_codes",
        "^avg takes numbers, and this is true or false; write `avg.…::int",
    ),
    ("select avg(label) from examples", "^avg takes numbers, and this is a text; `try_cast"),
    ("select count(distinct label, token) from examples", "`count.distinct .label, token..`$"),
    ("select is_on(code) from spline_codes", r"^is_on takes other arguments: is_on\(code, gate\)$"),
    ("select 1 from activations where activation > 1", "its elements count from 1: `activation.1. > 0`$"),
    ("select get_bit(code, 5000) from codes", r"^gate 5000 is none of this code, whose gates are 0 to \d+; `is_on"),
    ("select 1 from examples where loss = (select loss from examples)", "many rows where one value is expected; "),
    ("select 'it's' as a", r"^a text is not closed; a quote inside a text is written twice: 'it''s' \(line 1"),
    ("from examples limit 5 where loss > 1", r"^where stands too late; .* order by, limit \(line 1, column 23\)$"),
    ("select top 5 * from examples", "^DuckDB has no top; write `limit` and the number at the end"),
    ("from examples where loss > 1 and limit 5", "^a condition is missing before limit"),
    ("selct * from examples", "^a query begins with select, .* and not with selct"),
    ("select * form examples", "^from is missing or misspelt before examples"),
    ("from codes where site = blocks.2.mlp", "is a text, and stands in quotes: site = 'blocks.2.mlp'"),
    ("from examples where label in ('a' 'b')", "^before 'b' something is missing: a comma between two texts"),
]


@pytest.mark.parametrize(("query_text", "message"), MISTAKES)
def test_a_common_mistake_has_a_sentence(a, query_text, message):
    """The sentence says what to write instead."""
    with pytest.raises(SqlFailed, match=message):
        query.sql(a, query_text)


@pytest.mark.parametrize(("query_text", "message"), MESSAGES)
def test_a_failure_is_a_short_paragraph(a, query_text, message):
    with pytest.raises(SqlFailed, match=message):
        query.sql(a, query_text)


def test_a_writer_runs_no_sql_of_a_user(damaged):
    with atlas.open(damaged(), writable=True) as a, pytest.raises(UsageError, match="open it for reading"):
        query.sql(a, "from sites")
