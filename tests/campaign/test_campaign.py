"""Attacks on an atlas, as many as the budget has: each is found, refused or survived, and none changes an answer.

`make slow` makes a few with one seed; `make campaign BUDGET=200 SEED=7` makes 200 of each kind with another, and
prints what came of them. An attack is a function in `ATTACKS`; a statement joins `STATEMENTS` by a line, a file
format `tests.campaign.words.FILES`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import atlas
import query
from app import sandbox
from atlas.errors import PolytopeError, SqlError
from tests.campaign.large import LARGE, MOST_BYTES, taken
from tests.campaign.words import FILES, write
from tests.ingest.runs import Stop, leftovers, only_read, run_in_child, small_run, small_texts, tables

BUDGET = int(os.environ.get("POLYTOPE_CAMPAIGN_BUDGET", "3"))
"""Attempts of each attack."""

SEED = int(os.environ.get("POLYTOPE_CAMPAIGN_SEED", "0"))

pytestmark = [pytest.mark.campaign, pytest.mark.slow]


@dataclass(frozen=True)
class Field:
    """What is attacked: the texts of a run, and an atlas of it with the tables that it has when nothing happens."""

    data: Path
    whole: Path
    tables: dict[str, str]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    root = tmp_path_factory.mktemp("campaign")
    data = small_texts(root / "words")
    small_run(root / "whole.atlas", data)
    yield Field(data, root / "whole.atlas", tables(root / "whole.atlas"))
    for process in chain(*sandbox._waiting.values()):
        process.end()
    sandbox._waiting.clear()


STEPS = ["plan", "read", "publish", "index", "cluster blocks.0", "cluster blocks.1"]


def kill(chance: random.Random, field: Field, place: Path) -> str:
    """A run is killed or interrupted anywhere, and the same command is given again."""
    how = chance.choice([signal.SIGKILL, signal.SIGINT])
    statements = chance.choice([None, chance.randrange(120)])
    run_in_child(place, field.data, Stop(chance.choice(STEPS), chance.randrange(4), how, statements))
    small_run(place, field.data)
    assert tables(place) == field.tables and leftovers(place) == []
    return how.name


def flip_staged(chance: random.Random, field: Field, place: Path) -> str:
    """A bit of a staged file changes between reading and publishing."""
    only_read(place, field.data)
    file = chance.choice(sorted(place.glob("staging/*/*")))
    _flip(chance, file)
    small_run(place, field.data)
    assert tables(place) == field.tables
    return file.suffix


def flip_published(chance: random.Random, field: Field, place: Path) -> str:
    """A bit of a published file changes: it is noticed, or nothing that can be asked depends on it."""
    shutil.copytree(field.whole, place)
    file = chance.choice([place / "atlas.duckdb", chance.choice(sorted(place.glob("indexes/*")))])
    _flip(chance, file)
    try:
        if tables(place) != field.tables:
            raise AssertionError(f"another answer, and no error, after a flip in {file.name}")
        with atlas.open(place) as a:
            return f"{file.suffix}: {'no difference' if query.verify(a)['ok'].all() else 'named by verify'}"
    except PolytopeError as error:
        return f"{file.suffix}: {type(error).__name__}"


def _flip(chance: random.Random, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


STATEMENTS = [
    "drop table codes",
    "copy codes to '{place}/stolen.csv'",
    "from read_csv('/etc/passwd')",
    "attach '{place}/other.duckdb' as other",
    "install httpfs",
    "set memory_limit = '1TB'",
    "pragma database_list",
    "select path[2:] from duckdb_databases()",
    "with x as (from '{atlas}/atlas.duckdb') from x",
    "select json_serialize_plan('from read_blob(''{atlas}/atlas.duckdb'')')",
    "select count(*) from range(1000000000000) t(i) where hash(i) = 1",
    "select len(list_transform(range(20000000), lambda i: hash(i)::varchar))",
    "select len(range(2000000000))",
    "select repeat('x', 2000000000)",
    "select list(a.code || b.code) from codes a, codes b, codes c",
    "with recursive r(i) as (select 1 union all select i + 1 from r) select max(i) from r",
    "select {nested}",
    "select ({many})",
    "select '{deep}'::json::variant",
    "select 1; select 2",
    "explain analyze copy meta to '{place}/stolen'",
]
"""Each ends within its time with an error, or with an answer that holds nothing from outside of the atlas."""


def hostile_sql(chance: random.Random, field: Field, place: Path) -> str:
    """A statement of somebody who means harm, asked as commands and the explorer ask."""
    place.mkdir()
    words = {
        "place": place,
        "atlas": field.whole,
        "nested": "(" * chance.randrange(3000) + "1" + ")" * chance.randrange(3000),
        "many": " + ".join(["1"] * chance.randrange(1, 9000)),
        "deep": "[" * chance.randrange(20000) + "]" * 20000,
    }
    before = {file: file.read_bytes() for file in field.whole.rglob("*") if file.is_file()}
    try:
        sandbox.ask(field.whole, chance.choice(STATEMENTS).format_map(words), None, 10, 0.5)
        outcome = "answered"
    except SqlError as error:
        outcome = type(error).__name__
    assert {file: file.read_bytes() for file in field.whole.rglob("*") if file.is_file()} == before
    assert list(place.iterdir()) == []
    assert sandbox.ask(field.whole, "select 42 as n", None, 10, 60)["n"].tolist() == [42]
    return outcome


ATTACKS: dict[str, Callable[[random.Random, Field, Path], str]] = {
    "a kill": kill,
    "a flip in staging": flip_staged,
    "a flip in what is published": flip_published,
    "hostile SQL": hostile_sql,
}
"""Each does its harm once, by chance, in a folder of its own, and says what came of it."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_no_answer(
    attack: str, field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = Counter[str]()
    for number in range(BUDGET):
        chance = random.Random(f"{SEED} {attack} {number}")
        outcomes[ATTACKS[attack](chance, field, tmp_path / str(number))] += 1
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    with capsys.disabled():
        print(f"\n{attack}, {BUDGET} times: " + ", ".join(f"{word} {n}" for word, n in sorted(outcomes.items())))


@pytest.mark.parametrize("suffix", FILES)
def test_a_hostile_file_is_refused(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of every format, made up and damaged, are read or refused in words."""
    outcomes = Counter[str]()

    @seed(SEED)
    @settings(
        max_examples=5 * BUDGET,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=FILES[suffix].content)
    def attempt(content: bytes) -> None:
        path = write(tmp_path, suffix, content)
        for found in FILES[suffix].read(path):
            outcomes[type(found).__name__] += 1

    attempt()
    with capsys.disabled():
        print(f"\n{suffix}, {5 * BUDGET} times: " + ", ".join(f"{word} {n}" for word, n in sorted(outcomes.items())))


@pytest.mark.parametrize("name", LARGE)
def test_a_large_input_takes_bounded_memory(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a whole ingestion, beside its network; at a budget of 71 a million files and as many labels."""
    n = 200 * BUDGET**2
    found = taken(name, tmp_path, n)
    with capsys.disabled():
        print(f"\n{name}, {n:,}: {found / 1e6:.0f} MB beside the network")
    assert found < MOST_BYTES
