"""What is asked of an atlas has the same answer from tables, from 1 or 3 segments, and from 3 at S3."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas import Atlas
from atlas.errors import SqlError
from atlas.search.joined import JoinedIndex
from atlas.store.buckets import Bucket
from atlas.store.segmented import SegmentedAtlas
from ingest.derived.clusters import cluster
from ingest.derived.indexes import build_indexes
from query.neighbors.indexes import flat_index
from tests import object_store
from tests.atlases import add_texts
from tests.networks import word_network, word_texts
from tests.query.store.test_queries import ATTACKS

pytestmark = pytest.mark.slow

SEGMENTS = (1, 3)
"""In folders. A copy of the last lies at S3."""


@pytest.fixture(scope="module")
def at_s3(segmented: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the same in segments."""
    with object_store.copied(segmented(SEGMENTS[-1]), tmp_path_factory.mktemp("cache")) as address:
        yield address


@pytest.fixture(scope="module")
def forms(built: Path, segmented: Callable[[int], Path], at_s3: str) -> Iterator[list[Atlas]]:
    """Tables, then segments, then such at S3."""
    opened = [atlas.open(path) for path in (built, *map(segmented, SEGMENTS), at_s3)]
    yield opened
    for a in opened:
        a.close()


SPYING = (
    "from duckdb_views()",
    "from duckdb_columns()",
    "select getvariable('code_files')",
    "explain analyze from codes",
    "from read_parquet('atlas://segments/none.parquet')",
    "from read_blob('s3://lab/x')",
    "from duckdb_variables()",
    "select current_database(), current_schema(), current_query()",
    "from read_blob('atlas://versions/000001.json')",
)
"""What would say where something lies."""

QUESTIONS: dict[str, Callable[[Atlas], pd.DataFrame]] = {
    "nearest": lambda a: query.nearest(a, example=40, site="blocks.2.mlp", k=30),
    "with itself": lambda a: query.nearest(a, example=371, site="blocks.0.mlp", include_self=True, k=200),
    "everyone": lambda a: query.nearest(a, example=40, site="blocks.1.mlp", radius=16),
    "within": lambda a: query.nearest(a, example=140, site="blocks.3.mlp", radius=2),
    "outside": lambda a: query.nearest(a, example=40, site="blocks.2.mlp", outside=True),
    "filtered": lambda a: query.nearest(a, example=40, site="blocks.2.mlp", where="position > 3", k=20),
    "a few of the last": lambda a: query.nearest(a, example=40, site="blocks.2.mlp", where="example_id > 360", k=5),
    "jaccard": lambda a: query.nearest(a, example=40, site="blocks.2.mlp", metric="jaccard"),
    "span with an index": lambda a: query.nearest(a, example=40, span="blocks.0.mlp->"),
    "span without": lambda a: query.nearest(a, example=40, span="blocks.2.mlp->"),
    "many": lambda a: query.nearest_many(a, examples=[12, 131, 132, 371], site="blocks.2.mlp", k=7),
    "clusters": lambda a: query.clusters(a, clustering=2),
    "sql": lambda a: query.sql(
        a, "select site, avg(is_on(code, 3)::int) as share from spline_codes group by all order by 1"
    ),
    "info": lambda a: query.info(a, polytopes=True)["sites"],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_equal(forms: list[Atlas], question: str) -> None:
    expected, *answers = (QUESTIONS[question](a) for a in forms)
    assert len(expected)
    for answer in answers:
        pd.testing.assert_frame_equal(answer, expected)
        assert answer.attrs == expected.attrs


def test_segments_are_searched_one_by_one(forms: list[Atlas]) -> None:
    """Each has an index file of its own, and all are found in order."""
    for a, n in zip(forms[1:], (*SEGMENTS, SEGMENTS[-1]), strict=True):
        index = flat_index(a, a.catalog.target(site="blocks.2.mlp"))
        assert isinstance(index, JoinedIndex) and len(index.joined) == n and len(index) == 360
        assert np.array_equal(index.ids, np.arange(12, 372))
        places = np.array([0, 119, 120, 359])
        assert np.array_equal(index.codes(places).packed, index.packed[places])


def test_segments_are_in_order(forms: list[Atlas]) -> None:
    """Those of a folder, file by file; at S3, where each look costs a request, smaller ones are looked at
    (test_commits_at_s3)."""
    for a in forms[1:-1]:
        found = query.verify(a)
        assert found["ok"].all(), found[~found["ok"]]
        checked = found[found["check"] == "file is as it was written"]["subject"]
        assert isinstance(a, SegmentedAtlas) and set(checked) == {file.name for file in a.version.files}


def test_sql_is_refused_in_all_forms(forms: list[Atlas], at_s3: str) -> None:
    """What is hostile is refused at S3 too, and nothing that SQL is told names the store, its keys or the cache."""
    a, told = forms[-1], list[str]()
    for attack in [*ATTACKS, *SPYING]:
        try:
            found = query.sql(a, attack)
            assert attack in SPYING, attack
            told.append(found.to_string())
        except SqlError as error:
            assert attack in SPYING or re.search(r"read-only|own tables|one query at a time", str(error)), attack
            told.append(str(error))
    bucket = at_s3.split("/")[2]
    hidden = (bucket, "127.0.0.1", "hidden-word", "nobody", os.environ["AWS_ENDPOINT_URL"], str(a.path))
    assert not [(word, text) for text in told for word in hidden if word in text]
    assert sorted(Bucket(at_s3).names("versions"))[-1] == f"{a.version.number:06d}.json"


def test_ivf_of_segments_finds_the_same(segmented: Callable[[int], Path], built: Path, tmp_path: Path) -> None:
    """Each segment has a file of its own; asked to find all, they answer as the exact one; an append adds a file."""
    path, site = Path(shutil.copytree(segmented(3), tmp_path / "a.atlas")), "blocks.2.mlp"
    [index] = build_indexes(path, targets=[site], kind="ivf", recall=1.0)
    assert index.n_codes == 360 and index.recall == 1.0
    add_texts(path, word_network(), word_texts(8, seed=5), dataset="more")
    with atlas.open(path) as a:
        files = [file for file in a.version.indexes if "@ivf" in file.name and site in file.name]
        assert len(files) == 4
        for example in (12, 140, 371, 390):
            near = query.nearest(a, example=example, site=site, k=12)
            exact = query.nearest(a, example=example, site=site, k=12, exact=True)
            assert not near.attrs["exact_search"] and exact.attrs["exact_search"]
            assert "measured on 204 stored codes" in near.attrs["search_note"]  # half of what is there now
            assert near["distance"].tolist() == exact["distance"].tolist()
        assert query.verify(a)["ok"].all()


def test_segments_are_clustered_as_tables(segmented: Callable[[int], Path], built: Path, tmp_path: Path) -> None:
    """By parts, and by a sample in whose clusters the others are placed."""
    rows = (
        "select label, probability, core_distance, placed from cluster_labels where clustering_id = $1 order by all"
    )
    answers = []
    for name, form in (("tables", built), ("segments", segmented(3))):
        path = Path(shutil.copytree(form, tmp_path / name))
        for how in ({"parts": True}, {"sample": 200, "place": True}):
            number = cluster(path, site="blocks.1.mlp", **how)
            with atlas.open(path) as a:
                answers.append(a.rows(rows, [number]))
    assert answers[:2] == answers[2:] and len(answers[0]) == 360
