"""Segmented atlases: versions that nobody changes, commits that count or don't, readers that nobody locks out."""

import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import atlas
import query
from atlas.errors import AtlasLocked, DamagedAtlas, SqlError, SqlFailed, UnknownName, UsageError
from atlas.store.places import Folder
from atlas.store.segmented import SegmentedAtlas
from atlas.store.versions import commit, newest

ADD = "insert into spans select (select max(span_id) + 1 from spans), 2, $1"


@pytest.fixture
def copied(segmented: Callable[[int], Path], tmp_path: Path) -> Path:
    path = tmp_path / "a.atlas"
    shutil.copytree(segmented(3), path)
    return path


def spans(path: Path, version: int | None = None) -> list[str]:
    with atlas.open(path, version=version) as a:
        return [name for _, name in a.catalog.spans]


def files(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("n", [1, 3])
def test_forms_hold_the_same(built: Path, segmented: Callable[[int], Path], n: int) -> None:
    """Equal digests of sites, and equal rows of codes and activations, whatever the number of segments."""
    asked = [
        "select * from sites order by site_id",
        "select site_id, example_id, code, n_active, code_hash from codes order by all",
        "select site_id, example_id, part, activation from activations order by all",
        'select "table", "column", type, comment from documentation order by all',
    ]
    with atlas.open(built) as tables, atlas.open(segmented(n)) as segments:
        assert isinstance(segments, SegmentedAtlas)
        assert sum((file.table, file.site_id) == ("codes", 3) for file in segments.version.segments) == n
        for question in asked:
            assert tables.rows(question) == segments.rows(question)


def test_a_reader_keeps_its_version(copied: Path) -> None:
    before = spans(copied)
    with atlas.open(copied) as reader:
        assert isinstance(reader, SegmentedAtlas)
        with atlas.open(copied, writable=True) as writer, writer.transaction():
            writer.execute(ADD, ["blocks.0.mlp->blocks.1.mlp"])
        assert [name for _, name in reader.catalog.spans] == before
        assert reader.value("select count(*) from codes") == 1510
        assert spans(copied, reader.version.number) == before
    assert spans(copied) == [*before, "blocks.0.mlp->blocks.1.mlp"]
    with pytest.raises(UnknownName, match=r"has no version 99; it has 1, 2, .*`polytope versions` lists them"):
        atlas.open(copied, version=99)
    with pytest.raises(UsageError, match="version 1 can't be written: a version never changes"):
        atlas.open(copied, version=1, writable=True)


def test_tables_have_no_versions(built: Path) -> None:
    with pytest.raises(UsageError, match="keeps its codes in tables and has no versions"):
        atlas.open(built, version=1)


def test_writers_take_turns(copied: Path) -> None:
    """A second writer is told; who reads is not in the way, and leaves nothing."""
    with (
        atlas.open(copied) as reader,
        atlas.open(copied, writable=True),
        pytest.raises(AtlasLocked, match="already open in this process, for writing"),
    ):
        reader.value("select count(*) from codes")
        atlas.open(copied, writable=True)
    assert not [file for file in files(copied) if file.endswith(".tmp")]


def test_what_fails_leaves_nothing(copied: Path) -> None:
    before, held = newest(Folder(copied)), files(copied)
    with atlas.open(copied, writable=True) as writer:
        with pytest.raises(ZeroDivisionError), writer.transaction():
            writer.insert("codes", _codes(writer))
            assert writer.value("select count(*) from codes") == 1520
            raise ZeroDivisionError
        assert writer.value("select count(*) from codes") == 1510
    assert newest(Folder(copied)) == before and files(copied) - held <= {"writer.lock"}


def _codes(writer: atlas.Atlas):
    """Codes of site 3 once more, under other ids."""
    query_text = (
        "select site_id, (example_id + 1000)::uinteger as example_id, code::blob as code, n_active from codes"
    )
    [batch] = writer.batches(f"{query_text} where site_id = 3 order by example_id limit 10", [], 100)

    return pa.Table.from_batches([batch])


def test_of_two_commits_one_counts(copied: Path) -> None:
    """Who comes second, on another machine that no lock reaches, is told, and adds to what the first left."""
    place = Folder(copied)
    with atlas.open(copied, writable=True) as writer:
        assert isinstance(writer, SegmentedAtlas)
        first = replace(writer.version, number=writer.version.number + 1, made_by="another machine")
        with (
            pytest.raises(AtlasLocked, match=r"somebody else committed version \d+ .* meanwhile"),
            writer.transaction(),
        ):
            writer.execute(ADD, ["lost"])
            assert commit(place, first)
        assert writer.version.made_by == "another machine" and "lost" not in [
            name for _, name in writer.catalog.spans
        ]
        with writer.transaction():
            writer.execute(ADD, ["won"])
        assert writer.version.number == first.number + 1
    assert "won" in spans(copied) and "lost" not in spans(copied)


def _killed(path: Path) -> None:
    with atlas.open(path, writable=True) as writer, writer.transaction():
        writer.insert("codes", _codes(writer))
        os._exit(9)


def test_a_killed_commit_counts_for_nothing(copied: Path) -> None:
    before = newest(Folder(copied))
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(copied,))
    child.start()
    child.join()
    assert child.exitcode == 9 and newest(Folder(copied)) == before
    with atlas.open(copied, writable=True) as writer, writer.transaction():
        assert writer.value("select count(*) from codes") == 1510
    assert not [file for file in files(copied) if file.endswith(".tmp")]


def test_damage_has_a_sentence(copied: Path) -> None:
    """A segment that is gone or cut short, a catalog, a version."""
    with atlas.open(copied) as a:
        assert isinstance(a, SegmentedAtlas)
        version = a.version
    codes = next(file for file in version.segments if file.table == "codes" and file.site_id == 3)
    asked = "select count(distinct code) from codes where site_id = 3"
    whole = (copied / codes.name).read_bytes()
    (copied / codes.name).write_bytes(whole[:-100])
    with (
        atlas.open(copied) as a,
        pytest.raises(DamagedAtlas, match=rf"has {codes.size - 100} bytes, {codes.size} were"),
    ):
        a.value(asked)
    (copied / codes.name).unlink()
    with atlas.open(copied) as a:
        with pytest.raises(DamagedAtlas, match=r"codes/site_id=3/.* is not there; restore it, or open an older"):
            query.sql(a, asked)
        assert len(query.sql(a, "select count(distinct code) from codes where site_id = 4")) == 1
    (copied / version.catalog.name).write_bytes(b"")
    with pytest.raises(DamagedAtlas, match=r"catalog/.* has 0 bytes"):
        atlas.open(copied)
    (copied / "versions" / f"{version.number:06d}.json").write_text("{}")
    with pytest.raises(DamagedAtlas, match="is not as it was written; open an older version"):
        atlas.open(copied)
    assert spans(copied, version.number - 1)


def test_an_append_rewrites_nothing(copied: Path, grown: Path, more: Callable[[Path], None]) -> None:
    """Codes, activations and indexes of before stay as they are; digests are those of tables with the same added."""
    with atlas.open(copied) as a:
        assert isinstance(a, SegmentedAtlas)
        before = a.version
    more(copied)
    digests = "select site_id, n_codes, codes_digest, n_activations, activations_digest from sites order by all"
    with atlas.open(copied) as a, atlas.open(grown) as expected:
        assert isinstance(a, SegmentedAtlas)
        held = {site for site, n in a.rows("select site_id, count(*) from codes where example_id > 383 group by all")}
        assert held == {3, 4, 5, 6} and a.rows(digests) == expected.rows(digests)
        assert {*before.segments, *before.indexes} < {*a.version.segments, *a.version.indexes}
        asked = [query.nearest(one, example=390, site="blocks.2.mlp", k=300) for one in (a, expected)]
        assert asked[0].equals(asked[1])
        assert query.verify(a)["ok"].all()
    with atlas.open(copied, version=before.number) as a:
        assert len(query.nearest(a, example=40, site="blocks.2.mlp", k=359)) == 359


@pytest.mark.parametrize(
    "attack",
    [
        "from 'atlas:///etc/passwd'",
        "from read_text('atlas://../../../../etc/passwd')",
        "from read_blob('atlas://versions/000001.json')",
        "with x as (copy meta to 'atlas://segments/x.csv') from x",
        "copy meta to 'atlas://segments/x.csv'",
    ],
)
def test_files_of_others_are_not_there(copied: Path, attack: str) -> None:
    """The protocol of segments leads to those of the version, and writes none."""
    before = files(copied)
    with atlas.open(copied) as a:
        try:
            told = "" if query.sql(a, attack).empty else "rows"
        except SqlError as error:
            told = str(error)
    assert not re.search(f"rows|Traceback|{copied}", told) and files(copied) == before


def test_sql_tells_no_path(copied: Path) -> None:
    with atlas.open(copied) as a:
        told = [
            query.sql(a, question).to_string()
            for question in (
                "from duckdb_views()",
                "select getvariable('code_files')",
                "explain analyze from codes",
                "from duckdb_columns()",
            )
        ]
        with pytest.raises(SqlFailed) as caught:
            query.sql(a, "from read_parquet('atlas://segments/none.parquet')")
    assert not [text for text in [*told, str(caught.value)] if str(copied) in text or "/tmp" in text]


def test_threads_read_from_where_they_went(tmp_path: Path) -> None:
    """DuckDB's threads share a file's handle, and go to a place and read there in two calls."""
    content = np.arange(1 << 18, dtype="<u4")
    (tmp_path / "x").write_bytes(content.tobytes())
    with Folder(tmp_path).open("x") as file, ThreadPoolExecutor(4) as pool:

        def read(seed: int) -> int:
            wrong = 0
            for at in np.random.default_rng(seed).integers(0, len(content) - 64, 2000).tolist():
                file.seek(4 * at)
                wrong += int(np.frombuffer(file.read(256), "<u4")[0]) != at
            return wrong

        assert list(pool.map(read, range(4))) == [0, 0, 0, 0]
