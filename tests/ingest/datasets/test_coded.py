"""Codes from elsewhere: what comes out of an atlas is what was written into the file, gate for gate."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
import ingest
import query
from atlas.errors import (
    BadInput,
    EmptyDataset,
    PlanChanged,
    RunInterrupted,
    UnknownName,
    UsageError,
    WeightsError,
)
from ingest.networks import reload_network
from tests.atlases import begin
from tests.ingest.runs import Watching, raising

N, WIDTHS = 40, {"first": 13, "second": 16}


@pytest.fixture(autouse=True)
def empty(tmp_path: Path) -> None:
    """The atlas that a test adds to."""
    begin(tmp_path / "x.atlas")


def gates(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {site: rng.random((N, width)) < 0.2 for site, width in WIDTHS.items()}


def columns(**others: Any) -> dict[str, Any]:
    """Booleans at one site, packed bytes at the other."""
    bits = gates()
    table = {
        "key": [f"row-{i}" for i in range(N)],
        "label": ["even" if i % 2 == 0 else None for i in range(N)],
        "first": bits["first"].tolist(),
        "second": [row.tobytes() for row in np.packbits(bits["second"], axis=1)],
    }
    return table | others


def parquet(path: Path, table: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(table), path, **options)
    return path


def activation_table() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    points = {site: rng.standard_normal((N, 5)).astype(np.float32).tolist() for site in WIDTHS}
    return {"key": columns()["key"], **points}


def stored(path: Path, site: str) -> tuple[np.ndarray, list[tuple[Any, ...]]]:
    with atlas.open(path) as a:
        assert query.verify(a)["ok"].all()
        _, codes = a.codes([a.catalog.target(site=site).sites[0]])
        rows = a.rows(
            "select key, examples.label, text, token from examples join inputs using (input_id) "
            "join dataset_inputs using (input_id) order by example_id"
        )
    return codes.unpack(), rows


def test_given_codes_are_stored_and_searched(tmp_path: Path):
    """As a network's would be: nearest by Hamming distance, clusters, and activations beside the codes."""
    codes = parquet(tmp_path / "codes.parquet", columns(text=[f"text {i}" for i in range(N)]), row_group_size=7)
    points = parquet(tmp_path / "points.parquet", activation_table(), row_group_size=16)
    network, data = ingest.open_codes(codes, activations=points)
    path = tmp_path / "x.atlas"
    ingest.ingest(path, network, data)
    for site, bits in gates().items():
        found, rows = stored(path, site)
        assert (found == bits).all()
    assert rows[:2] == [("row-0", "even", "text 0", "text 0"), ("row-1", None, "text 1", "text 1")]
    with atlas.open(path) as a:
        near = query.nearest(a, example=3, site="first", k=5)
        truth = (gates()["first"] ^ gates()["first"][2]).sum(axis=1)
        assert near["distance"].tolist() == sorted(np.delete(truth, 2))[:5]
        [site] = a.catalog.target(site="second").sites
        assert a.activations(site)[1].tolist() == activation_table()["second"]
        assert query.density(a, 1, 2, site="second").distance > 0
        assert set(query.clusterings(a)["target"]) == set(WIDTHS)
        assert "codes from elsewhere" in near.attrs["exact_note"] and not near.attrs["exact"]
    assert ingest.ingest(path, *ingest.open_codes(codes, activations=points)).already_there


def test_numpy_arrays_are_the_same_codes(tmp_path: Path):
    bits = gates()
    packed = np.packbits(bits["first"], axis=1)
    np.savez(tmp_path / "codes.npz", key=np.array(columns()["key"]), first=packed, second=bits["second"])
    ingest.ingest(
        tmp_path / "x.atlas", *ingest.open_codes(tmp_path / "codes.npz", gates={"first": 13}), cluster=False
    )
    for site in WIDTHS:
        found, rows = stored(tmp_path / "x.atlas", site)
        assert (found == bits[site]).all() and rows[4][2] == "row-4"


def test_pictures_with_codes_keep_thumbnails(tmp_path: Path):
    """Also of rows that look alike: each has a code of its own."""
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(encoded, "PNG")
    path = parquet(tmp_path / "codes.parquet", columns(image=[encoded.getvalue()] * N))
    network, data = ingest.open_codes(path, sites=["second"])
    outcome = ingest.ingest(tmp_path / "x.atlas", network, data, ingest.Choices(store_activations=False, limit=9))
    assert outcome.n_examples == 9 and network.info.kind == "image"
    with atlas.open(tmp_path / "x.atlas") as a:
        assert a.value("select count(distinct input_id) from inputs where thumbnail is not null") == 9


def test_rows_without_a_code_are_named(tmp_path: Path):
    """Before anything is stored; with skip_bad the others are."""
    table, points = columns(), activation_table()
    table["first"][5].pop()
    table["first"][6][2] = None
    table["second"][7] = None
    table["second"][8] = b"\1"
    points["first"][9][1] = float("nan")
    points["second"][10].pop()
    points["first"][11] = None
    path = parquet(tmp_path / "codes.parquet", table)
    opened = ingest.open_codes(path, activations=parquet(tmp_path / "points.parquet", points))
    with pytest.raises(BadInput, match=rf"7 of {N} inputs can't be used(.|\n)*  row-5 has .*at site first"):
        ingest.ingest(tmp_path / "x.atlas", *opened)
    outcome = ingest.ingest(tmp_path / "x.atlas", *opened, ingest.Choices(skip_bad=True), cluster=False)
    expected = {
        "row-5": "at site first",
        "row-6": "no bit for gate 2",
        "row-7": "has no code at site second",
        "row-8": "a code of 8 gates where the first row has 16",
        "row-9": "NaN or infinity as number 1",
        "row-10": "an activation of 4 numbers",
        "row-11": "has no activation at site first",
    }
    assert outcome.n_examples == N - 7 and [key for key, _ in outcome.bad] == [*expected]
    assert all(said in reason for said, (_, reason) in zip(expected.values(), outcome.bad, strict=True))


def test_padding_of_codes_must_be_zero(tmp_path: Path):
    path = parquet(tmp_path / "codes.parquet", columns())
    lowest = (gates()["second"][:, -1]).sum()
    with pytest.raises(BadInput, match=f"{lowest} of {N} inputs") as refused:
        ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path, gates={"second": 15}))
    assert "has padding that is not zero after the 15 gates of its code at site second" in str(refused.value)


def test_files_without_codes_are_refused(tmp_path: Path):
    path = parquet(tmp_path / "codes.parquet", columns())
    for given, error, said in (
        ({"sites": ["third"]}, BadInput, "no column of codes 'third'"),
        ({"gates": {"second": 30}}, UsageError, "2 bytes a code; they hold 9 to 16 gates, not 30"),
        ({"gates": {"first": 12}}, UsageError, "lists of 13 booleans"),
        ({"activations": path}, BadInput, "no column of lists of numbers 'first'"),
        ({"label_column": "kind"}, BadInput, "no column 'kind'"),
    ):
        with pytest.raises(error, match=said):
            ingest.open_codes(path, **given)
    twice = parquet(tmp_path / "twice.parquet", columns(key=["a"] * N))
    with pytest.raises(BadInput, match="key 'a' stands in rows 0 and 1"):
        ingest.open_codes(twice)
    other = parquet(tmp_path / "other.parquet", activation_table() | {"key": columns()["key"][::-1]})
    with pytest.raises(BadInput, match=r"row 0 is 'row-0' in .* and 'row-39' in"):
        ingest.open_codes(path, activations=other)
    with pytest.raises(UsageError, match="no column of codes"):
        ingest.open_codes(parquet(tmp_path / "none.parquet", {"key": ["a"], "first": [[1, 0]]}))
    with pytest.raises(EmptyDataset, match="holds no row"):
        ingest.open_codes(parquet(tmp_path / "empty.parquet", {"first": pa.array([], pa.list_(pa.bool_()))}))
    (tmp_path / "torn.npz").write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match="can't be read"):
        ingest.open_codes(tmp_path / "torn.npz")


def test_what_needs_a_network_says_so(tmp_path: Path):
    """And a file that changed is another network."""
    path = parquet(tmp_path / "codes.parquet", columns())
    ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path, name="given"), cluster=False)
    with atlas.open(tmp_path / "x.atlas") as a:
        with pytest.raises(UsageError, match=r"given is codes from elsewhere .* no network of it can be run"):
            reload_network(a.catalog.network())
        with pytest.raises(UsageError, match="reader"):
            query.nearest(a, text="row-3", site="first")
        with pytest.raises(UnknownName, match="other"):
            query.nearest(a, example=1, site="other")
    parquet(path, columns(label=["odd"] * N))
    with pytest.raises(WeightsError, match="already holds a network 'given'"):
        ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path, name="given"))


def test_two_files_of_codes_are_compared(tmp_path: Path):
    """By their keys: 5 gates of row 0 flip, and none elsewhere."""
    for name, flipped in (("before", 0), ("after", 5)):
        bits = gates()
        bits["first"][0, :flipped] ^= True
        table = columns(first=bits["first"].tolist())
        path = parquet(tmp_path / f"{name}.parquet", table)
        ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path, data_name="rows"), cluster=False)
    with atlas.open(tmp_path / "x.atlas") as a:
        found = query.compare(a, networks=["before", "after"])
    assert found.steps.set_index("site")["flips"].to_dict() == {"first": 5 / N, "second": 0}
    assert found.examples["flips"].tolist()[:2] == [5, 0]


def test_a_killed_run_of_codes_goes_on(tmp_path: Path):
    """At the first missing shard, where a row group may just have begun; another choice is another run."""
    path = parquet(tmp_path / "codes.parquet", columns(), row_group_size=16)
    small = ingest.Choices(shard_examples=12, batch_size=5, store_activations=False)
    with pytest.raises(RunInterrupted, match="2 of 4 shards complete"):
        stopping = Watching(raising("read", 8))
        ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path), small, progress=stopping)
    with pytest.raises(PlanChanged, match="planned differently"):
        ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path), ingest.Choices(batch_size=5))
    ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(path), small, cluster=False)
    assert all((stored(tmp_path / "x.atlas", site)[0] == bits).all() for site, bits in gates().items())
