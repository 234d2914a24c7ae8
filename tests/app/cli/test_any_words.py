"""Whatever is typed, and whatever file is given, a command ends with a message and a status that it knows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.datasets.base import BadItem, Item
from tests.app.cli.command import Run
from tests.campaign.words import FILES, command_lines, write

SMALL_BUDGET = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def theirs(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An atlas that the commands may change, in a folder where they may write."""
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Path(shutil.copytree(built, folder / "three.atlas"))


@pytest.mark.slow
@SMALL_BUDGET
@given(line=command_lines())
def test_any_words_end_in_a_message(line: list[str], theirs: Path, polytope: Run):
    answer = polytope(*({"ATLAS": theirs, "NOWHERE": theirs / "none"}.get(word, word) for word in line))
    assert answer.status in (0, 1, 2), answer.err
    assert "Traceback" not in answer.err and (answer.status == 0 or answer.err.strip())


@SMALL_BUDGET
@given(data=st.data())
@pytest.mark.parametrize("suffix", FILES)
def test_any_file_is_read_or_refused(suffix: str, data: st.DataObject, tmp_path: Path):
    """Every input of it is an item or has a reason why it is none; or the file as a whole is refused."""
    path = write(tmp_path, suffix, data.draw(FILES[suffix].content))
    found = list(FILES[suffix].read(path))
    assert found and all(isinstance(one, Item | BadItem) or str(one) for one in found)


KNOWN = {
    "no cluster at all": (
        ["cluster", "ATLAS", "--site", "blocks.3.mlp", "--min-cluster-size", "350"],
        0,
        "no cluster",
    ),
    "half a character": (["sql", "ATLAS", "select \udcff"], 1, "character 8 of the query"),
    "a comment first": (["sql", "ATLAS", "-- how many\nselect count(*) as n from codes"], 0, "n"),
    "codes of two sites": (
        [
            "sql",
            "ATLAS",
            "select hamming(a.code, b.code) from codes a, codes b where a.site_id = 1 and b.site_id = 5",
        ],
        1,
        "keep to one site",
    ),
    "a gate that is none": (["sql", "ATLAS", "select is_on(code, 100000) as gate from codes limit 1"], 0, "–"),
}


@pytest.mark.parametrize("what", KNOWN)
def test_what_once_failed_is_answered(what: str, theirs: Path, polytope: Run):
    line, status, said = KNOWN[what]
    answer = polytope(*(theirs if word == "ATLAS" else word for word in line))
    assert answer.status == status and said in answer.out + answer.err
    assert polytope("clusters", theirs, "--site", "blocks.3.mlp").status == 0


def test_a_question_mark_is_refused(tmp_path: Path, built: Path, polytope: Run):
    """DuckDB takes it for the options of an address, and would look for the journal elsewhere."""
    path = shutil.copytree(built, tmp_path / "wh?t.atlas")
    assert polytope("info", path).refuses("question mark")
