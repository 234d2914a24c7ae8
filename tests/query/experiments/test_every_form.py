"""Experiments have the same results on an atlas in tables, and in segments at S3; `test_forms` has a folder's too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import atlas
from atlas import Atlas
from ingest.derived.clusters import cluster
from ingest.sharing.convert import convert
from query.experiments.registry import EXPERIMENTS, find, run
from tests import object_store
from tests.query.experiments.tailed import NormedReader, TailedReader, plane_reader

pytestmark = pytest.mark.slow

pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")

GIVEN: dict[str, Any] = {
    "site": "hidden",
    "span": "embed->",
    "a": 3,
    "b": 20,
    "c": 41,
    "unit": 1,
    "cluster": 0,
    "components": 2,
    "units": 6,
    "size": 12,
    "lines": 12,
    "checks": 4,
    "resamples": 20,
}
"""What is asked, of whatever an experiment can be asked."""


@pytest.fixture(scope="module")
def forms(
    plane: tuple[Atlas, dict[str, int], TailedReader], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Atlas, Atlas]]:
    """49 points in tables, and at S3 in segments of 20 examples."""
    tables = shutil.copytree(plane[0].path, tmp_path_factory.mktemp("clustered") / "plane.atlas")
    for site in ("hidden", "out"):
        cluster(tables, site=site, min_cluster_size=3)
        cluster(tables, site=site, space="activations", min_cluster_size=3)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.environment(object_store.endpoint()).items():
            patch.setenv(name, value)
        patch.setenv("POLYTOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        place = f"{object_store.new_bucket()}/a.atlas"
        convert(tables, place, segment_examples=20)
        with atlas.open(tables) as of_tables, atlas.open(place) as of_segments:
            yield of_tables, of_segments


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_results_are_those_of_tables(forms: tuple[Atlas, Atlas], name: str) -> None:
    experiment = find(name)
    asked = experiment.quick | GIVEN
    options = {option: value for option, value in asked.items() if option in experiment.fields}
    if name == "dictionary":  # of a span or of a site
        del options["span"]
    if experiment.live:
        options["reader"] = plane_reader(kind=NormedReader)
    expected, result = (run(a, name, **options) for a in forms)
    assert any(len(table) for table in expected.tables.values())
    assert result.parameters == expected.parameters and result.tables.keys() == expected.tables.keys()
    for table, rows in expected.tables.items():
        pd.testing.assert_frame_equal(result.tables[table], rows)
