"""The explorer shows the same of an atlas in tables, in segments and at S3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests import object_store
from tests.app.explorer.running import opened, words

pytestmark = pytest.mark.slow

PLACES = {
    "start": {},
    "look": {"example": 40},
    "between": {"pin": [40, 140]},
    "atlas": {},
    "neurons": {},
    "cluster": {"cluster": 1},
    "claims": {},
    "sql": {
        "query": "select label, avg(is_on(code, 3)::int) as on_rate from spline_codes group by all order by 1",
        "timeout": 300,
    },
}
"""Places, with what their addresses say."""


@pytest.fixture(scope="module")
def forms(
    built: Path, segmented: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """Where the same atlas lies: in tables, in three segments, in such at S3."""
    with object_store.copied(segmented(3), tmp_path_factory.mktemp("cache")) as address:
        yield [str(built), str(segmented(3)), address]


def shown(app: AppTest, place: str) -> tuple[str, list[str], list[str]]:
    """All words, code, tables and errors of a page, without where the atlas lies."""
    text = "\n".join([words(app), *(code.value for code in app.code)])
    for name in (place, Path(place).name):
        text = text.replace(name, "ATLAS")
    tables = [table.value.to_csv() for table in app.dataframe]
    return re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", text), tables, [error.value for error in app.error]


@pytest.mark.parametrize("page", PLACES)
def test_places_show_the_same_of_all(page: str, forms: list[str]) -> None:
    address = {"network": "words", "target": "blocks.3.mlp"} | PLACES[page]
    expected, *others = (shown(opened(Path(place), page, **address), place) for place in forms)
    assert len(expected[0]) > 100 and not expected[2]
    assert others == [expected, expected]
