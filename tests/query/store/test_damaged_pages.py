"""Pages of the database that hold other bytes under a checksum that fits: verify names them, and raises nothing."""

from __future__ import annotations

import random
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas.errors import DamagedAtlas, SchemaVersionError
from tests.atlas.store.test_kept import KEPT
from tools.keep_atlas import BLOCK_SIZE

HEADERS = 3 * 4096
"""Bytes before the first page."""

ATTEMPTS = (0, 1, 2, 4, 5, 6, 7)
"""Seeds of what is damaged. Of the kept atlas seed 3 hits a page that ends DuckDB 2.0 itself, one time in two."""


def checksum(page: bytes) -> int:
    """As DuckDB computes it of a page (src/common/checksum.cpp)."""
    words = np.frombuffer(page, "<u8")
    return int(np.bitwise_xor.reduce(words * np.uint64(0xBF58476D1CE4E5B9))) ^ 5381


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [packed] = KEPT.glob("*.tar.xz")
    folder = tmp_path_factory.mktemp("pages")
    with tarfile.open(packed) as file:
        file.extractall(folder, filter="data")
    return folder / "kept.atlas"


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Some bytes of a page that is in use are other ones."""
    starts = range(HEADERS, len(whole), BLOCK_SIZE)
    pages = {start: whole[start + 8 : start + BLOCK_SIZE] for start in starts}
    in_use = [start for start, page in pages.items() if checksum(page) == struct.unpack_from("<Q", whole, start)[0]]
    assert len(in_use) > 20
    start = chance.choice(in_use)
    page = bytearray(pages[start])
    for place in chance.choices([place for place, byte in enumerate(page) if byte], k=256):
        page[place] = chance.randrange(256)
    return whole[:start] + struct.pack("<Q", checksum(bytes(page))) + bytes(page) + whole[start + BLOCK_SIZE :]


def test_a_damaged_page_is_named(whole: Path) -> None:
    """A segment that DuckDB can't decode is a row of verify; a page that opening reads is refused in a sentence."""
    database = whole / "atlas.duckdb"
    sound, said = database.read_bytes(), []
    for attempt in ATTEMPTS:
        database.write_bytes(damaged(sound, random.Random(attempt)))
        try:
            with atlas.open(whole) as a:
                checks = query.verify(a)
                said += checks.loc[~checks["ok"], "detail"].tolist()
        except (DamagedAtlas, SchemaVersionError) as error:
            said.append(str(error))
    assert any("Corrupted" in detail or "can't be read as a database" in detail for detail in said), said
