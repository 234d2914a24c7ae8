"""What is pushed comes back with the same digests, from any place and after any interruption, or is named."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

import atlas
import ingest
import query
from atlas.codes import SplineCodes
from atlas.errors import DamagedAtlas, NotAnAtlas, NotStored, SchemaVersionError, StoreError, UsageError
from atlas.store.disk import sealed, unsealed
from ingest.sharing.manifest import TABLES
from query.experiments import archive, registry
from query.store.queries import schema
from tests.atlases import add_vectors
from tests.networks import PointNetwork

pytestmark = pytest.mark.slow

SMALL = 4000
"""Bytes of a file at which it ends: some tables are several."""


class Flaky(MemoryFileSystem):
    """A store that breaks off when so many files were sent, or fetched."""

    protocol = "flaky"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    left = 1_000_000

    def _spend(self) -> None:
        Flaky.left -= 1
        if Flaky.left < 0:
            raise ConnectionResetError("the line is dead")

    def put_file(self, *given, **options):
        self._spend()
        super().put_file(*given, **options)

    def get_file(self, *given, **options):
        self._spend()
        super().get_file(*given, **options)


fsspec.register_implementation("flaky", Flaky, clobber=True)


def content(address: str) -> dict[str, bytes]:
    files, root = fsspec.core.url_to_fs(address)
    return {path[len(root) + 1 :]: files.cat_file(path) for path in sorted(files.find(root))}


def digests(path: Path) -> set:
    with atlas.open(path) as a:
        return set(a.rows("select * from digests"))


@pytest.fixture(scope="module")
def named(built: Path, tmp_path_factory) -> Path:
    """The atlas of the small networks with a name, an experiment's result, and an index beside."""
    path = tmp_path_factory.mktemp("share") / "named.atlas"
    shutil.copytree(built, path)
    with atlas.open(path) as a:
        query.name_cluster(a, cluster=0, clustering=2, name="fruit | *pips*")
    with atlas.open(path, writable=True) as a:
        archive.save(a, registry.find("occupancy").run(a, network="words"))
    return path


@pytest.fixture(scope="module")
def pushed(named: Path, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place") / "atlas"
    ingest.push(named, str(place), license="CC-BY-4.0", title="Small networks", shard_bytes=SMALL)
    return place


def test_what_is_pulled_is_what_was_pushed(named, pushed, tmp_path):
    """All digests, the names that people gave, and answers; `verify` finds it in order."""
    pulled = ingest.pull(str(pushed), tmp_path / "x.atlas")
    assert digests(tmp_path / "x.atlas") == digests(named) and pulled.examples == 383
    assert (tmp_path / "x.atlas" / "names.jsonl").read_bytes() == (named / "names.jsonl").read_bytes()
    with atlas.open(named) as a, atlas.open(tmp_path / "x.atlas") as b:
        assert query.verify(b)["ok"].all()
        for asked in ({"example": 40, "site": "blocks.3.mlp"}, {"example": 380, "site": "conv1:full"}):
            pd.testing.assert_frame_equal(query.nearest(a, **asked), query.nearest(b, **asked))
        assert a.rows("select started_at from runs order by all") == b.rows(
            "select started_at from runs order by all"
        )
        assert query.cluster_names(b)["name"].tolist() == ["fruit | *pips*"]
    assert not (tmp_path / "x.atlas" / "pulled").exists()
    again = ingest.pull(str(pushed), tmp_path / "x.atlas")
    assert again.files == 1  # the digests, to see that all is there


def test_an_address_is_pulled_to(named, pushed, tmp_path, monkeypatch):
    """An atlas in segments, with the names; nothing lies where the address would be a folder."""
    pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")
    monkeypatch.setenv("POLYTOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    address = f"file://{tmp_path}/lab/x.atlas"
    assert ingest.pull(str(pushed), address).examples == 383
    assert digests(address) == digests(named)
    with atlas.open(address) as a:
        assert a.rows("select name from cluster_names") == [("fruit | *pips*",)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "lab"]


def test_every_table_goes_along(named):
    """What is no table of a push is built again, or says nothing but the version."""
    with atlas.open(named) as a:
        assert {*a.tables()} - {*TABLES} == {"meta", "indexes"}


def test_pushed_again_nothing_is_sent(named, pushed):
    before = content(str(pushed))
    again = ingest.push(named, str(pushed), license="CC-BY-4.0", title="Small networks", shard_bytes=SMALL)
    assert (again.sent, again.sent_bytes) == (0, 0) and again.files == len(before)
    assert again.bytes == sum(map(len, before.values())) and content(str(pushed)) == before
    shards = [path for path in before if path.endswith(".parquet")]
    assert {hashlib.sha256(before[path]).hexdigest() in path for path in shards} == {True}
    assert len([path for path in shards if "activations/site-6" in path]) > 1  # of several files


def test_interrupted_push_ends_the_same(named, pushed):
    """Broken off twice, with a file that is there in part and one of an earlier state: in the end the same bytes."""
    given = {"license": "CC-BY-4.0", "title": "Small networks", "shard_bytes": SMALL}
    for files in (3, 20):
        Flaky.left = files
        with pytest.raises(StoreError, match="the line is dead; what was complete is kept"):
            ingest.push(named, "flaky://atlas", **given)
        with pytest.raises(NotAnAtlas, match="or not yet all of it"):
            ingest.pull("flaky://atlas", named.parent / "never.atlas")
    store, root = fsspec.core.url_to_fs("flaky://atlas")
    whole = next(path for path in store.find(root) if "data/sites/" in path)
    store.pipe_file(whole, store.cat_file(whole)[:100])
    store.pipe_file(f"{root}/data/codes/site-1/00000-{64 * 'a'}.parquet", b"of earlier")
    Flaky.left = 1_000_000
    done = ingest.push(named, "flaky://atlas", **given)
    assert 0 < done.sent < done.files and content("flaky://atlas") == content(str(pushed))


def test_interrupted_pull_goes_on(named, pushed, tmp_path):
    """What was fetched is not fetched again, unless it was cut; until the end the atlas is empty."""
    store, root = fsspec.core.url_to_fs("flaky://whole")
    for path, held in content(str(pushed)).items():
        store.pipe_file(f"{root}/{path}", held)
    Flaky.left = 12
    with pytest.raises(StoreError, match="the line is dead"):
        ingest.pull("flaky://whole", tmp_path / "x.atlas")
    with atlas.open(tmp_path / "x.atlas") as a:
        assert not a.catalog.networks
    fetched = sorted((tmp_path / "x.atlas" / "pulled").iterdir())
    fetched[0].write_bytes(b"cut")
    Flaky.left = 1_000_000
    done = ingest.pull("flaky://whole", tmp_path / "x.atlas")
    total = len(list(pushed.rglob("*.parquet")))
    assert done.files == total - len(fetched) + 1 and digests(tmp_path / "x.atlas") == digests(named)


def damages(place: Path) -> Iterator[tuple[str, str]]:
    """Does one damage after the other, and says what must be said of it."""

    def flip(file: Path) -> bytes:
        held = file.read_bytes()
        file.write_bytes(held[:-9] + bytes([held[-9] ^ 1]) + held[-8:])
        return held

    def rewrite(change) -> bytes:
        held = (place / "atlas.json").read_bytes()
        document = unsealed(held)
        change(document)
        (place / "atlas.json").write_bytes(sealed(document))
        return held

    shard = next((place / "data" / "codes" / "site-5").iterdir())
    manifest = place / "atlas.json"
    held = flip(shard)
    yield f"{shard.name} is not as it was pushed", "remove it and push"
    shard.unlink()
    yield f"not found: .*{shard.name}", ""
    shard.write_bytes(held)
    held = flip(manifest)
    yield "atlas.json is not as it was written", "push the atlas again"
    manifest.write_bytes(held)
    for change, words in (
        (lambda of: of["parts"][0]["shards"][0].update(path="data/networks/../../../etc/passwd"), "which is no file"),
        (
            lambda of: of["parts"][0]["shards"][0].update(path=f"data/meta/00000-{64 * 'a'}.parquet"),
            "which is no file",
        ),
        (lambda of: of["parts"][0]["shards"][0].update(rows=7), "has 3 rows"),
        (lambda of: of["parts"][0].update(table="sites"), "lists no atlas"),
        (lambda of: of.update(parts=of["parts"][1:]), "lacks networks"),
        (lambda of: of.update(parts=3), "lists no atlas"),
    ):
        held = rewrite(change)
        yield words, "push"
        manifest.write_bytes(held)
    # A file that is well formed, under its own digest, and holds other rows than the digests of the atlas say.
    file = next((place / "data" / "clusters").iterdir())
    rows = pq.read_table(file)
    forged = rows.set_column(2, rows.schema.field(2), pa_plus_one(rows.column(2)))
    pq.write_table(forged, file.with_name("forged"))
    digest = hashlib.sha256(file.with_name("forged").read_bytes()).hexdigest()
    new = file.with_name(f"00000-{digest}.parquet")
    file.with_name("forged").rename(new)

    def forge(document) -> None:
        [part] = [part for part in document["parts"] if part["table"] == "clusters"]
        part["shards"] = [{"path": f"data/clusters/{new.name}", "rows": len(rows), "bytes": new.stat().st_size}]

    rewrite(forge)
    yield "clusters, clustering_id 1: size changed", "push the atlas again"


def pa_plus_one(column):
    import pyarrow.compute as pc

    return pc.add(column, 1).cast(column.type)


def test_every_damage_is_named(pushed, tmp_path):
    """Flipped, missing, forged and hostile: one sentence, and no atlas."""
    place = tmp_path / "place"
    shutil.copytree(pushed, place)
    for number, words in enumerate(damages(place)):
        with pytest.raises((DamagedAtlas, StoreError), match=words[0]) as raised:
            ingest.pull(str(place), tmp_path / f"{number}.atlas", indexes=False)
        assert words[1] in str(raised.value)
        if (tmp_path / f"{number}.atlas").exists():
            with atlas.open(tmp_path / f"{number}.atlas") as a:
                assert not a.catalog.networks


def test_places_that_hold_other_things(pushed, built, tmp_path):
    """An unknown address, another README, another version, another atlas."""
    with pytest.raises(UsageError, match="nowhere://x can't be reached"):
        ingest.push(built, "nowhere://x")
    (tmp_path / "README.md").write_text("my thesis")
    with pytest.raises(UsageError, match="something else; give an address where nothing is"):
        ingest.push(built, str(tmp_path))
    with pytest.raises(UsageError, match="holds another atlas already"):
        shutil.copytree(built, tmp_path / "b.atlas")
        ingest.pull(str(pushed), tmp_path / "b.atlas")
    with pytest.raises(UsageError, match="no table 'colours' was pushed there; the tables are networks, sites"):
        ingest.pull(str(pushed), tmp_path / "c.atlas", tables=["colours"])
    shutil.copytree(pushed, tmp_path / "newer")
    document = unsealed((pushed / "atlas.json").read_bytes())
    (tmp_path / "newer" / "atlas.json").write_bytes(sealed({**document, "format": 2, "schema_version": "99"}))
    with pytest.raises(SchemaVersionError, match="pushed with schema version 99"):
        ingest.pull(str(tmp_path / "newer"), tmp_path / "d.atlas")


def test_rot_in_the_source_is_not_pushed(built, tmp_path):
    for number, damage in enumerate(
        (
            "update examples set label = 'other' where example_id = 40",
            "update codes set code = set_bit(code, 3, 1 - get_bit(code, 3)) where site_id = 5 and example_id = 40",
            "delete from spans",
        )
    ):
        path = tmp_path / f"{number}.atlas"
        shutil.copytree(built, path)
        with atlas.open(path, writable=True) as a:
            a.execute(damage)
        with pytest.raises(DamagedAtlas, match="changed since they were written"):
            ingest.push(path, str(tmp_path / f"place {number}"))
        assert not (tmp_path / f"place {number}" / "atlas.json").exists()


def test_only_some_tables_are_an_atlas(pushed, named, tmp_path):
    """With what they rest on, and nothing claims what is not there."""
    sizes = {}
    for name, wanted in (("clusters", ["cluster_labels"]), ("vectors", ["activations"]), ("bare", ["examples"])):
        path = tmp_path / f"{name}.atlas"
        pulled = ingest.pull(str(pushed), path, tables=wanted)
        sizes[name] = pulled.files
        with atlas.open(path) as a:
            assert query.verify(a)["ok"].all()
            if name == "clusters":
                assert len(query.members(a, clustering=2, cluster=0)) and "codes" in pulled.tables
                with pytest.raises(NotStored, match="no activations are stored"):
                    a.activations(a.catalog.target(site="blocks.3.mlp").sites[0])
            else:
                with pytest.raises(NotStored, match="were not ingested"):
                    query.nearest(a, example=40, site="blocks.3.mlp")
    assert ingest.pull(str(pushed), path, tables=wanted).files == 1
    assert sizes["bare"] < sizes["vectors"] and sizes["bare"] < sizes["clusters"]


def test_without_inputs_no_text_leaves(named, tmp_path):
    """No word of any text is in any file, nor a picture; keys, labels and hashes are, and questions are answered."""
    with atlas.open(named) as a:
        texts = [text for (text,) in a.rows("select text from inputs where text is not null")]
        hashes = a.rows("select content_hash from inputs order by input_id")
        nearest = query.nearest(a, example=40, site="blocks.3.mlp")
    ingest.push(named, str(tmp_path / "place"), inputs=False)
    words = {word for text in texts for word in text.split() if re.fullmatch(r"[a-z]+\d+", word)}
    tables = [pq.read_table(file) for file in (tmp_path / "place").rglob("*.parquet")]
    cells = [
        cell
        for table in tables
        for name, column in zip(table.column_names, table.columns, strict=True)
        for cell in column.to_pylist()
        if isinstance(cell, str | bytes) and name != "prediction"  # the network's words
    ]
    said = " ".join(cell for cell in cells if isinstance(cell, str))
    assert len(words) > 20 and not [word for word in words if word in said]
    assert not [cell for cell in cells if isinstance(cell, bytes) and cell[:4] == b"\x89PNG"]
    ingest.pull(str(tmp_path / "place"), tmp_path / "x.atlas")
    with atlas.open(tmp_path / "x.atlas") as a:
        assert query.verify(a)["ok"].all() and not a.value("select count(*) from experiments")
        assert a.rows("select content_hash from inputs order by input_id") == hashes
        same = query.nearest(a, example=40, site="blocks.3.mlp")
        assert same["distance"].tolist() == nearest["distance"].tolist()
        assert same["label"].tolist() == nearest["label"].tolist()
        assert set(same["token"]) <= {key for (key,) in a.rows("select key from dataset_inputs")}
        assert query.passage(a, example=40).text == query.passage(a, example=40).token
        assert query.clusters(a, clustering=2)["samples"].map(len).all()


def test_vectors_stay_behind_as_well(tmp_path):
    """A network of vectors: no number of an input leaves, and a live question says what is lacking."""
    network = PointNetwork()
    rows = [(f"row {i}", "ab"[i % 2], [0.5 + i, -1.25]) for i in range(12)]
    add_vectors(tmp_path / "v.atlas", network, rows)
    ingest.push(tmp_path / "v.atlas", str(tmp_path / "place"), inputs=False)
    ingest.pull(str(tmp_path / "place"), tmp_path / "x.atlas")
    with atlas.open(tmp_path / "x.atlas") as a:
        assert a.value("select count(vector) from inputs") == 0
        site = a.catalog.sites[0].name
        assert query.nearest(a, example=1, site=site)["key"].str.startswith("row").all()


def test_readers_without_us_agree(pushed, named):
    """pandas and DuckDB read the codes as the atlas has them."""
    import duckdb

    with atlas.open(named) as a:
        site = next(site for site in a.catalog.sites if site.name == "blocks.3.mlp")
        ids, codes = a.codes([site])
        _, activations = a.activations(site)
    folder = pushed / "data" / "codes" / f"site-{site.site_id}"
    frame = pd.read_parquet(folder).sort_values("example_id")
    packed = np.frombuffer(b"".join(frame["code"]), np.uint8).reshape(len(frame), -1)
    assert frame["example_id"].tolist() == ids.tolist() and (packed == codes.packed).all()
    counted = duckdb.sql(f"select bit_count(code::bit) from '{folder}/*.parquet' order by example_id").fetchall()
    assert [n for (n,) in counted] == codes.n_active().tolist()
    vectors = pd.read_parquet(str(folder).replace("codes", "activations")).sort_values("example_id")["activation"]
    assert (np.stack(vectors) == activations).all()
    assert pq.read_schema(next(folder.iterdir())).field("code").type.byte_width == site.n_bytes


def test_card_says_what_is_there(pushed, named):
    """Hugging Face's YAML with a configuration a table, whose files exist; names are shown as they are."""
    text = (pushed / "README.md").read_text("utf-8")
    card = yaml.safe_load(text.split("---\n")[1])
    assert card["license"] == "cc-by-4.0" and card["pretty_name"] == "Small networks"
    assert card["size_categories"] == ["n<1K"] and "polytope-atlas" in card["tags"]
    assert all(list(pushed.glob(config["data_files"][0]["path"])) for config in card["configs"])
    assert {"examples", "codes.words.blocks.3.mlp", "activations.pixels.conv1_full"} <= {
        config["config_name"] for config in card["configs"]
    }
    with atlas.open(named) as a:
        assert all(site.codes_digest in text for site in a.catalog.sites if site.n_codes)
        comments = [comment for table, _, _, comment in schema(a).values if table == "examples"]
    assert len(comments) == 14 and all(comment in text.replace("\\", "") for comment in comments)


def test_croissant_lists_every_file(pushed):
    document = json.loads((pushed / "croissant.json").read_bytes())
    listed = {of["@id"]: of["sha256"] for of in document["distribution"] if of["@type"] == "cr:FileObject"}
    assert listed == {
        path: hashlib.sha256(held).hexdigest()
        for path, held in content(str(pushed)).items()
        if path.endswith(".parquet")
    }
    assert document["license"] == "CC-BY-4.0" and document["conformsTo"].endswith("croissant/1.0")
    ids = {of["@id"] for of in document["distribution"]}
    for records in document["recordSet"]:
        for field in records["field"]:
            source = field["source"].get("fileSet") or field["source"]["fileObject"]
            assert source["@id"] in ids and field["description"].endswith((".", ")"))


def test_reader_of_the_format_page_agrees(pushed, named, monkeypatch):
    """The reader in docs/FORMAT.md, of no more than 30 lines, finds what `query.nearest` finds."""
    page = (Path(__file__).parents[3] / "docs" / "FORMAT.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(code.strip().splitlines()) <= 30 and "import atlas" not in code
    reader: dict = {}
    exec(code, reader)
    ids, gates = reader["read_codes"](pushed, "words", "blocks.3.mlp")
    with atlas.open(named) as a:
        held, codes = a.codes([next(site for site in a.catalog.sites if site.name == "blocks.3.mlp")])
        assert ids.tolist() == held.tolist() and (gates == codes.unpack()).all()
        nearest = query.nearest(a, example=40, site="blocks.3.mlp", k=5)
    found, distances = reader["nearest"](ids, gates, example=40, k=5)
    assert found.tolist() == nearest["example_id"].tolist() and distances.tolist() == nearest["distance"].tolist()
    assert SplineCodes.pack(gates).n_bits == codes.n_bits
