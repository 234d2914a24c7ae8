"""A child ends with its parent, whatever either does, and nothing of the working directory is run in its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.child_process import end, start

ROOT = Path(__file__).parents[2]

PARENT = """
from app.child_process import start
child = start({module!r}, grace=0.1)
child.wait()
"""

LONGEST = 60.0
"""Seconds until a child counts as left behind, on a machine that does much else."""


def test_a_deaf_child_is_ended():
    child = start("tests.app.deaf", stdout=subprocess.PIPE, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert child.stdout is not None and child.stdout.readline() == b"listening\n"
    end(child, grace=0.1)
    assert child.returncode == -9


def test_a_deaf_child_ends_with_its_parent():
    """The pipe that both write to ends when both have ended; the parent is killed and can do nothing about it."""
    line = [sys.executable, "-P", "-c", PARENT.format(module="tests.app.deaf")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"listening\n"
        parent.kill()
        assert parent.communicate(timeout=LONGEST) == (b"", None)


def test_a_child_runs_no_file_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "app.py").write_text("raise SystemExit('of the working directory')")
    (tmp_path / "this.py").write_text("raise SystemExit('of the working directory')")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    child = start("this", stdout=subprocess.PIPE, cwd=tmp_path)
    assert child.stdout is not None and b"The Zen of Python" in child.stdout.read()
    assert child.wait(LONGEST) == 0


def test_nothing_else_starts_a_process():
    files = (file for package in ("app", "atlas", "ingest", "query") for file in (ROOT / package).rglob("*.py"))
    assert [file.name for file in files if "subprocess.Popen(" in file.read_text()] == ["child_process.py"]
