"""Commands started where a user may be: in a folder that holds files named as our packages are, and quick to load."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.child_process import GRACE
from app.cli.serve import TERMINATED
from tests.app.explorer.browsing import answering, free_port

ROOT = Path(__file__).parents[3]

LONGEST = 120.0
"""Seconds until a command counts as hanging, on a machine that does much else."""

CONSOLE_SCRIPT = "import sys; from app.cli.main import main; sys.exit(main())"

EVERY_COMMAND = """
import contextlib, functools, io, json, sys
import typer.main
from app.cli.commands import cli, run as main

typer.main.get_command = functools.cache(typer.main.get_command)  # it would make all commands at each call
HEAVY = {"torch", "hdbscan", "sklearn", "numba", "streamlit", "transformer_lens"}

def run(*words):
    sys.argv = ["polytope", *words]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            return ended.code or 0
    return 0

path = sys.argv[1]
status = {"": run("--help"), "sql": run("sql", path, "select 1"), "info": run("info", path)}
status |= {f"{name} --help": run(name, "--help") for name in typer.main.get_command(cli).commands if name != "report"}
heavy = sorted(HEAVY & set(sys.modules))
status["report --help"] = run("report", "--help")
ours = [module.__file__ for name, module in sys.modules.items() if name in ("app", "atlas", "ingest", "query")]
print(json.dumps({"status": status, "heavy": heavy, "ours": ours}))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, whose modules raise when they are imported."""
    folder = tmp_path_factory.mktemp("hostile")
    for package in ("atlas", "ingest", "streamlit"):
        (folder / package).mkdir()
    for file in ("app.py", "query.py", "atlas/__init__.py", "ingest/__init__.py", "streamlit/__init__.py"):
        (folder / file).write_text("raise ImportError('a file of the working directory was run')")
    return folder


def started(tmp_path: Path, hostile: Path, script: str, *words: object) -> subprocess.Popen[str]:
    """A script in a folder of its own, as pip puts console scripts, run in the hostile one."""
    (tmp_path / "polytope").write_text(script)
    line = [sys.executable, str(tmp_path / "polytope"), *map(str, words)]
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=hostile, env=environment)


def test_commands_start_anywhere_and_light(built: Path, hostile: Path, tmp_path: Path):
    """In one process: help of every command and two answers; none but ours is imported, and nothing heavy."""
    with started(tmp_path, hostile, EVERY_COMMAND, built) as running:
        said = json.loads(running.communicate(timeout=LONGEST)[0])
    assert set(said["status"].values()) == {0} and len(said["status"]) > 20
    assert said["heavy"] == []
    assert len(said["ours"]) >= 3 and all(Path(file).is_relative_to(ROOT) for file in said["ours"])


def test_the_explorer_starts_anywhere(built: Path, hostile: Path, tmp_path: Path):
    """SIGTERM ends it, and with it all that writes to its output: the server is a child of the command."""
    port = free_port()
    words = ("app", built, "--no-browser", "--port", port)
    with started(tmp_path, hostile, CONSOLE_SCRIPT, *words) as running:
        answering(port, lambda: running.poll() is not None)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=LONGEST)
    assert running.returncode == TERMINATED
    assert GRACE < 5
