"""Maps that are stored: where everybody lies, who lies in a part, and the file that another tool opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import atlas
import query
from atlas.errors import UnknownName, UsageError
from atlas.search.hamming_index import hamming_matrix
from atlas.store.atlas import Atlas
from atlas.store.digests import seal
from query.clustering.clusterings import latest_clustering
from query.layout.embedding_atlas import export_embedding_atlas
from query.layout.layouts import layout_columns, layout_of
from query.layout.placing import NEAREST as NEAREST_PLACED
from query.layout.placing import placed_on
from query.layout.regions import Region, region_counts
from tests.networks import WordReader, word_texts

SITE, NEAREST = "blocks.3.mlp", 4


@pytest.fixture(scope="module")
def path(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas with two maps, of words and of images, on which everyone has a place drawn at random."""
    path = tmp_path_factory.mktemp("layouts") / "mapped.atlas"
    shutil.copytree(built, path)
    rng = np.random.default_rng(0)
    with atlas.open(path, writable=True) as a, a.transaction():
        for number, (network, site) in enumerate((("words", SITE), ("pixels", "conv2")), start=1):
            target = a.catalog.target(site=site, network=network)
            ids, codes = a.codes(target.sites)
            apart = hamming_matrix(codes, codes).astype(float)
            np.fill_diagonal(apart, np.inf)
            near = np.argsort(apart, axis=1, kind="stable")[:, :NEAREST]
            layout = {
                "layout_id": number,
                "network_id": target.network.network_id,
                "target": site,
                "space": "codes",
                "metric": "hamming",
                "algorithm": "umap",
                "neighbors": NEAREST,
                "min_dist": 0.1,
                "epochs": 1,
                "seed": 0,
                "proven": 1.0,
                "n_examples": len(ids),
                "data_digest": target.digest,
            }
            xy = rng.uniform(-10, 10, (len(ids), 2)).astype(np.float32)
            points = {
                "layout_id": [number] * len(ids),
                "example_id": ids,
                "x": xy[:, 0],
                "y": xy[:, 1],
                "neighbors": list(ids[near].astype(np.uint32)),
                "distances": list(np.take_along_axis(apart, near, axis=1).astype(np.float32)),
            }
            a.insert("layouts", pa.Table.from_pylist([layout]))
            a.insert("layout_points", pa.table(points))
            seal(a, layout_id=number)
    return path


@pytest.fixture
def mapped(path: Path) -> Iterator[Atlas]:
    with atlas.open(path) as opened:
        yield opened


def inside(frame: pd.DataFrame, corners: list[tuple[float, float]]) -> np.ndarray:
    """Which points lie in a polygon, by the angle that its edges turn around each of them."""
    points = frame[["x", "y"]].to_numpy(np.float64)
    ends = np.array(corners)[None] - points[:, None]
    turned = np.angle(ends[..., 0] + 1j * ends[..., 1])
    steps = (np.diff(np.concatenate([turned, turned[:, :1]], axis=1), axis=1) + np.pi) % (2 * np.pi) - np.pi
    return np.abs(steps.sum(axis=1)) > np.pi


def test_a_map_places_everybody(mapped: Atlas):
    """And says how near their neighbours are, and of which label and cluster each is."""
    clustering = latest_clustering(mapped, mapped.catalog.target(site=SITE)).clustering_id
    found = query.layout_points(mapped, 1, clustering=clustering)
    truth = mapped.frame(
        """
        select example_id, x, y, examples.label, cluster_labels.label as cluster, distances
        from layout_points join examples using (example_id) join cluster_labels using (example_id)
        where layout_id = 1 and clustering_id = $1 order by example_id
        """,
        [clustering],
    )
    same = ["example_id", "x", "y", "label", "cluster"]
    pd.testing.assert_frame_equal(found[same].astype(object), truth[same].astype(object))
    np.testing.assert_allclose(found["distance"], np.stack(truth["distances"]).mean(axis=1), rtol=1e-6)
    assert "cluster" not in query.layout_points(mapped, 1)


def test_a_box_holds_who_lies_in_it(mapped: Atlas):
    points = query.layout_points(mapped, 1)
    expected = points[points["x"].between(-3, 4) & points["y"].between(-5, 6)]["example_id"].tolist()
    found = query.layout_examples(mapped, 1, (4, 6, -3, -5))
    assert found["example_id"].tolist() == expected and found.attrs["size"] == len(expected)
    assert query.sql(mapped, found.attrs["sql"], limit=1000)["example_id"].tolist() == expected
    second = query.layout_examples(mapped, 1, (4, 6, -3, -5), limit=10, offset=10)
    after = query.layout_examples(mapped, 1, (4, 6, -3, -5), limit=10, after=int(found["example_id"][9]))
    pd.testing.assert_frame_equal(after, second)
    assert after.attrs == second.attrs
    assert second["example_id"].tolist() == expected[10:20] and second.attrs["size"] == len(expected)
    assert {"token", "context", "label", "prediction"} <= set(second.columns)


def test_a_polygon_holds_who_lies_inside_it(mapped: Atlas):
    star = [
        (round(r * np.cos(t), 3), round(r * np.sin(t), 3))
        for t, r in zip(np.linspace(0, 2 * np.pi, 14, endpoint=False), [9, 3] * 7, strict=True)
    ]
    points = query.layout_points(mapped, 1)
    expected = points["example_id"][inside(points, star)].tolist()
    found = query.layout_examples(mapped, 1, [number for corner in star for number in corner])
    assert 20 < len(expected) < 200 and found["example_id"].tolist() == expected
    assert query.sql(mapped, found.attrs["sql"], limit=1000)["example_id"].tolist() == expected


def test_a_region_is_what_its_text_says(mapped: Atlas):
    region = Region.of((1.23456, -2, 3, 4.5))
    assert Region.parse(str(region)) == region and str(region) == "1.235,-2,3,4.5"
    assert Region.of([0, 0, 1, 0, 1, 1]).bounds == (0, 0, 1, 1)
    for text in ("1,2,3", "1,2", "1,2,3,x", "1,2,3,nan", "1e999,0,1,1", ",".join("1" * 202)):
        with pytest.raises(UsageError, match="a region of a map is"):
            Region.parse(text)


def test_a_region_against_the_whole_map(mapped: Atlas):
    target = mapped.catalog.target(site=SITE)
    clustering = latest_clustering(mapped, target).clustering_id
    points = query.layout_points(mapped, 1, clustering=clustering)
    here = points[points["x"].between(0, 10) & points["y"].between(0, 10)]
    found = region_counts(mapped, 1, Region.of((0, 0, 10, 10)), clustering=clustering)
    labels = found[found["what"] == "label"].set_index("name", drop=False)
    assert int(labels["n"].sum()) == len(here) and found["n"].min() > 0
    for name, n in here["label"].value_counts().items():
        share = (points["label"] == name).mean()
        assert labels.loc[name, "n"] == n and labels.loc[name, "lift"] == pytest.approx(n / len(here) / share)
    clusters = found[found["what"] == "cluster"]
    counts = here["cluster"].map(lambda label: "noise" if label < 0 else str(label)).value_counts()
    assert dict(zip(clusters["name"], clusters["n"], strict=True)) == counts.to_dict()


def test_what_is_not_there_is_named(mapped: Atlas):
    with pytest.raises(UnknownName, match=r"no layout 9 in .*; it holds 1, 2"):
        query.layout_points(mapped, 9)
    missing = mapped.catalog.target(site="blocks.1.mlp")
    with pytest.raises(UnknownName, match=r"polytope layout .* --site blocks\.1\.mlp --network words. makes one"):
        layout_of(mapped, missing)
    of_words = latest_clustering(mapped, mapped.catalog.target(site=SITE)).clustering_id
    with pytest.raises(UsageError, match="is of network words, but the question is about pixels"):
        query.layout_points(mapped, 2, clustering=of_words)
    with pytest.raises(UsageError, match="limit is 0"):
        query.layout_examples(mapped, 1, (0, 0, 1, 1), limit=0)


def test_rows_of_an_export_name_each_other(mapped: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("query.layout.embedding_atlas.ROWS", 100)  # several row groups
    written = export_embedding_atlas(mapped, tmp_path / "words.parquet", site=SITE)
    table = pd.read_parquet(tmp_path / "words.parquet")  # as the tool itself reads it
    points = query.layout_points(mapped, 1, clustering=written.clustering)
    assert written.n_examples == len(table) == 360
    assert written.command[-4:] == ["--text", "text", "--neighbors", "neighbors"]
    assert pq.ParquetFile(tmp_path / "words.parquet").num_row_groups == 4
    for name in ("example_id", "x", "y", "distance"):
        np.testing.assert_array_equal(table[name], points[name])
    near = np.stack([row["ids"] for row in table["neighbors"]])
    far = np.stack([row["distances"] for row in table["neighbors"]])
    assert near[:, 0].tolist() == list(range(360)) and (far[:, 0] == 0).all()
    stored = mapped.frame("select neighbors, distances from layout_points where layout_id = 1 order by example_id")
    ids = table["example_id"].to_numpy()
    assert ids[near[:, 1:]].tolist() == np.stack(stored["neighbors"]).tolist()
    assert far[:, 1:].tolist() == np.stack(stored["distances"]).tolist()
    shown = query.layout_examples(mapped, 1, (-10, -10, 10, 10))
    for name, column in (("text", "context"), ("token", "token"), ("prediction", "prediction")):
        assert table[name].tolist() == shown[column].tolist()
    assert set(table["cluster"]) == {"noise" if c < 0 else str(c) for c in points["cluster"]}
    assert [path.name for path in tmp_path.iterdir()] == ["words.parquet"]


def test_an_export_holds_bytes_of_images(mapped: Atlas, tmp_path: Path):
    written = export_embedding_atlas(mapped, tmp_path / "pixels.parquet", layout=2)
    assert written.command[6:] == ["--image", "image", "--neighbors", "neighbors"]
    table = pd.read_parquet(tmp_path / "pixels.parquet")
    assert all(row["bytes"].startswith(b"\x89PNG") for row in table["image"])
    assert [row["path"] for row in table["image"]] == table["key"].tolist()


def test_a_failed_export_leaves_the_file(mapped: Atlas, tmp_path: Path):
    file = tmp_path / "words.parquet"
    file.write_bytes(b"before")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_embedding_atlas(mapped, file, site=SITE, progress=stop)
    assert file.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UsageError, match=r"the file is to be called .*\.parquet"):
        export_embedding_atlas(mapped, tmp_path / "words.csv", site=SITE)
    with pytest.raises(UsageError, match="there is no folder"):
        export_embedding_atlas(mapped, tmp_path / "none" / "words.parquet", site=SITE)


def test_a_damaged_map_is_found(path: Path, tmp_path: Path):
    copy = tmp_path / "damaged.atlas"
    shutil.copytree(path, copy)
    with atlas.open(copy, writable=True) as a:
        assert query.verify(a)["ok"].all()
        a.execute("delete from layout_points where layout_id = 1 and example_id = 40")
        a.execute("update layout_points set x = 'nan' where layout_id = 2 and example_id % 2 = 0")
    with atlas.open(copy) as a:
        checks = query.verify(a)
    failed = checks[~checks["ok"]].groupby("check")["detail"].agg(list)
    assert failed.index.tolist() == ["layouts place each example", "rows are as they were written"]
    first, second = failed["layouts place each example"]
    assert "there are 359" in first and "6 of them have no place" in second
    assert failed["rows are as they were written"] == [
        "360 rows were written, there are 359",
        "x changed since it was written",
    ]


@pytest.mark.parametrize("what", ["cluster", "label", "distance"])
def test_columns_of_a_map_are_its_points(mapped: Atlas, what: str):
    clustering = latest_clustering(mapped, mapped.catalog.target(site=SITE, network="words")).clustering_id
    points = query.layout_points(mapped, 1, clustering=clustering)
    columns = layout_columns(mapped, 1, what=what, clustering=clustering)
    assert list(columns) == ["example_id", "x", "y", what]
    for name, values in columns.items():
        assert pd.Series(values).dropna().tolist() == points[name].dropna().tolist()


def test_a_text_lies_beside_its_nearest(mapped: Atlas, words: WordReader):
    """At the middlemost of them on the map, whose place it takes."""
    text = word_texts()[3][2]
    place = placed_on(mapped, 1, text=text, reader=words)
    near = query.nearest(mapped, text=text, site=SITE, network="words", k=NEAREST_PLACED, reader=words)
    assert list(place.examples) == near["example_id"].tolist() and list(place.distances) == near["distance"].tolist()
    points = query.layout_points(mapped, 1).set_index("example_id")[["x", "y"]]
    held = points.loc[list(place.examples)]
    apart = {one: np.hypot(*(held - held.loc[one]).to_numpy().T).sum() for one in place.examples}
    assert apart[place.beside] == pytest.approx(min(apart.values()))
    assert (place.x, place.y) == tuple(points.loc[place.beside])
