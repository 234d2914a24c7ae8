"""Atlases on object storage, which here is a folder that obstore reaches by its address."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import atlas
import query
from atlas.errors import AtlasLocked, DamagedAtlas, NotAnAtlas, SqlError, StoreError, UsageError
from atlas.store.buckets import Bucket, address_in
from atlas.store.cache import trim
from atlas.store.segmented import SegmentedAtlas
from atlas.store.versions import commit
from ingest import convert, open_dataset
from ingest.datasets.base import Dataset, Item
from tests.ingest.runs import small_run, small_texts

pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(segmented: Callable[[int], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(segmented(3), tmp_path / "bucket" / "a.atlas"))


@pytest.fixture
def opened(bucket: Path) -> Iterator[SegmentedAtlas]:
    with atlas.open(f"file://{bucket}") as a:
        assert isinstance(a, SegmentedAtlas)
        yield a


def fetched(cache: Path) -> list[str]:
    return sorted({file.suffix for file in cache.rglob("*") if file.is_file() and not file.name.startswith(".")})


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("s3://lab/a.atlas", "s3://lab/a.atlas"),
        (Path("s3://lab/a.atlas/"), "s3://lab/a.atlas"),
        (Path("file:///tmp/a"), "file:///tmp/a"),
        ("a.atlas", None),
        ("c:/a.atlas", None),
        (Path("/s3:/a"), None),
    ],
)
def test_which_words_are_addresses(given: str | Path, address: str | None) -> None:
    assert address_in(given) == address


def test_answers_are_those_of_a_folder(opened: SegmentedAtlas, built: Path, cache: Path) -> None:
    """Segments are read where they lie; the catalog, and an index once it is asked, are kept."""
    codes = "select site, label, avg(is_on(code, 3)::int) as share from spline_codes group by all order by all"
    with atlas.open(built) as a:
        assert query.sql(opened, codes).equals(query.sql(a, codes))
        assert fetched(cache) == [".duckdb"]
        near = query.nearest(opened, example=40, site="blocks.2.mlp")
        assert near.equals(query.nearest(a, example=40, site="blocks.2.mlp"))
        assert fetched(cache) == [".duckdb", ".faiss", ".json"]
    assert query.verify(opened)["ok"].all()


@pytest.mark.slow
def test_what_is_added_is_there_for_all(bucket: Path, grown: Path, more: Callable[[Path], None]) -> None:
    address = f"file://{bucket}"
    with atlas.open(address) as before:
        more(Path(address))
        assert before.value("select count(*) from codes") == 1510
    digests = "select site_id, n_codes, codes_digest, n_activations, activations_digest from sites order by all"
    with atlas.open(address) as a, atlas.open(bucket) as as_a_folder, atlas.open(grown) as expected:
        assert a.rows(digests) == as_a_folder.rows(digests) == expected.rows(digests)
        assert query.verify(a)["ok"].all()


@pytest.mark.slow
def test_an_atlas_is_brought_there(tmp_path: Path) -> None:
    """With the names that people gave."""
    named, address = tmp_path / "named.atlas", f"file://{tmp_path}/new.atlas"
    small_run(named, small_texts(tmp_path / "words"))
    with atlas.open(named) as a:
        query.name_cluster(a, clustering=2, cluster=0, name="fruit")
    convert(named, address)
    with atlas.open(address) as a:
        assert query.verify(a)["ok"].all() and a.address == address
        assert a.rows("select name from cluster_names") == [("fruit",)]
    with pytest.raises(UsageError, match=f"{address} exists already"):
        convert(named, address)
    with pytest.raises(UsageError, match=f"{address} is segmented already; copy its files to {address}2"):
        convert(address, f"{address}2")


def test_who_commits_second_is_told(bucket: Path) -> None:
    with atlas.open(f"file://{bucket}", writable=True) as writer:
        assert isinstance(writer, SegmentedAtlas)
        first = replace(writer.version, number=writer.version.number + 1)
        beaten = pytest.raises(AtlasLocked, match=r"somebody else committed version \d+ of file://")
        with beaten, writer.transaction():
            writer.execute("delete from spans")
            assert commit(Bucket(f"file://{bucket}"), first)
        assert writer.value("select count(*) from spans") == 1


@pytest.mark.parametrize(
    "attack", ["from duckdb_views()", "from 'file:///etc/passwd'", "select getvariable('code_files')"]
)
def test_sql_tells_no_address(opened: SegmentedAtlas, bucket: Path, cache: Path, attack: str) -> None:
    try:
        told = query.sql(opened, attack).to_string()
    except SqlError as error:
        told = str(error)
    assert str(bucket) not in told and str(cache) not in told and "root:" not in told


def test_damage_in_a_bucket_has_a_sentence(bucket: Path, cache: Path) -> None:
    """An object that is cut short, gone, or other than it was."""
    address = f"file://{bucket}"
    with atlas.open(address) as a:
        assert isinstance(a, SegmentedAtlas)
        codes = next(bucket / file.name for file in a.version.segments if file.site_id == 3)
        catalog = bucket / a.version.catalog.name
    whole = codes.read_bytes()
    asked = "select count(distinct code) from codes where site_id = 3"
    codes.write_bytes(whole[:-9])
    with atlas.open(address) as a, pytest.raises(DamagedAtlas, match=r"bytes, \d+ were written"):
        query.sql(a, asked)
    codes.unlink()
    with atlas.open(address) as a, pytest.raises(DamagedAtlas, match="is not there"):
        a.value(asked)
    shutil.rmtree(cache)
    catalog.write_bytes(catalog.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedAtlas, match="is not as it was written; restore it, or open an older version"):
        atlas.open(address)
    assert not list(cache.rglob("*.duckdb"))


def test_what_is_no_atlas_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAnAtlas, match="holds no version of an atlas; make one with `polytope ingest file://"):
        atlas.open(f"file://{tmp_path}/none.atlas")
    with pytest.raises(UsageError, match=r"weird://x/y can't be reached \(Generic URL error"):
        atlas.open("weird://x/y")


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the time limit, and a sentence."""
    monkeypatch.setenv("POLYTOPE_STORE_SECONDS", "0.3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hidden-word")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"s3://lab/a.atlas can't be read or written \(") as caught:
            atlas.open("s3://lab/a.atlas")
    assert "hidden-word" not in str(caught.value)
    monkeypatch.setenv("POLYTOPE_STORE_SECONDS", "soon")
    with pytest.raises(UsageError, match="POLYTOPE_STORE_SECONDS is 'soon'; it is a number of seconds above 0"):
        atlas.open("s3://lab/a.atlas")


def test_the_cache_keeps_to_its_limit(opened: SegmentedAtlas, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for longest ago goes first, and is fetched again when it is asked for."""
    sites = [f"blocks.{number}.mlp" for number in range(4)]
    for site in sites:
        query.nearest(opened, example=40, site=site)
    files = sorted(cache.rglob("*.faiss"))
    assert len(files) == 12
    for age, file in enumerate(files):
        os.utime(file, (age, age))
    monkeypatch.setenv("POLYTOPE_CACHE_GB", str(sum(file.stat().st_size for file in files[6:]) / 1e9))
    trim(cache, keep=files[0])
    assert files[0].exists() and not any(file.exists() for file in files[1:6])
    monkeypatch.delenv("POLYTOPE_CACHE_GB")
    with atlas.open(opened.address) as again:
        assert len(query.nearest(again, example=40, site=sites[0])) == 10


def test_data_keep_to_the_limit_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dataset of somebody reads stays, what nobody reads any more goes, the oldest first, and what there is no
    room for is refused before any of it is fetched."""
    for name in "abc":
        for number in range(2):
            text = tmp_path / "lab" / name / f"{number}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(f"{name}{number} " * 250)
    monkeypatch.setenv("POLYTOPE_CACHE_GB", "4e-6")

    def opened(name: str) -> Dataset:
        return open_dataset(f"file://{tmp_path}/lab/{name}", kind="text")

    def kept() -> str:
        return "".join(sorted(file.parent.name for file in cache.rglob("*.txt")))

    first, second = opened("a"), opened("b")
    with pytest.raises(UsageError, match=r"lab/c holds 1.5e-06 GB; the cache has room for 1e-06, .*CACHE_GB"):
        opened("c")
    assert kept() == "aabb"
    del first
    third = opened("c")
    assert kept() == "abbcc"
    del second
    for dataset in (opened("a"), third):
        assert [isinstance(item, Item) for item in dataset.items()] == [True, True]
    assert kept() == "aabcc"


def test_names_there_are_only_read(opened: SegmentedAtlas) -> None:
    with pytest.raises(UsageError, match="names of an atlas on object storage are only read"):
        query.name_cluster(opened, clustering=2, cluster=0, name="fruit")
