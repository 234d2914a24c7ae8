"""The `polytope` command prints what the Python functions return, and errors as one message."""

import base64
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from typer.main import get_command

import atlas
import query
from app.cli.commands import cli
from app.cli.statuses import INTERRUPTED, UNFORESEEN
from app.cli.tables import readable_density
from ingest.datasets.builtin import digit_images
from tests.app.cli.command import Run
from tests.forked import running

README = Path(__file__).parents[3] / "README.md"


COMMANDS = get_command(cli).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_says_what_it_is(command: str):
    """In its help, which test_start.py has printed."""
    silent = [
        parameter.name
        for parameter in COMMANDS[command].params
        if not getattr(parameter, "help", None) and not getattr(parameter, "secondary_opts", None)
    ]
    assert silent == []


def test_nearest_as_csv_is_the_frame(demo_atlas: Path, polytope: Run):
    asked = ("--example", 7, "--site", "inception4c", "-k", 5, "--format", "csv")
    printed = polytope("nearest", demo_atlas, *asked).table()
    with atlas.open(demo_atlas) as a:
        expected = query.nearest(a, example=7, site="inception4c", k=5)
    assert printed["example_id"].tolist() == expected["example_id"].tolist()
    assert printed["distance"].tolist() == expected["distance"].tolist()
    assert [base64.b64decode(blob) for blob in printed["thumbnail"]] == expected["thumbnail"].tolist()


def test_a_token_is_marked_in_its_context(demo_atlas: Path, polytope: Run):
    """On one line, whatever it is."""
    with atlas.open(demo_atlas) as a:
        example = a.value("select min(example_id) from examples where token is not null")
        first = query.nearest(a, example=example, site="blocks.1.mlp", k=1).iloc[0]
    answer = polytope("nearest", demo_atlas, "--example", example, "--site", "blocks.1.mlp", "-k", 1)
    shown = first["token"].replace("\n", "⏎").replace("\t", "→")
    assert f"«{shown}»" in answer.out


def test_a_text_typed_now_is_read(demo_atlas: Path, polytope: Run):
    """By the network that made the atlas."""
    asked = ("--text", "def main():\n    return", "--site", "blocks.2.mlp", "--format", "csv")
    rows = polytope("nearest", demo_atlas, *asked, "-k", 3).table()
    assert rows["rank"].tolist() == [1, 2, 3] and rows["distance"].is_monotonic_increasing
    placed = polytope("membership", demo_atlas, *asked)
    assert placed.status == 0 and "probability" in placed.out


def test_an_image_file_is_read(demo_atlas: Path, polytope: Run, tmp_path: Path):
    with atlas.open(demo_atlas) as a:
        [(example, key)] = a.rows(
            "select example_id, key from examples join dataset_inputs using (input_id) order by example_id limit 1"
        )
    image = next(digit.image for digit in digit_images("heldout") if digit.key == key)
    image.save(tmp_path / "digit.png")
    asked = ("--image", tmp_path / "digit.png", "--site", "inception4c", "-k", 1, "--format", "csv")
    nearest = polytope("nearest", demo_atlas, *asked).table().iloc[0]
    assert (nearest["example_id"], nearest["distance"]) == (example, 0)


def test_density_and_clusters_as_queried(demo_atlas: Path, polytope: Run):
    span = "inception5a->:full"
    with atlas.open(demo_atlas) as a:
        x, y = (row[0] for row in a.rows("select example_id from examples order by example_id limit 2"))
        pair = query.density(a, x, y, span=span)
        clusters = query.clusters(a, site="inception4c")
    [printed] = polytope("density", demo_atlas, x, y, "--span", span, "--format", "json").rows()
    assert (printed["hamming"], printed["n_gates"]) == (pair.hamming, pair.n_gates)
    assert printed["density"] == pytest.approx(pair.density)
    shown = polytope("clusters", demo_atlas, "--site", "inception4c", "--format", "json").rows()
    assert [row["size"] for row in shown] == clusters["size"].tolist()


def test_class_density_shows_its_intervals(demo_atlas: Path, polytope: Run):
    with atlas.open(demo_atlas) as a:
        row = query.class_density(a, network="demo-inceptionv1", pairs=200).iloc[0]
    answer = polytope("class-density", demo_atlas, "--network", "demo-inceptionv1", "--pairs", 200)
    interval = f"{row['intra_mean']:.3g} [{row['intra_low']:.3g}, {row['intra_high']:.3g}]"
    assert interval in answer.out
    assert readable_density(pd.DataFrame([row])).loc[0, "same label"] == interval


@pytest.mark.slow
def test_steps_after_ingesting_run_apart(small: Path, polytope: Run):
    assert "conv1:full" in polytope("info", small).out
    assert polytope("index", small).out.startswith("all indexes are up to date")
    options = ("--site", "blocks.0.mlp", "--space", "activations", "--min-cluster-size", 8)
    clustered = polytope("cluster", small, *options)
    assert clustered.status == 0 and "activations of blocks.0.mlp" in clustered.out
    checked = polytope("verify", small)
    assert checked.status == 0 and re.match(r"all \d+ checks passed", checked.out)
    next((small / "indexes").glob("*conv2.faiss")).write_bytes(b"not an index")
    damaged = polytope("verify", small)
    assert damaged.status == 1 and "conv2" in damaged.out


def test_ingest_can_be_given_again(polytope: Run, tmp_path: Path):
    """It prints its plan, and says the second time that all is there."""
    rng = np.random.default_rng(0)
    for label, brightness in {"dark": 0, "light": 100}.items():
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(8):
            pixels = (rng.integers(0, 100, (20, 20)) + brightness).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    path = tmp_path / "mine.atlas"
    command = (
        "ingest",
        path,
        "--network",
        "demo:inceptionv1",
        "--data",
        tmp_path / "images",
        "--sites",
        "conv1,conv2",
    )
    first = polytope(*command)
    assert first.status == 0 and "16 examples" in first.out
    assert all(word in first.err for word in ("network", "16 inputs", "32 bits an example", "on disk"))
    assert "is in the atlas already" in polytope(*command).out
    with atlas.open(path) as a:
        labels = a.rows("select label, count(*) from examples group by label order by label")
    assert labels == [("dark", 8), ("light", 8)]


REFUSED = [
    ("nearest {atlas} --example 1 --site nowhere", "nowhere"),
    ("nearest {atlas} --example 1", "site or a span"),
    ("nearest {atlas} --example 999999 --site inception4c", "999999"),
    ("nearest {atlas} --code 0101 --site inception4c", "166 gates"),
    ("nearest {atlas} --example 1 --site inception4c -k 100000", "100000"),
    ("nearest {missing} --example 1 --site conv1", "does not exist"),
    ("density {atlas} 1 1 --span 'inception5a->:full'", "undefined"),
    ("sql {atlas} 'drop table codes'", "read-only"),
    ("sql {atlas} \"from read_csv('/etc/passwd')\"", "own tables only"),
    ("sql {atlas}", "--schema"),
    ("sql {atlas} 'select 1' --format parquet", "--output"),
    ("sql {atlas} 'select 1' --output {new}", "a table is for the terminal; use --format csv"),
    ("ingest {new} --network demo:inceptionv1 --data builtin:digits --at 2", "--at"),
    ("ingest {new} --network demo:inceptionv1 --data builtin:digits --sites x", "'x'"),
    ("ingest {new} --network demo:inceptionv1 --data builtin:digits --workers 3", "--workers is for --ray"),
    ("ingest {new} --codes x.npz --ray local --device cuda", "with --ray say --gpus-per-worker"),
    ("ingest {new} --network demo:gpt2 --data no/such/folder", "no/such/folder"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_an_error_is_one_message(line: str, said: str, demo_atlas: Path, polytope: Run, tmp_path: Path):
    """On standard error, with status 1."""
    places = {"atlas": demo_atlas, "missing": tmp_path / "none.atlas", "new": tmp_path / "new.atlas"}
    answer = polytope(*shlex.split(line.format_map({name: shlex.quote(str(at)) for name, at in places.items()})))
    assert answer.refuses(said)


def test_the_tour_answers_on_any_atlas(demo_atlas: Path, polytope: Run):
    answer = polytope("tour", demo_atlas)
    assert answer.status == 0
    for network in ("demo-gpt2", "demo-inceptionv1"):
        for question in ("which", "which cluster", "do boundaries separate", "how densely", "where is gate"):
            assert f"{network}: {question}" in answer.out
    page = demo_atlas.with_suffix(".html")
    assert f"app {demo_atlas}" in answer.out and f"report {demo_atlas} -o {page}" in answer.out
    assert f"{page.resolve().as_uri()} will be the page" in answer.out


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path):
    """In a process, for the signal's sake: it ends with the status of shells and leaves nothing half written."""
    path, errors = tmp_path / "stopped.atlas", tmp_path / "errors"
    os.mkfifo(errors)
    words = ("--network", "demo:gpt2", "--data", "builtin:python-heldout", "--limit", "200", "--skip-bad")
    with running("app.cli.main", "ingest", str(path), *words, stderr=errors) as command, errors.open() as lines:
        for line in lines:
            if line.startswith("on disk"):  # the plan is made, and shards are next
                break
        os.kill(command.pid, signal.SIGINT)
        said = lines.read()
        command.join()
        assert command.exitcode == INTERRUPTED, said
    assert "give the same command again to go on" in said and "Traceback" not in said
    assert list(path.rglob(".*.tmp")) == []


INTERRUPTED_IMPORT = """
import os, signal, sys

module = sys.argv.pop(1)

class Presses:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presses())
from app.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pandas.core", "info a"),
        ("torch.nn", "ingest {new} --network demo:gpt2 --data docs"),
    ],
)
def test_an_early_ctrl_c_is_one_message(module: str, words: str, tmp_path: Path):
    """It is pressed while a module loads: before any command has begun, and in one."""
    line = [sys.executable, "-c", INTERRUPTED_IMPORT, module, *words.format(new=tmp_path / "new").split()]
    ended = subprocess.run(line, capture_output=True, text=True, cwd=README.parent, check=False)
    assert (ended.returncode, ended.stdout) == (INTERRUPTED, "")
    assert ended.stderr in ("", "error: stopped\n")


def test_an_unforeseen_error_is_reported(polytope: Run):
    """In one sentence with the version, and whole in a file; one that Ctrl-C is behind is none."""
    broken = typer.Typer()

    @broken.command()
    def fails(stopped: bool = False) -> None:
        try:
            raise KeyboardInterrupt if stopped else KeyError("nobody\x1b[2J")
        except (KeyError, KeyboardInterrupt) as cause:
            raise ImportError("a part of it\nis missing") from cause

    answer = polytope(given=[broken])
    assert answer.status == UNFORESEEN and "Traceback" not in answer.err
    assert f"polytope-atlas {version('polytope-atlas')} failed" in answer.err and "(ImportError: a part" in answer.err
    report = Path(answer.err.strip().rpartition(" ")[2])
    assert "KeyError: 'nobody" in report.read_text() and "in fails" in report.read_text()
    report.unlink()
    stopped = polytope("--stopped", given=[broken])
    assert (stopped.status, stopped.err) == (INTERRUPTED, "error: stopped\n")


def in_readme(language: str) -> str:
    """All code of a language."""
    text = README.read_text(encoding="utf-8")
    return "".join(re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL))


@pytest.mark.parametrize("line", [line for line in in_readme("sh").splitlines() if line.startswith("polytope ")])
def test_a_command_in_the_readme_exists(line: str):
    """An unknown option or a missing argument raises."""
    _, name, *words = shlex.split(line, comments=True)
    COMMANDS[name].make_context(name, words)
