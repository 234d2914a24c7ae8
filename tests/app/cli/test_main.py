"""The `polytope` command prints what the Python functions return, and errors as one message."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.main import get_command

import atlas
import query
from app.cli.main import INTERRUPTED, cli, main
from app.cli.tables import Format, emit, readable_density, show
from atlas.errors import UsageError

README = Path(__file__).parents[3] / "README.md"


@dataclass
class Answer:
    status: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def polytope(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, as its console script does."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["polytope", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        printed = capsys.readouterr()
        return Answer(status, printed.out, printed.err)

    return run


def commands() -> list[str]:
    return sorted(get_command(cli).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_and_says_what_each_option_is(command: str, polytope: Run) -> None:
    assert polytope(command, "--help").status == 0
    parameters = get_command(cli).commands[command].params  # type: ignore[attr-defined]
    silent = [
        parameter.name
        for parameter in parameters
        if not getattr(parameter, "help", None) and not getattr(parameter, "secondary_opts", None)
    ]
    assert silent == []


def test_nearest_as_csv_is_the_frame_that_python_returns(demo_atlas: Path, polytope: Run) -> None:
    answer = polytope("nearest", demo_atlas, "--example", 7, "--site", "inception4c", "-k", 5, "--format", "csv")
    with atlas.open(demo_atlas) as a:
        expected = query.nearest(a, example=7, site="inception4c", k=5)
    printed = pd.read_csv(io.StringIO(answer.out))
    assert printed["example_id"].tolist() == expected["example_id"].tolist()
    assert printed["distance"].tolist() == expected["distance"].tolist()
    assert [base64.b64decode(blob) for blob in printed["thumbnail"]] == expected["thumbnail"].tolist()


def test_rows_are_written_as_csv_json_or_parquet_and_read_back_equal(
    demo_atlas: Path, polytope: Run, tmp_path: Path
) -> None:
    statement = "select example_id, label, loss from examples order by example_id limit 7"
    read = {
        "csv": lambda file: pd.read_csv(file, dtype={"label": str}),
        "json": lambda file: pd.DataFrame(json.loads(file.read_text())),
        "parquet": pd.read_parquet,
    }
    with atlas.open(demo_atlas) as a:
        expected = a.sql(statement)
    for style, reader in read.items():
        file = tmp_path / f"rows.{style}"
        assert polytope("sql", demo_atlas, statement, "--format", style, "--output", file).status == 0
        found = reader(file)
        assert found["example_id"].tolist() == expected["example_id"].tolist()
        assert found["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)


def test_a_token_is_marked_in_its_context_on_one_line(demo_atlas: Path, polytope: Run) -> None:
    with atlas.open(demo_atlas) as a:
        example = a.value("select min(example_id) from examples where token is not null")
        first = query.nearest(a, example=example, site="blocks.1.mlp", k=1).iloc[0]
    answer = polytope("nearest", demo_atlas, "--example", example, "--site", "blocks.1.mlp", "-k", 1)
    shown = first["token"].replace("\n", "⏎").replace("\t", "→")
    assert f"«{shown}»" in answer.out


def test_a_text_typed_now_is_read_by_the_network_that_made_the_atlas(demo_atlas: Path, polytope: Run) -> None:
    asked = ("--text", "def main():\n    return", "--site", "blocks.2.mlp", "--format", "csv")
    rows = pd.read_csv(io.StringIO(polytope("nearest", demo_atlas, *asked, "-k", 3).out))
    assert rows["rank"].tolist() == [1, 2, 3] and rows["distance"].is_monotonic_increasing
    placed = polytope("membership", demo_atlas, *asked)
    assert placed.status == 0 and "probability" in placed.out


def test_an_image_file_is_read_by_the_network_that_made_the_atlas(
    demo_atlas: Path, polytope: Run, tmp_path: Path
) -> None:
    from ingest.datasets.builtin import digit_images

    with atlas.open(demo_atlas) as a:
        example, key = a.rows(
            "select example_id, key from examples join dataset_inputs using (input_id) order by example_id limit 1"
        )[0]
    image = next(digit.image for digit in digit_images("heldout") if digit.key == key)
    image.save(tmp_path / "digit.png")
    asked = ("--image", tmp_path / "digit.png", "--site", "inception4c", "-k", 1, "--format", "csv")
    nearest = pd.read_csv(io.StringIO(polytope("nearest", demo_atlas, *asked).out)).iloc[0]
    assert (nearest["example_id"], nearest["distance"]) == (example, 0)


def test_density_and_clusters_print_the_numbers_of_the_query_layer(demo_atlas: Path, polytope: Run) -> None:
    span = "inception5a->:full"
    with atlas.open(demo_atlas) as a:
        x, y = (row[0] for row in a.rows("select example_id from examples order by example_id limit 2"))
        pair = query.density(a, x, y, span=span)
        clusters = query.clusters(a, site="inception4c")
    printed = json.loads(polytope("density", demo_atlas, x, y, "--span", span, "--format", "json").out)[0]
    assert (printed["hamming"], printed["n_gates"]) == (pair.hamming, pair.n_gates)
    assert printed["density"] == pytest.approx(pair.density)
    shown = json.loads(polytope("clusters", demo_atlas, "--site", "inception4c", "--format", "json").out)
    assert [row["size"] for row in shown] == clusters["size"].tolist()


def test_class_density_shows_every_mean_with_its_interval(demo_atlas: Path, polytope: Run) -> None:
    with atlas.open(demo_atlas) as a:
        row = query.class_density(a, network="demo-inceptionv1", pairs=200).iloc[0]
    answer = polytope("class-density", demo_atlas, "--network", "demo-inceptionv1", "--pairs", 200)
    interval = f"{row['intra_mean']:.3g} [{row['intra_low']:.3g}, {row['intra_high']:.3g}]"
    assert interval in answer.out
    assert readable_density(pd.DataFrame([row])).loc[0, "same label"] == interval


def test_info_verify_index_and_cluster_run_as_separate_steps(demo_atlas: Path, polytope: Run) -> None:
    assert "inception5b:full" in polytope("info", demo_atlas).out
    assert polytope("index", demo_atlas).out.startswith("all indexes are up to date")
    options = ("--site", "blocks.0.mlp", "--space", "activations", "--min-cluster-size", 8)
    clustered = polytope("cluster", demo_atlas, *options)
    assert clustered.status == 0 and "activations of blocks.0.mlp" in clustered.out
    checked = polytope("verify", demo_atlas)
    assert checked.status == 0 and re.match(r"all \d+ checks passed", checked.out)


def test_verify_ends_with_status_1_and_names_what_is_wrong(polytope: Run, tmp_path: Path, demo_atlas: Path) -> None:
    damaged = tmp_path / "damaged.atlas"
    shutil.copytree(demo_atlas, damaged)
    next((damaged / "indexes").glob("*conv1.faiss")).write_bytes(b"not an index")
    answer = polytope("verify", damaged)
    assert answer.status == 1 and "conv1" in answer.out


def test_ingest_from_a_folder_prints_its_plan_and_can_be_given_again(polytope: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 100, (20, 20), dtype=np.uint8) + (100 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / label / f"{number}.png")
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
    for word in ("network", "16 inputs", "32 bits an example", "on disk"):
        assert word in first.err
    assert "is in the atlas already" in polytope(*command).out
    with atlas.open(path) as a:
        assert a.rows("select label, count(*) from examples group by label order by label") == [
            ("dark", 8),
            ("light", 8),
        ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nearest", "{atlas}", "--example", 1, "--site", "nowhere"), "nowhere"),
        (("nearest", "{atlas}", "--example", 1), "site or a span"),
        (("nearest", "{atlas}", "--example", 999999, "--site", "conv1"), "999999"),
        (("nearest", "{atlas}", "--code", "0101", "--site", "conv1"), "16 gates"),
        (("nearest", "{atlas}", "--example", 1, "--site", "conv1", "-k", 100000), "100000"),
        (("nearest", "{missing}", "--example", 1, "--site", "conv1"), "does not exist"),
        (("density", "{atlas}", 1, 1, "--span", "inception5a->:full"), "undefined"),
        (("sql", "{atlas}", "drop table codes"), "read-only"),
        (("sql", "{atlas}", "from read_csv('/etc/passwd')"), "own tables only"),
        (("sql", "{atlas}"), "--schema"),
        (("sql", "{atlas}", "select 1", "--format", "parquet"), "--output"),
        (("ingest", "{new}", "--network", "demo:inceptionv1", "--data", "builtin:digits", "--at", "2"), "--at"),
        (("ingest", "{new}", "--network", "demo:inceptionv1", "--data", "builtin:digits", "--sites", "x"), "'x'"),
        (("ingest", "{new}", "--network", "demo:inceptionv1", "--data", "builtin:digits", "--worker", "3"), "I/N"),
        (("ingest", "{new}", "--network", "demo:gpt2", "--data", "no/such/folder"), "no/such/folder"),
    ],
)
def test_an_error_is_one_message_on_stderr_and_status_1(
    arguments: tuple[object, ...], said: str, demo_atlas: Path, polytope: Run, tmp_path: Path
) -> None:
    places = {"{atlas}": demo_atlas, "{missing}": tmp_path / "none.atlas", "{new}": tmp_path / "new.atlas"}
    answer = polytope(*(places.get(str(argument), argument) for argument in arguments))
    assert answer.status == 1
    assert re.search(r"^error: ", answer.err, flags=re.MULTILINE)
    assert said in answer.err and "Traceback" not in answer.err


def test_the_tour_answers_every_question_on_any_atlas(demo_atlas: Path, polytope: Run) -> None:
    answer = polytope("tour", demo_atlas)
    assert answer.status == 0
    for network in ("demo-gpt2", "demo-inceptionv1"):
        for question in ("which", "which cluster", "do boundaries separate", "how densely", "where is gate"):
            assert f"{network}: {question}" in answer.out
    assert f"app {demo_atlas}" in answer.out
    page = demo_atlas.with_suffix(".html")
    assert f"report {demo_atlas} -o {page}" in answer.out
    assert f"{page.resolve().as_uri()} will be the page" in answer.out


def test_ctrl_c_ends_with_the_status_of_shells_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "stopped.atlas"
    command = [
        sys.executable,
        "-m",
        "app.cli.main",
        "ingest",
        str(path),
        "--network",
        "demo:gpt2",
        "--data",
        "builtin:python-heldout",
        "--skip-bad",
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=README.parent)
    staged = path / "staging" / "demo-gpt2-python-heldout"
    while running.poll() is None and not list(staged.glob(".0*.tmp")):  # until the first shard is being written
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == INTERRUPTED
    assert "give the same command again to go on" in said and "Traceback" not in said
    assert list(staged.glob(".*.tmp")) == []


def test_a_wide_cell_is_cut_on_a_terminal_and_whole_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"code": ["01" * 200], "missing": [None]})
    show(frame)
    assert "…" in capsys.readouterr().out
    emit(frame, Format.CSV, tmp_path / "rows.csv")
    assert "01" * 200 in (tmp_path / "rows.csv").read_text()
    with pytest.raises(UsageError, match="terminal"):
        emit(frame, Format.TABLE, tmp_path / "rows.txt")


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("polytope ")]


@pytest.mark.parametrize("line", readme_commands())
def test_every_command_in_the_readme_is_one_that_exists(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = get_command(cli).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])  # raises for an unknown option or a missing argument


def test_the_python_in_the_readme_runs(demo_atlas: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert code is not None
    with atlas.open(demo_atlas) as a:  # here the digits came first, in `polytope demo` the texts
        token = a.value("select min(example_id) from examples where token is not null")
    runnable = code.group(1).replace('"demo.atlas"', repr(str(demo_atlas))).replace("example=17", f"example={token}")
    subprocess.run([sys.executable, "-c", runnable], check=True)
