"""What is asked of an atlas has the same answer whether it keeps its codes in tables, or in 1, 3 or 8 segments."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas import Atlas
from atlas.search.joined import JoinedIndex
from atlas.store.segmented import SegmentedAtlas
from query.neighbors.indexes import flat_index

SEGMENTS = (1, 3, 8)


@pytest.fixture(scope="module")
def forms(built: Path, segmented: Callable[[int], Path]) -> Iterator[list[Atlas]]:
    """Tables, then segments."""
    opened = [atlas.open(path) for path in (built, *map(segmented, SEGMENTS))]
    yield opened
    for a in opened:
        a.close()


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
    for a, n in zip(forms[1:], SEGMENTS, strict=True):
        index = flat_index(a, a.catalog.target(site="blocks.2.mlp"))
        assert isinstance(index, JoinedIndex) and len(index.joined) == n and len(index) == 360
        assert np.array_equal(index.ids, np.arange(12, 372))
        places = np.array([0, 119, 120, 359])
        assert np.array_equal(index.codes(places).packed, index.packed[places])


def test_segments_are_in_order(forms: list[Atlas]) -> None:
    for a in forms[1:]:
        found = query.verify(a)
        assert found["ok"].all(), found[~found["ok"]]


def test_files_of_segments_are_verified(segmented: Callable[[int], Path]) -> None:
    with atlas.open(segmented(3)) as a:
        assert isinstance(a, SegmentedAtlas)
        found = query.verify(a)
        checked = found[found["check"] == "file is as it was written"]["subject"]
        assert set(checked) == {file.name for file in a.version.files}
