"""An atlas that grew, to hold others against."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.atlases import add_texts, built_once
from tests.networks import word_network, word_texts


@pytest.fixture(scope="session")
def more() -> Callable[[Path], None]:
    """A function that adds eight texts to an atlas of the three small networks."""

    def add(path: Path) -> None:
        add_texts(path, word_network(), word_texts(8, seed=5), dataset="more", spans=("blocks.0.mlp->",))

    return add


@pytest.fixture(scope="session")
def grown(built: Path, more: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That atlas with them, in tables, to read."""

    def build(part: Path) -> None:
        shutil.copytree(built, part)
        more(part)

    return built_once(tmp_path_factory, "grown.atlas", build)
