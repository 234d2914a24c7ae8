"""The database: made whole or not at all, opened for one writer or many readers, never mistaken for anything else."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import atlas
from atlas.codes import SplineCodes
from atlas.errors import (
    AtlasLocked,
    DamagedAtlas,
    NotAnAtlas,
    NotStored,
    SchemaVersionError,
    SqlFailed,
    SqlRefused,
    SqlTimeout,
    UnknownName,
    UsageError,
)
from atlas.store.atlas import Atlas
from atlas.store.digests import activations_digest, codes_digest
from atlas.store.disk import unfinished_path
from atlas.store.opening import make
from atlas.store.user_sql import SANDBOX, Limits
from tests.forked import children


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy.atlas"))


# --- opening ---------------------------------------------------------------------------------------------------


def test_an_atlas_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "in" / "a"
    with atlas.create(path) as a:
        a.execute("insert into meta values ('made', 'first')")
    with atlas.create(path) as a:
        assert a.value("select value from meta where key = 'made'") == "first" and a.writable
    make(path)
    with atlas.open(path) as a:
        assert a.rows("select key from meta order by key") == [("made",), ("schema_version",)] and not a.writable
    assert sorted(file.name for file in path.iterdir()) == ["atlas.duckdb"]


def test_a_killed_create_leaves_nothing(tmp_path: Path) -> None:
    """What a living process or another machine prepares stays."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    killed, living = (unfinished_path(tmp_path / "atlas.duckdb") for _ in range(2))
    killed = killed.with_name(killed.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    elsewhere = killed.with_name(killed.name.replace(".duckdb.", ".duckdb.elsewhere"))
    for folder in (killed, living, elsewhere):
        folder.mkdir()
        (folder / "atlas.duckdb").touch()
    make(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"atlas.duckdb", living.name, elsewhere.name}
    killed.mkdir()
    atlas.open(tmp_path).close()
    assert not killed.exists()


def test_what_is_no_atlas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnAtlas, match=r"nowhere does not exist; make an atlas with `polytope ingest"):
        atlas.open(tmp_path / "nowhere")
    with pytest.raises(NotAnAtlas, match="is a folder without an atlas in it"):
        atlas.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotAnAtlas, match=r"file is a file; an atlas is a folder"):
        atlas.create(tmp_path / "file")
    with atlas.create(tmp_path / "other") as a:
        a.execute("drop table meta")
    with pytest.raises(NotAnAtlas, match="is a DuckDB database, but not an atlas"):
        atlas.open(tmp_path / "other")


def test_another_schema_version_is_refused(copy: Path) -> None:
    with atlas.open(copy, writable=True) as a:
        a.execute("update meta set value = '99' where key = 'schema_version'")
    for writable in (False, True):
        with pytest.raises(SchemaVersionError, match=r"schema version 99; this polytope-atlas reads version \d+\. "):
            atlas.open(copy, writable=writable)
    assert not (copy / "writer.json").exists()


def test_closing_twice_leaves_no_note(copy: Path) -> None:
    a = atlas.open(copy, writable=True)
    assert (copy / "writer.json").exists()
    a.close()
    a.close()
    assert not (copy / "writer.json").exists()


def test_many_may_read_and_one_may_write(copy: Path) -> None:
    with atlas.open(copy) as first, atlas.open(copy) as second:
        assert first.rows("from networks") == second.rows("from networks")
        with pytest.raises(AtlasLocked, match="is already open in this process, for reading; close it first"):
            atlas.open(copy, writable=True)
    with (
        atlas.open(copy, writable=True),
        pytest.raises(AtlasLocked, match="already open in this process, for writing"),
    ):
        atlas.open(copy)


def test_a_writer_keeps_its_lock(copy: Path) -> None:
    with atlas.open(copy, writable=True) as a:
        for writable in (False, True):
            with pytest.raises(AtlasLocked, match="for writing"):
                atlas.open(copy, writable=writable)
        ours, theirs = multiprocessing.Pipe()
        process = children().Process(target=_try_to_open, args=(theirs, copy))
        process.start()
        assert ours.recv() == ["AtlasLocked", "AtlasLocked"]
        process.join(60)
        a.execute("insert into meta values ('kept', '')")
    with atlas.open(copy) as a:
        assert a.value("select count(*) from meta where key = 'kept'") == 1


def _try_to_open(pipe: Connection, path: Path) -> None:
    found = []
    for writable in (False, True):
        try:
            atlas.open(path, writable=writable).close()
            found.append("opened")
        except AtlasLocked as error:
            found.append(type(error).__name__)
    pipe.send(found)


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 100, 5000, 0.5])
def test_a_truncated_database_is_damaged(keep: float, copy: Path) -> None:
    database = copy / "atlas.duckdb"
    content = database.read_bytes()
    database.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(DamagedAtlas, match=r"atlas.duckdb can't be read as a database .* restore it from a backup"):
        read_everything(copy)


@pytest.mark.parametrize("name", ["atlas.duckdb", "atlas.duckdb.wal"])
def test_a_pipe_is_no_database(name: str, copy: Path) -> None:
    """To open it would wait for ever."""
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    with pytest.raises(NotAnAtlas, match=f"{name} is no file but a pipe"):
        atlas.open(copy)


def read_everything(path: Path) -> None:
    with atlas.open(path) as a:
        for table in a.tables():
            a.frame(f'from "{table}"')
        for site in a.catalog.sites:
            codes_digest(a, site)
            activations_digest(a, site)


def test_a_flipped_byte_is_noticed_if_read(copy: Path) -> None:
    """DuckDB sums every block up. "Block" holds the letters of "lock": this was taken for a locked atlas once."""
    database = copy / "atlas.duckdb"
    content = bytearray(database.read_bytes())
    noticed = 0
    for place in np.linspace(0, len(content) - 1, 12).astype(int):
        content[place] ^= 0xFF
        database.write_bytes(content)
        content[place] ^= 0xFF
        try:
            read_everything(copy)
        except (DamagedAtlas, NotAnAtlas):
            noticed += 1
    assert noticed > 4


def test_a_code_of_the_wrong_width_is_damage(copy: Path) -> None:
    with atlas.open(copy, writable=True) as a:
        [site] = a.catalog.target(site="blocks.3.mlp").sites
        a.execute("update codes set code = '101'::bit where site_id = $1", [site.site_id])
        with pytest.raises(
            DamagedAtlas, match=rf"site {site.name} of network {site.network} has {site.n_gates} gates"
        ):
            a.codes([site])


# --- statements ------------------------------------------------------------------------------------------------


def test_a_failed_transaction_leaves_nothing(copy: Path) -> None:
    with atlas.open(copy, writable=True) as a:
        names = [network.name for network in a.catalog.networks]
        with pytest.raises(ZeroDivisionError), a.transaction():
            a.execute("update networks set name = name || '!'")
            a.execute("insert into meta values ('x', 'y')")
            raise ZeroDivisionError
        assert [name for (name,) in a.rows("select name from networks order by network_id")] == names
        assert [network.name for network in a.catalog.networks] == names
        with pytest.raises(duckdb.ConstraintException, match="duplicate key"), a.transaction():
            a.execute("insert into meta values ('x', 'y')")
            a.execute("insert into meta values ('x', 'y')")
        assert a.rows("from meta where key = 'x'") == []
        with a.transaction():
            a.execute("update networks set name = name || '!'")
        assert [network.name for network in a.catalog.networks] == [f"{name}!" for name in names]


def test_rows_are_appended_by_name_of_column(tmp_path: Path) -> None:
    with atlas.create(tmp_path / "a") as a:
        a.insert("meta", pa.table({"value": ["1"], "key": ["one"]}))
        assert a.value("select value from meta where key = 'one'") == "1"
        for where in (nullcontext(), a.transaction()):
            with pytest.raises(UnknownName, match=r"no table 'metta'; the atlas has .*\bmeta\b.*\bnetworks\b"), where:
                a.insert("metta", pa.table({"value": ["1"]}))


META = pa.schema([("key", pa.string()), ("value", pa.string())])


def test_batches_are_appended_in_their_order(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, 30_000, 5000):
            keys = [f"{i:05d}" for i in range(start, start + 5000)]
            yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(keys)], schema=META)

    with atlas.create(tmp_path / "a") as a:
        a.insert_stream("meta", META, batches())
        rows = a.rows("select key from meta where key < 'a'")
    assert [key for (key,) in rows] == [f"{i:05d}" for i in range(30_000)]


def test_a_batch_that_fails_appends_nothing(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_arrays([pa.array(["one"]), pa.array(["1"])], schema=META)
        raise OSError(5, "the file can't be read any more")

    with atlas.create(tmp_path / "a") as a:
        before = a.rows("from meta")
        with pytest.raises(OSError, match="can't be read any more"):
            a.insert_stream("meta", META, batches())
        assert a.rows("from meta") == before


def test_a_commit_survives_a_kill(tmp_path: Path) -> None:
    """The journal is read by the next reader, although a reader can't write it into the database."""
    make(tmp_path / "a")
    process = children().Process(target=_commit_and_die, args=(tmp_path / "a",))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with atlas.open(tmp_path / "a") as a:
        assert a.rows("select key from meta where key in ('kept', 'lost')") == [("kept",)]


def _commit_and_die(path: Path) -> None:
    a = atlas.open(path, writable=True)
    with a.transaction():
        a.execute("insert into meta values ('kept', '')")
    a.execute("begin transaction")
    a.execute("insert into meta values ('lost', '')")
    os.kill(os.getpid(), signal.SIGKILL)


ENDLESS = "select count(*) from range(1000000000000) t(i) where told(i) < 0"


def telling(a: Atlas, tell: Callable[[], object]) -> None:
    """Give the database a function ``told``, which calls ``tell`` inside a statement, once for 2,048 rows."""

    def told(i: pa.ChunkedArray) -> pa.ChunkedArray:
        tell()
        return i

    a._connection.create_function("told", told, ["BIGINT"], "BIGINT", type="arrow", side_effects=True)


@pytest.fixture
def press() -> Iterator[Callable[[], None]]:
    """Presses Ctrl-C, until that has reached the main thread once."""
    reached = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not reached.is_set():
            reached.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    yield lambda: None if reached.is_set() else os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("way", ["value", "sql"])
def test_ctrl_c_stops_a_statement(way: str, built: Path, press: Callable[[], None]) -> None:
    with atlas.open(built) as a:
        telling(a, press)
        with pytest.raises(KeyboardInterrupt):
            getattr(a, way)(ENDLESS)
        assert a.value("select 1") == 1


def test_an_interrupt_ends_batches(built: Path) -> None:
    """Between two batches, and inside the statement that makes them."""
    with atlas.open(built) as a:
        [site] = a.catalog.target(site="blocks.3.mlp", network="words").sites
        batches = a.code_blocks(site, 1)
        next(batches)
        a.interrupt()
        with pytest.raises(KeyboardInterrupt):
            list(batches)
    with atlas.open(built) as a:
        telling(a, a.interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(a.batches(ENDLESS, [], 1))


# --- a user's SQL ----------------------------------------------------------------------------------------------

PLACES = [
    "from duckdb_settings()",
    "select path[2:] from duckdb_databases",
    'select upper(path) from "DuckDB_Databases"/* */()',
    "from system.main.pg_settings",
    "from pragma_database_list",
    "select current_setting('allowed_paths')",
    "from query('from duckdb_' || 'settings()')",
    "from range(1) as query, query('drop table codes')",
    "from query_table('duckdb_databases')",
    "select json_serialize_plan('from duckdb_databases()')",
    "from json_execute_serialized_sql(json_serialize_sql('from duckdb_settings()'))",
]


def test_no_query_says_where_the_atlas_is(built: Path) -> None:
    with atlas.open(built) as a:
        for query in PLACES:
            with pytest.raises(SqlRefused, match="reads its own tables only"):
                a.sql(query)


OWN_FILE = [
    "with stolen as (from '{file}') from stolen",
    "from read_blob('{file}')",
    "from glob('{file}*')",
    "from '{file}'",
    "select 1 where exists (with meta as (from read_text('{file}')) from meta)",
]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel lists its locks on Linux alone")
def test_no_query_drops_the_readers_lock(built: Path) -> None:
    """A process that closes a handle of a file gives up all its locks on it: no query opens the database's own."""
    database = built / "atlas.duckdb"
    with atlas.open(built) as a:
        assert f":{database.stat().st_ino} " in Path("/proc/locks").read_text()
        for query in OWN_FILE:
            with pytest.raises(SqlRefused, match="it would open a file"):
                a.sql(query.format(file=database))
        assert f":{database.stat().st_ino} " in Path("/proc/locks").read_text()


def test_words_in_strings_are_no_names(built: Path) -> None:
    with atlas.open(built) as a:
        frame = a.sql("select 'duckdb_settings' as query /* current_setting */")
    assert frame["query"].tolist() == ["duckdb_settings"]


def test_limits_of_a_query_are_kept(built: Path) -> None:
    with atlas.open(built, limits=Limits(100_000_000, 1)) as a:
        with pytest.raises(SqlFailed, match=r"more memory than the 0\.1 GB that a query may take here"):
            a.sql("select list(i) from range(100000000) t(i)")
        with pytest.raises(SqlRefused, match="SET is not a query"):
            a.sql("set memory_limit = '100GB'")
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            a.execute("set enable_progress_bar = false")


def test_a_query_is_handed_elsewhere(built: Path) -> None:
    handed: list[tuple[object, ...]] = []

    def elsewhere(*asked: object) -> pd.DataFrame:
        handed.append(asked)
        return pd.DataFrame({"n": [42]})

    with atlas.open(built) as a:
        a.elsewhere = elsewhere
        assert a.sql("select 1", [2], row_limit=3, timeout=4.0)["n"].tolist() == [42]
        assert handed == [("select 1", [2], 3, 4.0)] and a.value("select 1") == 1


def test_settings_of_the_sandbox(built: Path) -> None:
    with atlas.open(built) as first, atlas.open(built) as second:
        for a in (first, second):
            for statement in ("set lock_configuration = false", "explain analyze set lock_configuration = false"):
                with pytest.raises(SqlRefused, match="read-only"):
                    a.sql(statement)
            settings = ("enable_external_access", "lock_configuration")
            assert [a.value("select current_setting($1)", [name]) for name in settings] == [False, True]


@pytest.mark.parametrize("query", ["from read_blob('{}')", "select json_serialize_plan('from ''{}''')"])
def test_a_query_keeps_the_readers_lock(query: str, built: Path) -> None:
    """POSIX forgets a process's locks on a file as soon as it closes any handle of it."""
    with atlas.open(built) as a:
        with suppress(SqlRefused):
            a.sql(query.format((built / "atlas.duckdb").resolve()))
        ours, theirs = multiprocessing.Pipe()
        process = children().Process(target=_try_to_open, args=(theirs, built))
        process.start()
        assert ours.recv() == ["opened", "AtlasLocked"]
        process.join(60)


@pytest.mark.usefixtures("unchecked")
def test_rows_and_time_are_limited(built: Path) -> None:
    with atlas.open(built) as a:
        assert len(found := a.sql("from range(5000)", row_limit=4999)) == 4999 and found.attrs["truncated"]
        assert len(found := a.sql("from range(5000)", row_limit=5000)) == 5000 and not found.attrs["truncated"]
        with pytest.raises(SqlTimeout, match=r"longer than 0.2 s"):
            a.sql("select count(*) from range(1000000000000) t(i) where i % 7 = 8", timeout=0.2)
        with pytest.raises(SqlTimeout, match=r"ran longer than 1e-06 s"):  # over before the statement begins
            a.sql("select count(*) from range(1000000000000) t(i) where i % 7 = 8", timeout=1e-6)
        assert a.sql("select 42 as n", timeout=1e300)["n"].tolist() == [42]
        with pytest.raises(SqlRefused, match="the query has 100,000 bytes, and at most 64,000"):
            a.sql(f"select {'(' * 99_993}")
        for limits in ({"row_limit": 0}, {"row_limit": 2.5}, {"timeout": 0}, {"timeout": float("nan")}):
            with pytest.raises(UsageError, match=r"must be positive|expected a whole number of at least 1"):
                a.sql("select 1", **limits)


# --- blocks ----------------------------------------------------------------------------------------------------


def test_blocks_are_all_codes_in_order(built: Path) -> None:
    with atlas.open(built) as a:
        for site in (site for site in a.catalog.sites if site.name in ("hidden", "blocks.3.mlp", "conv1:full")):
            ids, codes = a.codes([site])
            assert (np.diff(ids) > 0).all() and len(ids) == site.n_codes
            for rows in (1, 7, 10_000):
                blocks = list(a.code_blocks(site, rows))
                assert max(len(block) for block, _ in blocks) <= rows
                assert (np.concatenate([block for block, _ in blocks]) == ids).all()
                assert (np.concatenate([packed for _, packed in blocks]) == codes.packed).all()
            assert (site.n_codes, site.codes_digest) == codes_digest(a, site)


def test_chosen_examples_come_in_their_order(built: Path) -> None:
    with atlas.open(built) as a:
        target = a.catalog.target(span="blocks.0.mlp->", network="words")
        ids, codes = a.codes(target.sites)
        chosen = [int(ids[9]), int(ids[2]), int(ids[9])]
        same, found = a.codes(target.sites, chosen)
        assert same.tolist() == chosen and (found.packed == codes.packed[[9, 2, 9]]).all()
        with pytest.raises(UnknownName, match=r"example 999999 has no code at site blocks.1.mlp of network words"):
            a.codes(target.sites, [chosen[0], 999_999])
        same, values = a.activations(target.sites[0], chosen)
        everything = a.activations(target.sites[0])
        assert same.tolist() == chosen and (values == everything[1][[9, 2, 9]]).all()
        with pytest.raises(NotStored, match=r"example 999999 has no activation at site blocks.1.mlp"):
            a.activations(target.sites[0], [999_999])


# --- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_gates", "n_codes", "share_on"),
    [(512, 100_000, 0.5), (3072, 20_000, 0.5), (512, 100_000, 0.05), (3072, 20_000, 0.05)],
)
def test_codes_take_a_tenth_more_at_most(n_gates: int, n_codes: int, share_on: float, tmp_path: Path) -> None:
    """Everything that the database grows by is counted: ids, counts, DuckDB's own bookkeeping."""
    make(tmp_path / "a")
    database = tmp_path / "a" / "atlas.duckdb"
    empty = database.stat().st_size
    with atlas.open(tmp_path / "a", writable=True) as a:
        insert_codes(a, n_gates, n_codes, share_on)
    ratio = (database.stat().st_size - empty) / (n_codes * n_gates / 8)
    assert ratio <= 1.1
    if share_on == 0.05 and n_gates == 3072:
        assert ratio < 0.8, "sparse codes compress"


def insert_codes(a: Atlas, n_gates: int, n_codes: int, share_on: float) -> None:
    generator = np.random.default_rng(0)
    with a.transaction():
        for first in range(0, n_codes, 20_000):
            gates = generator.integers(256, size=(20_000, n_gates), dtype=np.uint8) < 256 * share_on
            packed = SplineCodes.pack(gates).packed
            codes = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(packed.shape[1]), len(packed), [None, pa.py_buffer(packed)]
            )
            a.insert(
                "codes",
                pa.table(
                    {
                        "site_id": np.ones(len(packed), np.uint16),
                        "example_id": np.arange(first, first + len(packed)),
                        "code": codes,
                        "n_active": gates.sum(axis=1),
                    }
                ),
            )


def test_a_query_of_too_much_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with atlas.create(tmp_path / "a.atlas"):
        pass
    monkeypatch.setitem(SANDBOX, "memory_limit", "50MB")
    with atlas.open(tmp_path / "a.atlas") as a:
        with pytest.raises(SqlFailed, match="needs more memory"):
            a.sql("select string_agg(i::varchar, ',') from range(30000000) t(i)", timeout=60)
        assert a.sql("select 42 as answer")["answer"].tolist() == [42]
        with pytest.raises(SqlRefused, match="SET is not a query"):
            a.sql("set memory_limit = '100GB'")


def test_threads_share_an_open_atlas(built):
    """Each asks beside the others, what is kept is looked up once, and an interrupt ends one of them alone."""
    looked_up = []
    together = threading.Barrier(8)

    def ask(n):
        with a.beside() as mine:
            together.wait()
            mine.keep("a key", lambda: looked_up.append(n))
            return [mine.value("select $1 + count(*) from codes", [n]) for _ in range(20)]

    with atlas.open(built) as a:
        n_codes = a.value("select count(*) from codes")
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, range(8))) == [[n + n_codes] * 20 for n in range(8)]
        assert len(looked_up) == 1
        with a.beside() as one, a.beside() as other:
            one.interrupt()
            with pytest.raises(KeyboardInterrupt):
                one.value("select 1")
            assert other.value("select 1") == 1
        assert a.value("select 1") == 1


def test_a_writer_is_not_shared(tmp_path):
    with (
        atlas.create(tmp_path / "x.atlas") as a,
        pytest.raises(UsageError, match="open for writing, by one thread"),
        a.beside(),
    ):
        pass
