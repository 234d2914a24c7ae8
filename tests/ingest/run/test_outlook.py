"""How long the rest of a run will take is said of all of it, from the first example that is read on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.cli import progress as terminal
from app.cli.progress import TerminalProgress
from ingest.progress import Progress, Step
from ingest.run.outlook import Outlook
from tests.ingest.runs import small_run, write_texts
from tests.networks import word_texts


class Kept(Progress):
    """Keeps the outlook of a run, and the steps that begin while it lasts."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.lasting = False

    @contextmanager
    def run(self, outlook: Outlook) -> Iterator[None]:
        self.ahead = list(outlook.ahead)
        self.lasting = True
        yield
        self.lasting = False

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        if self.lasting:
            self.steps.append(name)
        yield Step()


def test_an_outlook_knows_all_that_follows(tmp_path: Path) -> None:
    """Publishing, indexes and clusters are ahead while a run reads, by the names that their steps have."""
    kept = Kept()
    small_run(tmp_path / "a", write_texts(tmp_path / "texts", word_texts(8)), progress=kept)
    assert kept.steps[0] == "read" and kept.steps[1:] == kept.ahead and not kept.lasting
    assert [name.split()[0] for name in kept.ahead][:3] == ["publish", "index", "cluster"]


def test_what_is_left_counts_what_follows() -> None:
    outlook = Outlook({"publish": 40.0, "cluster a (codes)": 5.0})
    assert outlook.begin("read") is None
    assert outlook.left(0, 0, None) is None  # nothing says how fast this network reads
    assert outlook.left(0.25, 1.0, None) == 3 + 45
    expected = outlook.begin("publish")
    assert expected == 40 and outlook.left(0, 10, expected) == 30 + 5
    assert outlook.left(0.5, 30, expected) == 30 + 5 and outlook.left(0, 60, expected) == 5
    assert outlook.begin("wait until it is closed elsewhere") is None and outlook.ahead == {"cluster a (codes)": 5.0}
    outlook.begin("cluster a (codes)")
    assert outlook.left(1, 9, 5.0) == 0


def test_lines_count_seconds_of_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal; "3 s left" of reading alone would be taken for all."""
    monkeypatch.setattr(terminal, "LINE_EVERY", 0.0)
    shown = TerminalProgress()
    with shown.run(Outlook({"publish": 500.0})):
        with shown.step("read", total=10, unit="examples") as step:
            step.advance(9)
        with shown.step("publish", total=10, unit="MB"):
            pass
    with shown.step("alone", total=10, unit="examples") as step:
        step.advance(9)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("read: 9 of 10 examples") and lines[0].endswith("500 s left of the run")
    assert lines[-2].startswith("alone: 9 of 10 examples") and lines[-2].endswith(" 0 s left")


def test_a_terminal_has_one_bar_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = TerminalProgress()
    assert shown.console.is_terminal
    with shown.run(Outlook({"publish": 100.0})):
        assert shown.whole is not None
        [task] = shown.whole.bars.tasks
        with shown.step("read", total=10, unit="examples") as step:
            assert task.total is None
            step.advance(5)
            assert task.description == "read" and task.fields["counted"] == "5 of 10 examples"
            assert task.total is not None and 99 < task.total - task.completed < 101
            assert 99 < task.fields["until"] - time.monotonic() < 101
        with shown.step("publish", unit="MB") as step:
            assert task.description == "publish" and 99 < task.total - task.completed < 101
            step.update(50, 100)
            assert task.fields["counted"] == "50 of 100 MB" and task.total - task.completed < 1
        assert [task.id for task in shown.whole.bars.tasks] == [task.id]
    assert shown.whole is None
