"""The command, and atlases to write to."""

import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import typer.main

from app.cli import commands
from tests.app.cli.command import Answer, Run

BUILT_ONCE = cache(typer.main.get_command)
"""Typer makes all commands anew whenever one is called, which takes a third of the time of most calls."""


@pytest.fixture
def polytope(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process."""

    def run(*words: object, given: Sequence[typer.Typer] = ()) -> Answer:
        monkeypatch.setattr(sys, "argv", ["polytope", *map(str, words)])
        monkeypatch.setattr(typer.main, "get_command", BUILT_ONCE)
        status = 0
        try:
            commands.run(*given)
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        printed = capsys.readouterr()
        return Answer(status, printed.out, printed.err)

    return run


@pytest.fixture
def own(demo_atlas: Path, tmp_path: Path) -> Path:
    """A copy of the atlas of both shipped networks."""
    return Path(shutil.copytree(demo_atlas, tmp_path / "own.atlas"))
