"""Atlases that many experiments ask, to read: built once for all processes of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas import Atlas
from tests.atlases import built_once
from tests.query.experiments.tailed import TailedReader, digit_atlas, plane_atlas, plane_reader


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Atlas, dict[str, int], TailedReader]]:
    """The atlas of all 49 points, the ids of its examples by word, and its network."""
    path = built_once(tmp_path_factory, "plane.atlas", plane_atlas)
    with atlas.open(path) as a:
        yield a, dict(a.rows("select token, example_id from examples")), plane_reader()


@pytest.fixture(scope="session")
def digits_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first digits, read by the demo's InceptionV1."""
    return built_once(tmp_path_factory, "digits.atlas", digit_atlas)
