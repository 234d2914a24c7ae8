"""Whatever a data set or a command line holds, a terminal gets no letter that it would obey, or that nobody sees."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.cli import commands
from app.plain_text import SIGNS
from tests.app.cli.command import Answer, Run
from tests.atlases import built_once
from tests.campaign.words import COMMANDS, LONG, REQUIRED, SERVES, types_of

pytestmark = pytest.mark.slow

HOSTILE = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202eevil\u200b\u2066\ufeff\x85\r[bold]x[-nope] $x$ :red[y] <b>"
"""Clears and renames a terminal, colours it, turns a line around, hides; and what a page would take for markup."""

MARKUP = "![p](http://x.invalid/p) [bold]x[/nope] $x$ :red[y] <b>\u0337"
"""What a name may hold: it is refused with what steers."""

SITE = f"site {HOSTILE}"
N = 24


UNANSWERED = {
    *("boundaries", "exits", "neighbor-polytopes", "region", "store-boundaries", "compare", "export", "pull"),
    *("convert", "vacuum", "versions"),
}
"""Commands that need a network that runs, or two, or a map, or what was pushed, or a segmented atlas."""

FITTING = {
    "example": "1",
    "statement": "select * from examples join dataset_inputs using (input_id) join datasets using (dataset_id)",
    "words": MARKUP,
}
"""Words for what a command need not be given, and without which it may have nothing to answer."""

WRITTEN = {"note", "output", "figure", "arrays"}
"""Parameters whose word is stored, or names a file that is written."""


def checked(answer: Answer) -> Answer:
    """An answer that holds nothing of the kind, and ended as commands end."""
    steering = {letter for letter in answer.out + answer.err if letter in SIGNS and letter != "\n"}
    assert not steering, (sorted(steering), answer.out[-2000:], answer.err[-2000:])
    assert answer.status in (0, 1, 2), answer.err
    return answer


def codes(path: Path) -> Path:
    """Rows of which key, label, text and the name of a site are hostile, and one that can't be used."""
    rng = np.random.default_rng(5)
    table = {
        "key": [f"{HOSTILE} {i}" for i in range(N)],
        "label": [f"{HOSTILE} {i % 2}" for i in range(N)],
        "text": [f"{HOSTILE} text {i}\n{HOSTILE}" for i in range(N)],
        "first": (rng.random((N, 9)) < 0.3).tolist(),
        SITE: (rng.random((N, 16)) < 0.3).tolist(),
    }
    pq.write_table(pa.table(table), path)
    return path


def activations(path: Path) -> Path:
    rng = np.random.default_rng(6)
    points = {site: rng.standard_normal((N, 3)).astype(np.float32).tolist() for site in ("first", SITE)}
    pq.write_table(pa.table({"key": [f"{HOSTILE} {i}" for i in range(N)]} | points), path)
    return path


def typed(*words: object) -> None:
    """Runs a command that must succeed."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["polytope", *map(str, words)])
        commands.run()
    assert not ended.value.code


def build(path: Path) -> None:
    """As `polytope ingest` does, with a span, and a cluster that bears a name and a note."""
    folder = path.parent / "hostile"
    folder.mkdir(exist_ok=True)
    data = ["--codes", codes(folder / "codes.parquet"), "--activations", activations(folder / "points.parquet")]
    typed("ingest", path, *data, "--name", HOSTILE, "--data-name", HOSTILE, "--spans", "first->")
    typed("cluster", path, "--site", "first", "--min-cluster-size", 2, "--min-samples", 1)
    typed("cluster", path, "--site", SITE, "--min-cluster-size", 2, "--min-samples", 1)
    typed("name", path, 0, MARKUP, "--note", MARKUP, "--site", "first")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "hostile.atlas", build)


@pytest.fixture(scope="module")
def theirs(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, in a folder of a hostile name."""
    folder = tmp_path_factory.mktemp("theirs") / HOSTILE
    folder.mkdir()
    return Path(shutil.copytree(hostile, folder / "hostile.atlas"))


def line(command: str, atlas: Path, **given: str) -> list[str]:
    """A command with what it must be given, and with other parameters by their names."""
    words, arguments, place = [], [], {"atlas": str(atlas)} | given
    for parameter in COMMANDS[command].params:
        name = str(parameter.name)
        if parameter.required or name in given:
            word = place.get(name) or REQUIRED[name]
            is_option = parameter.param_type_name == "option"
            (words if is_option else arguments).extend([parameter.opts[0], word] if is_option else [word])
    return [*command.split(), *words, "--", *arguments]


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - SERVES - LONG - {"ingest", "sites"}))
def test_answers_hold_nothing_hostile(
    command: str, theirs: Path, tmp_path: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every command, about a site of hostile name where one is asked about, as a table and as JSON."""
    monkeypatch.chdir(tmp_path)
    kinds = types_of(command)
    about = {name: word for name, word in FITTING.items() if name in kinds}
    about |= {"site": SITE} if {"site", "span"} <= kinds.keys() else {}
    if command == "find":
        about["words"] = "evil"  # every text, label and key has it
    words = line(command, theirs, **about)
    if command == "neighbors":
        words.insert(1, "--all")
    answer = checked(polytope(*words))
    assert answer.status == 0 or command in UNANSWERED, answer.err
    if "style" in kinds:
        n = len(command.split())
        checked(polytope(*words[:n], "--format", "json", *words[n:]))


def options_by_command() -> dict[str, list[str]]:
    """Every option that takes words, with the first command that has it; every command, though it has none."""
    found: dict[str, list[str]] = {command: [] for command in sorted(COMMANDS)}
    seen = {"atlas", *WRITTEN}
    for command in sorted(COMMANDS.keys() - SERVES):
        for name, kind in types_of(command).items():
            if name not in seen and "bool" not in kind:
                seen.add(name)
                found[command].append(name)
    return found


@pytest.mark.parametrize(("command", "options"), options_by_command().items())
def test_errors_hold_nothing_hostile(
    command: str, options: list[str], theirs: Path, tmp_path: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every command without its atlas, or with an option of such a name; of every option that is such a word."""
    monkeypatch.chdir(tmp_path)
    checked(polytope(*command.split(), HOSTILE, f"--{HOSTILE}"))
    if command not in SERVES:
        checked(polytope(*line(command, theirs.parent / "none.atlas")))
    for option in options:
        checked(polytope(*line(command, theirs, **{option: HOSTILE})))


@pytest.mark.parametrize("command", ["name", "tag"])
def test_hostile_words_are_not_stored(command: str, theirs: Path, polytope: Run) -> None:
    answer = checked(polytope(*line(command, theirs, words=HOSTILE)))
    assert answer.status == 1 and not answer.out


@pytest.mark.parametrize(
    ("command", "refusal"), [("app", "can't listen on"), ("serve", "name the tokens"), ("mcp", "name the tokens")]
)
def test_a_hostile_host_is_refused(command: str, refusal: str, theirs: Path, polytope: Run) -> None:
    words = [command, theirs, "--host", HOSTILE, *(["--http"] if command == "mcp" else [])]
    assert checked(polytope(*words)).refuses(refusal)
