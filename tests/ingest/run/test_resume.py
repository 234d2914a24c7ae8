"""A run that was stopped anywhere goes on, and ends as if nothing had happened."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from atlas.errors import PlanChanged, RunInterrupted
from ingest.run.engines import LocalEngine, Task, Tell, Work
from tests.ingest.runs import (
    SITES,
    SMALL,
    Stop,
    Watching,
    leftovers,
    only_read,
    raising,
    rows,
    run_in_child,
    small_run,
    small_texts,
    tables,
)
from tests.networks import word_network


def staged(path: Path) -> dict[str, tuple[int, int]]:
    """The complete shards: inode and time of the last change, which a file that is written again does not keep."""
    files = (path / "staging").glob("*/[0-9]*[0-9].parquet")
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def watched(seen: dict[str, dict[str, tuple[int, int]]], path: Path) -> Watching:
    """Notes which shards there are when publishing begins, just before they go."""

    def note(step: str, number: int) -> None:
        if step == "publish":
            seen["shards"] = staged(path)

    return Watching(note)


KILLS = {
    "at the end of the first shard, before it is whole": (Stop("read", 3), 0),
    "in the middle of the last shard": (Stop("read", 8), 2),
    "after the last shard, before publishing": (Stop("publish", 0), 3),
    "just after publishing": (Stop("index", 0), None),
    "between two clusterings": (Stop("cluster blocks.1", 0), None),
}
"""Where a run is killed, and how many complete shards it leaves (None: it is published, so they no longer matter)."""


@pytest.mark.slow
@pytest.mark.parametrize("where", KILLS)
def test_killed_run_ends_with_same_tables(
    where: str, tmp_path: Path, data: Path, undisturbed: dict[str, str], unclustered: dict[str, str]
) -> None:
    """A killed run goes on at the first missing shard and ends with the same tables."""
    path, (stop, complete), seen = tmp_path / "a", KILLS[where], {}
    cluster = stop.step.startswith("cluster")
    assert run_in_child(path, data, stop, cluster=cluster).code == -signal.SIGKILL
    before = staged(path)
    outcome = small_run(path, data, cluster=cluster, progress=watched(seen, path))
    assert outcome.already_there == (complete is None)
    if complete is not None:
        assert len(before) == complete and len(seen["shards"]) == 3
        assert {name: seen["shards"][name] for name in before} == before
    assert tables(path) == (undisturbed if cluster else unclustered)
    assert leftovers(path) == [] and list((path / "staging").iterdir()) == []


@pytest.mark.parametrize("statements", [1, 47, 97])
def test_killed_publishing_is_whole_or_not(
    statements: int, tmp_path: Path, data: Path, unclustered: dict[str, str]
) -> None:
    """A run killed between any two statements of publishing is published whole or not at all."""
    path = tmp_path / "a"
    stop = Stop("publish", 0, statements=statements)
    assert run_in_child(path, data, stop, cluster=False).code == -signal.SIGKILL
    counts = {table: digest.split()[0] for table, digest in tables(path).items()}
    assert counts["examples"] in ("0", "36")
    assert (counts["runs"], counts["codes"]) == (("0", "0") if counts["examples"] == "0" else ("1", "72"))
    small_run(path, data, cluster=False)
    assert tables(path) == unclustered and leftovers(path) == []


INTERRUPTS = {
    "while planning": (Stop("plan", 2, signal.SIGINT), "before anything was read"),
    "while reading": (Stop("read", 5, signal.SIGINT), "1 of 3 shards complete"),
    "while publishing": (Stop("publish", 0, signal.SIGINT, statements=30), "3 of 3 shards complete"),
    "while indexing": (Stop("index", 1, signal.SIGINT), "3 of 3 shards complete"),
    "while clustering": (Stop("cluster", 0, signal.SIGINT), "3 of 3 shards complete"),
}


@pytest.mark.parametrize("where", INTERRUPTS)
def test_ctrl_c_says_how_to_go_on(
    where: str, tmp_path: Path, data: Path, undisturbed: dict[str, str], unclustered: dict[str, str]
) -> None:
    """Ctrl c says how to go on and leaves no part of a file."""
    path, (stop, expected) = tmp_path / "a", INTERRUPTS[where]
    cluster = stop.step == "cluster"
    error = run_in_child(path, data, stop, cluster=cluster).error
    assert error is not None and error[0] == "RunInterrupted"
    assert expected in error[1] and "give the same command again" in error[1]
    assert leftovers(path) == []
    small_run(path, data, cluster=cluster)
    assert tables(path) == (undisturbed if cluster else unclustered)


def test_shards_come_in_any_order(tmp_path: Path, data: Path, unclustered: dict[str, str]) -> None:
    """Shards that an engine has written last first, one of them by a process that stopped, are the same run."""

    class Backwards(LocalEngine):
        def run(self, tasks: Sequence[Task], work: Work, tell: Tell) -> None:
            super().run(tasks[::-1], work, tell)

    path, seen = tmp_path / "a", {}
    with pytest.raises(RunInterrupted, match="1 of 3 shards complete"):
        small_run(path, data, cluster=False, engine=Backwards(), progress=Watching(raising("read", 5)))
    before = staged(path)
    assert list(before) == ["000002.parquet"]
    small_run(path, data, cluster=False, progress=watched(seen, path))
    assert seen["shards"]["000002.parquet"] == before["000002.parquet"]
    assert tables(path) == unclustered


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """An atlas whose run was killed in its second shard, to copy."""
    path = tmp_path_factory.mktemp("unfinished") / "a"
    run_in_child(path, data, Stop("read", 5))
    return path


@pytest.fixture
def to_finish(tmp_path: Path, unfinished: Path) -> Path:
    return Path(shutil.copytree(unfinished, tmp_path / "a"))


def test_another_device_goes_on(to_finish: Path, data: Path, unclustered: dict[str, str]) -> None:
    """A run goes on on another device, and says which read what."""
    network = word_network()
    network.device = "mps"
    small_run(to_finish, data, cluster=False, network=network)
    assert rows(to_finish, "select device, first_example_id from shards order by shard") == [
        ("cpu", 1),
        ("mps", 13),
        ("mps", 25),
    ]
    changed = {table for table, digest in tables(to_finish).items() if digest != unclustered[table]}
    assert changed == {"shards", "digests"}


CHANGES: dict[str, Callable[..., dict[str, object]]] = {
    "seed: 0 → 1": lambda change, data: {"choices": change(seed=1)},
    "batch_size: 2 → 3": lambda change, data: {"choices": change(batch_size=3)},
    "shard_examples: 12 → 8": lambda change, data: {"choices": change(shard_examples=8)},
    "store_activations: true → false": lambda change, data: {"choices": change(store_activations=False)},
    'sites: ["blocks.0.mlp", "blocks.1.mlp"] → ': lambda change, data: {"choices": change(sites=SITES)},
    "data.n_inputs: 9 → 10": lambda change, data: {"data": small_texts(data.parent / "grown" / "words", 10)},
}


@pytest.mark.parametrize("named", CHANGES)
def test_changed_plan_names_the_difference(named: str, unfinished: Path, data: Path) -> None:
    """A changed plan is refused with the difference named."""
    changed = {"data": data, **CHANGES[named](lambda **choice: replace(SMALL, **choice), data)}
    before = staged(unfinished)
    with pytest.raises(PlanChanged, match=r"--run NAME .* --discard") as caught:
        small_run(unfinished, **changed)
    assert named in str(caught.value) and str(caught.value).count("→") <= 2
    assert staged(unfinished) == before


def test_another_name_or_discard_makes_way(to_finish: Path, data: Path) -> None:
    """Another name or discard makes way for a changed plan."""
    changed = replace(SMALL, store_activations=False)
    small_run(to_finish, data, changed, cluster=False, run="other")
    assert len(staged(to_finish)) == 1, "the unfinished run is still there"
    small_run(to_finish, data, replace(SMALL, seed=1), cluster=False, discard=True)
    assert staged(to_finish) == {}
    assert rows(to_finish, "select name from runs order by run_id") == [("other",), ("words-words",)]


def test_finished_run_keeps_an_unfinished(path: Path, data: Path) -> None:
    """A finished run given again leaves an unfinished one of its name alone."""
    run_in_child(path, data, Stop("read", 5), choices=replace(SMALL, seed=1))
    before = staged(path)
    assert len(before) == 1
    assert small_run(path, data, cluster=False).already_there
    assert staged(path) == before


@pytest.fixture(scope="module")
def only_staged(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """An atlas whose shards are complete and not published, to copy."""
    path = tmp_path_factory.mktemp("staged") / "a"
    only_read(path, data)
    return path


ROTTEN = ["plan.json", "000000.json", "000001.parquet", "000002.inputs.parquet"]
"""Of every kind of file one, and each of another shard."""


def flip(file: Path, share: float) -> None:
    """Change one bit of a file, at such a share of its length."""
    content = bytearray(file.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[: len(content) // 2])


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


HARMS = {
    "flipped": partial(flip, share=0.5),
    "flipped late": partial(flip, share=0.93),
    "a pipe": make_pipe,
    "cut": cut,
}


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
def test_what_changed_in_staging_is_redone(
    harm: str, tmp_path: Path, data: Path, only_staged: Path, unclustered: dict[str, str]
) -> None:
    """A byte that changes between reading and publishing is found, wherever it lies, and nothing waits for a pipe:
    each of the three shards is written again."""
    path, seen = Path(shutil.copytree(only_staged, tmp_path / "a")), {}
    for name in ROTTEN:
        [file] = path.glob(f"staging/*/{name}")
        HARMS[harm](file)
    before = staged(path)
    small_run(path, data, cluster=False, progress=watched(seen, path))
    assert len(before) == 3 and not seen["shards"].items() & before.items()
    assert tables(path) == unclustered


def test_a_shard_that_rots_while_published(
    tmp_path: Path, data: Path, only_staged: Path, unclustered: dict[str, str]
) -> None:
    """A page of codes that changes after its shard was found to be intact is noticed as it is read."""
    path = Path(shutil.copytree(only_staged, tmp_path / "a"))
    [file] = path.glob("staging/*/000001.parquet")
    with pq.ParquetFile(file) as shard:
        place = shard.metadata.row_group(0).column(len(shard.schema_arrow) - 1).data_page_offset
    times = iter([0])

    def rot(step: str, number: int) -> None:
        if step == "publish" and next(times, None) is not None:
            flip(file, (place + 60) / (file.stat().st_size - 1))

    small_run(path, data, cluster=False, progress=Watching(rot))
    assert tables(path) == unclustered
