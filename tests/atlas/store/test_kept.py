"""An atlas of every schema version that was released: opened, asked and verified by this one; others are refused."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

import duckdb
import pytest

import atlas
import query
from atlas.errors import SchemaVersionError
from atlas.store.atlas import SCHEMA_VERSION

KEPT = Path(__file__).parent / "kept"
LARGEST = 200_000
"""Bytes of one in the repository."""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    with tarfile.open(KEPT / f"schema-{SCHEMA_VERSION}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "kept.atlas"


def test_an_atlas_of_this_schema_is_read(kept: Path) -> None:
    """Whatever is asked of it: what was written by an earlier release of the same schema version is read by this one
    (docs/FORMAT.md). Where it fails, the schema changed without a new version."""
    with atlas.open(kept) as a:
        assert query.verify(a)["ok"].all()
        assert [network.name for network in a.catalog.networks] == ["words", "pixels"]
        found = query.nearest(a, example=1, site="blocks.0.mlp", k=3)
        assert found["distance"].tolist() == sorted(found["distance"])
        assert query.clusterings(a)["target"].tolist() == ["blocks.0.mlp"]
        assert a.sql("select count(*) as n from spline_codes")["n"].tolist() == [2 * 72 + 6]
        assert query.tag_examples(a, "kept", examples=[1]) == 1 and query.verify(a)["ok"].all()


def test_kept_atlases_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in KEPT.glob("*.tar.xz")}
    assert f"schema-{SCHEMA_VERSION}.tar.xz" in sizes and max(sizes.values()) < LARGEST


def test_another_schema_is_one_sentence(kept: Path) -> None:
    with atlas.open(kept, writable=True) as a:
        a.execute("update meta set value = '999' where key = 'schema_version'")
    with pytest.raises(SchemaVersionError, match=rf"schema version 999; .* version {SCHEMA_VERSION}\. Ingest again"):
        atlas.open(kept)


def checksum(block: bytes) -> int:
    """As DuckDB computes it of a header (src/common/checksum.cpp)."""
    total = 5381
    for (word,) in struct.iter_unpack("<Q", block):
        total ^= word * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    return total


@pytest.mark.parametrize("version", [1, 5000])
def test_another_duckdb_is_one_sentence(version: int, kept: Path) -> None:
    """A database in a storage version that this DuckDB doesn't read, newer or older."""
    database = kept / "atlas.duckdb"
    header = bytearray(database.read_bytes()[:4096])
    assert struct.pack("<Q", checksum(header[8:])) == header[:8]
    header[12:20] = struct.pack("<Q", version)
    header[:8] = struct.pack("<Q", checksum(header[8:]))
    with database.open("r+b") as file:
        file.write(header)
    said = rf"storage version {version}; DuckDB {duckdb.__version__} reads \d+ to \d+\. Install the one that wrote it"
    with pytest.raises(SchemaVersionError, match=said):
        atlas.open(kept)
