"""`polytope ingest --codes`: from a file to answers, and what can't be asked without a network."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.app.cli.command import Run
from tests.ingest.networks.test_sae import saved
from tests.networks import shipped


def test_codes_are_ingested_and_asked(tmp_path: Path, polytope: Run):
    bits = np.random.default_rng(0).random((30, 20)) < 0.3
    packed = [row.tobytes() for row in np.packbits(bits, axis=1)]
    table = {"key": [f"row {i}" for i in range(30)], "site": packed, "kind": ["a", "b"] * 15}
    pq.write_table(pa.table(table), tmp_path / "given.parquet")
    path = tmp_path / "x.atlas"
    command = ("ingest", path, "--codes", tmp_path / "given.parquet")
    assert polytope(*command, "--data", "builtin:digits").refuses("leave out --data")
    assert polytope(*command, "--gates", "site=x").refuses("write SITE=N")
    assert polytope("ingest", path, "--data", "builtin:digits").refuses("name a --network and its --data, or --codes")
    done = polytope(*command, "--label-column", "kind", "--gates", "site=20")
    assert done.status == 0 and "is in the atlas: 30 examples" in done.out
    near = polytope("nearest", path, "--example", 2, "--site", "site", "-k", 3, "--format", "json").rows()
    assert [row["distance"] for row in near] == sorted((bits ^ bits[1]).sum(axis=1))[1:4]
    assert near[0]["token"].startswith("row ") and near[0]["label"] in "ab"
    for asked in (("nearest", path, "--text", "row 1", "--site", "site"), ("exits", path, "--example", 1)):
        span = ("--span", "site->") if asked[0] == "exits" else ()
        assert polytope(*asked, *span).refuses("no network of it can be run")
    for whole in (("info", path), ("verify", path), ("clusters", path, "--site", "site")):
        answer = polytope(*whole)
        assert answer.status == 0, answer.err


def test_features_are_ingested_and_asked(tmp_path: Path, texts: Path, polytope: Run):
    """Of an autoencoder that reads a site of another network, which is run again for a text typed now."""
    [site] = [site for site in shipped("demo:gpt2").sites if site.name == "blocks.0.mlp"]
    path, source = tmp_path / "x.atlas", f"sae:{saved(tmp_path / 'sae', units=site.n_units)}"
    data = ("--data", texts, "--limit", 4, "--no-store-activations", "--no-cluster")
    assert polytope("ingest", path, "--network", source, "--of", "demo:gpt2", *data).refuses("--of-site SITE")
    of = ("--of", "demo:gpt2", "--of-site", site.name, "--device", "cpu")
    done = polytope("ingest", path, "--network", source, *of, *data)
    assert done.status == 0, done.err
    asked = ("--text", "async def main():", "--site", "features", "--metric", "jaccard", "--device", "cpu")
    near = polytope("nearest", path, *asked, "--format", "json").rows()
    assert len(near) == 10 and {"shared", "gates", "token"} <= set(near[0])


def test_features_come_over_as_told(tmp_path: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch):
    """What docs/INSTALL.md has another environment write is ingested by its command, and asked."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "INSTALL.md").read_text("utf-8").partition("## Beside SAELens")[2]
    [written] = re.findall(r"```python\n(.*?)```", page, re.S)
    [command] = re.findall(r"^polytope (ingest [^#]*)", page, re.M)
    exec(written, {})
    done = polytope(*command.split())
    assert done.status == 0 and "is in the atlas: 3 examples" in done.out
    near = polytope("nearest", "features.atlas", "--example", 1, "--site", "sae", "-k", 2, "--format", "json").rows()
    assert [row["distance"] for row in near] == [2, 2]
