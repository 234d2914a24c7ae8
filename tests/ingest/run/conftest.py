"""What runs that are stopped, and those that add to an atlas, are held against."""

import shutil
from pathlib import Path

import pytest

from tests.ingest.runs import small_run, small_texts, tables


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that a small run reads in three shards; not to be written."""
    return small_texts(tmp_path_factory.mktemp("texts") / "words")


@pytest.fixture(scope="session")
def clustered(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The atlas of a run that nothing stopped, to read."""
    path = tmp_path_factory.mktemp("clustered") / "a"
    small_run(path, data)
    return path


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The same of a run that clusters nothing, and takes less time."""
    path = tmp_path_factory.mktemp("published") / "a"
    small_run(path, data, cluster=False)
    return path


@pytest.fixture(scope="session")
def undisturbed(clustered: Path) -> dict[str, str]:
    return tables(clustered)


@pytest.fixture(scope="session")
def unclustered(published: Path) -> dict[str, str]:
    return tables(published)


@pytest.fixture
def path(tmp_path: Path, published: Path) -> Path:
    """A copy of the atlas of such a run, to add to."""
    return Path(shutil.copytree(published, tmp_path / "a"))
