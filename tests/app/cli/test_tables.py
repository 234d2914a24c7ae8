"""Tables on a terminal: nothing wider than it, no number torn apart, every mean beside its interval."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from app.cli.progress import TerminalProgress
from app.cli.tables import beside_intervals, note, say, show
from app.plain_text import SIGNS
from tests.app.cli.command import Run


def printed(frame: pd.DataFrame, width: int) -> list[str]:
    out = io.StringIO()
    show(frame, "a title", Console(file=out, width=width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_columns_that_do_not_fit_stand_below(width: int):
    rng = np.random.default_rng(0)
    names = [f"column_{number}" for number in range(15)]
    frame = pd.DataFrame(rng.integers(10**6, 10**7, (3, 15)), columns=names)
    lines = printed(frame, width)
    assert max(map(len, lines)) <= width
    heads = [line.split() for line in lines if "column_0" in line]
    assert [name for head in heads for name in head if name != "column_0"] == names[1:]
    assert all(head[0] == "column_0" for head in heads) and len(heads) == {40: 7, 80: 3, 160: 2}[width]
    numbers = [int(word) for line in lines for word in line.split() if word.isdigit()]
    assert sorted(set(numbers)) == sorted(set(frame.to_numpy().ravel().tolist()))


def test_each_part_tells_its_rows_apart():
    """By the columns that it begins with."""
    frame = pd.DataFrame({"network": ["a", "a"], "site": ["s", "t"]} | {f"number_{i}": [i, i] for i in range(12)})
    heads = [line.split()[:2] for line in printed(frame, 60) if "network" in line]
    assert len(heads) > 1 and all(head == ["network", "site"] for head in heads)
    wide = frame.assign(network=["a long name of a network"] * 2)
    heads = [line.split()[0] for line in printed(wide, 50) if "site" in line]
    assert len(heads) > 1 and set(heads) == {"site"}
    alike = [line.split()[:2] for line in printed(frame.assign(site="s"), 60) if "network" in line]
    assert len(alike) > 1 and alike[1] != ["network", "site"]


def test_words_fold_before_a_table_is_split():
    frame = pd.DataFrame({"rank": [1], "words": ["one two three four five six seven eight"], "distance": [123456]})
    lines = printed(frame, 45)
    assert [line.split() for line in lines if "rank" in line] == [["rank", "words", "distance"]]
    assert max(map(len, lines)) <= 45 and any("eight" in line for line in lines)


def test_a_context_takes_the_room_left_over():
    text = " ".join(f"w{number}" for number in range(60))
    token, offset = " w30", text.index(" w30")
    row = {"rank": 1, "context": text, "context_offset": offset, "token": token, "label": "a"}
    narrow, wide = (printed(pd.DataFrame([row]), width) for width in (60, 140))
    for lines, width in ((narrow, 60), (wide, 140)):
        [line] = [line for line in lines if f"«{token}»" in line]
        assert len(line) <= width
    assert len(max(wide, key=len)) > len(max(narrow, key=len))


def test_numbers_of_a_list_are_short():
    [line] = [line for line in printed(pd.DataFrame({"x": [[1 / 3, 2.0, None]]}), 80) if "[" in line]
    assert line.strip() == "[0.3333, 2, –]"


def test_a_number_stands_beside_its_interval():
    names = "ratio ratio_low ratio_high intra_mean intra_low intra_high lonely_low alpha_low alpha_high"
    numbers = [
        (1.5, 1.25, 1.75, 12345.6, 12000.0, 13000.0, 1.0, 0.0, 0.5),
        (2.0, np.nan, np.nan, 3.0, 2.0, 4.0, 2.0, 0.5, 1.0),
    ]
    shown = beside_intervals(pd.DataFrame(numbers, columns=names.split()))
    assert list(shown) == ["ratio", "intra_mean", "lonely_low", "alpha_low", "alpha_high"]
    assert shown["ratio"].tolist() == ["1.5 [1.25, 1.75]", 2.0]
    assert shown["intra_mean"].tolist() == ["12,346 [12,000, 13,000]", "3 [2, 4]"]


HOSTILE = "\x1b]0;renamed\x07\x1b[2J\x9b2J\u202eright\rleft"
"""Clears a terminal, renames its window, turns a line around and writes over it, if it is obeyed."""


def obeyed(text: str) -> set[str]:
    """Letters that a terminal would obey, of a text whose lines may end."""
    return {letter for letter in text if letter in SIGNS} - {"\n"}


def test_no_letter_of_a_data_set_is_obeyed(capsys: pytest.CaptureFixture[str]):
    """In a cell, a list, a context and its token, the name of a column, a title, a line and a remark."""
    rows = {
        HOSTILE: [HOSTILE],
        "many": [[HOSTILE, "plain"]],
        "context": [f"{HOSTILE} before {HOSTILE} after"],
        "token": [HOSTILE],
        "context_offset": [len(HOSTILE) + 8],
    }
    out = io.StringIO()
    show(pd.DataFrame(rows), HOSTILE, Console(file=out, width=200))
    note([HOSTILE])
    say(HOSTILE)
    for shown in (out.getvalue(), *capsys.readouterr()):
        assert obeyed(shown) == set() and "␛[2J" in shown and "‹RLO›" in shown


def test_no_letter_of_an_error_is_obeyed(tmp_path: Path, polytope: Run):
    said = polytope("info", tmp_path / HOSTILE).err
    assert obeyed(said) == set() and "␛[2J" in said


def test_no_letter_of_progress_is_obeyed(capsys: pytest.CaptureFixture[str]):
    with TerminalProgress().step(HOSTILE, total=2, unit="steps") as step:
        step.advance(2)
    assert obeyed(capsys.readouterr().err) == set()
