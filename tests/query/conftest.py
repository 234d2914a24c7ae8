"""The atlas of the small networks, opened, and copies for tests that do damage."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import atlas
from atlas.store.atlas import Atlas
from tests.networks import PixelNetwork, WordReader, plane_network, word_network


@pytest.fixture(scope="module")
def a(built: Path) -> Iterator[Atlas]:
    """Opened once a file: that, and to read what sites there are, takes longer than most questions."""
    with atlas.open(built) as opened:
        yield opened


@pytest.fixture
def damaged(built: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the atlas on which statements were run."""

    def copy(*statements: str) -> Path:
        path = tmp_path / "damaged.atlas"
        shutil.copytree(built, path)
        if statements:
            with atlas.open(path, writable=True) as writer:
                for statement in statements:
                    writer.execute(statement)
        return path

    return copy


@pytest.fixture(scope="session")
def plane() -> WordReader:
    return plane_network()


@pytest.fixture(scope="session")
def words() -> WordReader:
    return word_network()


@pytest.fixture(scope="session")
def pixels() -> PixelNetwork:
    return PixelNetwork()
