"""What would it cost to keep codes and examples in immutable Parquet segments rather than in tables of the database?

    python -m bench.segments [--size small|full]

The same rows in several forms: an atlas as it is; a catalog, which is a DuckDB file of its small tables with views
`codes` and `examples` over 1 or 8 segments; and one that holds the examples itself. Asked in turns: opening, the ten
rows that a search shows, four questions in SQL, all codes of a site in order (what an index is made of). Then the
time to add a tenth, without digests, and the bytes. A question of `query.nearest` goes to index files, which are the
same in all: only the ten rows differ.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

import atlas
import query
from bench.atlases import SITE, generated_atlas
from bench.data import clustered_codes
from bench.nearest import SQL
from bench.report import in_turns, ratio, show

N_BITS = 3072
SIZES = {"small": (10_000, 2, 5), "full": (100_000, 4, 7)}
"""Examples, sites, rounds."""

ROW_GROUP = {"codes": 4096, "examples": 8192}
SMALL = ("networks", "sites", "spans", "datasets", "runs", "inputs", "dataset_inputs")
"""Tables that a catalog holds itself."""

VIEWS = {
    "codes": "select site_id, example_id, cast(code as bit) as code, n_active, code_hash from read_parquet({files})",
    "examples": "select * from read_parquet({files})",
}

QUESTIONS = {
    "gate by label": """
        select label, avg(is_on(code, 42)::int) from codes join examples using (example_id)
        where site_id = 1 group by label""",
    "gates on": "select avg(n_active), max(n_active) from codes where site_id = 1",
    "distinct": "select count(distinct code) from codes where site_id = 1",
    "Hamming": SQL.replace("$1", "17"),
    "site in order": "select example_id, cast(code as blob) as code from codes where site_id = 1 order by example_id",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    n, sites, rounds = SIZES[parser.parse_args().size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = generated_atlas(folder / "tables.atlas", clustered_codes(n, N_BITS, n // 500, seed=0), sites=sites)
        forms = {"tables": path / "atlas.duckdb"}
        forms |= {f"{parts} segments": catalog(path, folder / f"segments-{parts}", parts) for parts in (1, 8)}
        forms["8 of codes"] = catalog(path, folder / "codes", 8, ("codes",))
        show(f"{n:,} examples, {sites} sites of {N_BITS:,} gates: ms, and times tables", asked(forms, n, rounds))
        show("adding a tenth, and the bytes", added(forms, n))
        with atlas.open(path) as a:
            nearest = in_turns({"nearest": lambda: query.nearest(a, example=17, site=SITE, density=False)}, rounds)
        show("query.nearest on tables, ms", [{"nearest": 1000 * statistics.median(nearest["nearest"])}])


def catalog(path: Path, folder: Path, parts: int, tables: Sequence[str] = tuple(VIEWS)) -> Path:
    """The catalog of an atlas some of whose tables lie in so many segments; it holds the others itself."""
    folder.mkdir()
    with duckdb.connect(str(path / "atlas.duckdb"), read_only=True) as a:
        [(last,)] = a.execute("select max(example_id) from examples").fetchall()
        bounds = np.linspace(0, last, parts + 1).astype(int)
        for part, (low, high) in enumerate(itertools.pairwise(bounds)):
            write_segment(a, folder, part, f"example_id > {low} and example_id <= {high}", tables)
    made = folder / "catalog.duckdb"
    with duckdb.connect(str(made)) as c:
        c.execute(f"attach '{path / 'atlas.duckdb'}' as a (read_only)")
        for table in (*SMALL, *(table for table in VIEWS if table not in tables)):
            c.execute(f"create table {table} as from a.{table}")
        c.execute(
            "create macro is_on(code, gate) as case when gate < bit_length(code) then get_bit(code, gate) = 1 end"
        )
        make_views(c, folder, tables)
    return made


def write_segment(a: duckdb.DuckDBPyConnection, folder: Path, part: int, where: str, tables: Sequence[str]) -> None:
    """Codes lie by site and then by example, examples by id."""
    codes = "select site_id, example_id, cast(code as blob) as code, n_active, code_hash from codes"
    ordered = {
        "codes": f"{codes} where {where} order by site_id, example_id",
        "examples": f"from examples where {where} order by example_id",
    }
    for table in tables:
        a.execute(
            f"copy ({ordered[table]}) to '{folder}/{table}-{part:03d}.parquet' "
            f"(format parquet, row_group_size {ROW_GROUP[table]}, compression zstd)"
        )


def make_views(c: duckdb.DuckDBPyConnection, folder: Path, tables: Sequence[str]) -> None:
    for table in tables:
        files = [str(file) for file in sorted(folder.glob(f"{table}-*.parquet"))]
        c.execute(f"create or replace view {table} as {VIEWS[table].format(files=files)}")


def asked(forms: dict[str, Path], n: int, rounds: int) -> list[dict[str, Any]]:
    """Every question to every form, in turns."""
    opened = {name: duckdb.connect(str(path), read_only=True) for name, path in forms.items()}
    generator = np.random.default_rng(0)
    rows = []

    def ten(connection: duckdb.DuckDBPyConnection) -> None:
        ids = generator.integers(1, n + 1, 10).tolist()
        connection.execute("from examples where example_id in (select unnest($1))", [ids]).fetchall()

    def sides(run: Callable[[Any], Any]) -> dict[str, Callable[[], Any]]:
        return {name: partial(run, connection) for name, connection in opened.items()}

    questions = {"ten rows": sides(ten)}
    for question, sql in QUESTIONS.items():
        questions[question] = sides(partial(asking_sql, sql))
    for question, asking in questions.items():
        rows.append(row(question, in_turns(asking, rounds)))
    for connection in opened.values():
        connection.close()
    rows.insert(0, row("open", in_turns({name: partial(opening, path) for name, path in forms.items()}, rounds)))
    return rows


def asking_sql(sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(sql).fetchnumpy()


def opening(path: Path) -> None:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("from sites").fetchall()
        connection.execute("select count(*) from examples").fetchall()


def row(question: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"question": question}
    for name, taken in seconds.items():
        found[name] = 1000 * statistics.median(taken)
        if name != "tables":
            found[f"{name} ×"] = ratio(taken, seconds["tables"])
    return found


def added(forms: dict[str, Path], n: int) -> list[dict[str, Any]]:
    """Seconds to add copies of a tenth of the rows, under new ids, and bytes of codes and examples before."""
    rows = []
    for name, path in forms.items():
        size = sum(file.stat().st_size for file in path.parent.glob("*.*") if file.suffix in (".duckdb", ".parquet"))
        held = [table for table in VIEWS if not [*path.parent.glob(f"{table}-*.parquet")]]
        started = time.perf_counter()
        if name == "tables":
            with atlas.open(path.parent, writable=True) as a, a.transaction():
                a.expect_codes_of(N_BITS // 8)
                for table in held:
                    a.execute(_copied(table, n))
        else:
            with duckdb.connect(str(path)) as connection:
                segments = [table for table in VIEWS if table not in held]
                write_segment(connection, path.parent, 999, f"example_id <= {n // 10}", segments)
                make_views(connection, path.parent, segments)
                for table in held:
                    connection.execute(_copied(table, n))
        rows.append({"form": name, "added s": time.perf_counter() - started, "MB": size / 1e6})
    return rows


def _copied(table: str, n: int) -> str:
    names, columns = "", f"* replace (example_id + {n} as example_id)"
    if table == "codes":  # without the column that is computed
        names, columns = " (site_id, example_id, code, n_active)", f"site_id, example_id + {n}, code, n_active"
    return f"insert into {table}{names} select {columns} from {table} where example_id <= {n // 10}"


if __name__ == "__main__":
    main()
