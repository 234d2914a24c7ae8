"""What runs that are stopped are held against."""

from pathlib import Path

import pytest

from tests.ingest.runs import small_run, small_texts, tables


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that a small run reads in three shards."""
    return small_texts(tmp_path_factory.mktemp("texts") / "words")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, str]:
    """What a run's tables hold that nothing stopped."""
    path = tmp_path_factory.mktemp("undisturbed") / "a"
    small_run(path, data)
    return tables(path)


@pytest.fixture(scope="module")
def unclustered(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, str]:
    """The same of a run that clusters nothing, and takes half of the time."""
    path = tmp_path_factory.mktemp("unclustered") / "a"
    small_run(path, data, cluster=False)
    return tables(path)
