"""Rows on their way from shards to tables: all that are wanted, once, in order, in batches of a bounded size."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from atlas.network import PART_UNITS, Site
from atlas.store.digests import RowsDigest
from ingest.run.batches import BATCH_BYTES, BATCH_ROWS, Wanted, activation_batches, code_batches

Made = tuple[list[Path], dict[str, np.ndarray]]


def site(name: str, n_gates: int, n_units: int) -> Site:
    return Site(name, 0, n_units, n_gates, "relu", False)


NARROW, WIDE = site("narrow", 20, 3), site("wide", 1000, 2 * PART_UNITS + 5)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, int, int], Made]:
    """A function that writes rows of random codes, or activations, into so many files."""

    def make(kind: str, n_rows: int, n_files: int) -> Made:
        generator = np.random.default_rng(0)
        values = {}
        for which in (NARROW, WIDE):
            values[f"{kind}:{which.name}"] = (
                generator.integers(0, 256, (n_rows, which.n_bytes), dtype=np.uint8)
                if kind == "code"
                else generator.standard_normal((n_rows, which.n_units), np.float32)
            )
        files = []
        for number, rows in enumerate(np.array_split(np.arange(n_rows), n_files)):
            files.append(tmp_path / f"{number}.parquet")
            columns = {name: [row.tobytes() for row in array[rows]] for name, array in values.items()}
            types = {name: pa.binary(array[0].nbytes) for name, array in values.items()}
            table = pa.table({name: pa.array(column, types[name]) for name, column in columns.items()})
            pq.write_table(table, files[-1], row_group_size=700)
        return files, values

    return make


def wanted(which: Site, site_id: int, rows: np.ndarray) -> Wanted:
    return Wanted(which, site_id, rows, None)


def test_codes_come_site_by_site(made: Callable[[str, int, int], Made]) -> None:
    """Codes come site by site in order and fill their batches."""
    n = 9000
    files, values = made("code", n, 3)
    ids = np.arange(5, n + 5, dtype=np.uint32)
    some = np.random.default_rng(1).random(n) < 0.9
    sites = [wanted(NARROW, 7, np.ones(n, bool)), wanted(WIDE, 2, some)]
    batches = list(code_batches(files, ids, sites))
    assert [len(batch) for batch in batches[:-1]] == [BATCH_ROWS] * (len(batches) - 1) and len(batches) == 3
    rows = pa.Table.from_batches(batches).to_pydict()
    assert rows["site_id"] == [7] * n + [2] * some.sum()
    assert rows["example_id"] == [*ids, *ids[some]]
    expected = [*values["code:narrow"], *values["code:wide"][some]]
    assert rows["code"] == [row.tobytes() for row in expected]
    assert rows["n_active"] == [int(np.unpackbits(row).sum()) for row in expected]


def test_activations_come_in_parts(made: Callable[[str, int, int], Made]) -> None:
    """Activations come in parts and no batch is larger than allowed."""
    n = 520
    files, values = made("activation", n, 2)
    ids = np.arange(n, dtype=np.uint32)[::-1].copy()
    every = np.ones(n, bool)
    batches = list(activation_batches(files, ids, [wanted(WIDE, 1, every), wanted(NARROW, 3, every)]))
    assert len(batches) > 1 and max(batch.nbytes for batch in batches) < 1.1 * BATCH_BYTES
    rows = pa.Table.from_batches(batches)
    assert rows["part"].to_pylist() == [0, 1, 2] * n + [0] * n
    assert rows["example_id"].to_pylist() == [*np.repeat(ids, 3), *ids]
    flat = pc.list_flatten(rows["activation"]).to_numpy()
    expected = [values[f"activation:{name}"].reshape(-1) for name in ("wide", "narrow")]
    np.testing.assert_array_equal(flat, np.concatenate(expected))
    assert pc.max(pc.list_value_length(rows["activation"])).as_py() == PART_UNITS


def test_what_goes_by_is_digested(made: Callable[[str, int, int], Made]) -> None:
    files, values = made("code", 300, 2)
    ids, some = np.arange(300, dtype=np.uint32), np.arange(300) % 3 > 0
    on_the_way, whole = RowsDigest(ids[some]), RowsDigest(ids[some])
    batches = code_batches(files, ids, [Wanted(WIDE, 1, some, on_the_way)])
    assert sum(map(len, batches)) == some.sum()
    whole.update(values["code:wide"][some])
    assert on_the_way.pieces == whole.pieces


def test_nothing_wanted_gives_no_batch(made: Callable[[str, int, int], Made]) -> None:
    files, _ = made("code", 10, 1)
    ids = np.arange(10, dtype=np.uint32)
    found: Iterator[pa.RecordBatch] = code_batches(files, ids, [wanted(NARROW, 1, np.zeros(10, bool))])
    assert list(found) == []
