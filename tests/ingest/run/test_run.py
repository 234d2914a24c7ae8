"""What a whole run adds to an atlas: once, whatever is given twice; within memory and disk that it foretold."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import atlas
import query
from app.cli.progress import describe_plan
from atlas.errors import UsageError
from atlas.network import Network
from ingest.datasets.base import Dataset
from ingest.datasets.sources import open_dataset
from ingest.progress import Progress
from ingest.run import plan as ingest_plan
from ingest.run.forecast import Forecast
from ingest.run.plan import Choices, Plan
from ingest.run.run import Outcome, ingest
from ingest.run.sampling import TokenSampling
from tests.ingest.runs import SITES, SMALL, TOKENS, rows, small_run, small_texts, tables, write_texts
from tests.networks import shipped, word_network, word_texts


def test_same_command_again_changes_nothing(tmp_path: Path) -> None:
    """The same command after completion changes nothing."""
    data = small_texts(tmp_path / "words")
    first = small_run(tmp_path / "a", data)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*") if file.is_file()}
    again = small_run(tmp_path / "a", data)
    assert not first.already_there and again.already_there and again.n_examples == first.n_examples == 36
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*") if file.is_file()} == before


def test_grown_folder_adds_what_is_new(tmp_path: Path) -> None:
    """A grown folder adds only what is new."""
    path, data = tmp_path / "a", small_texts(tmp_path / "words", 4)
    small_run(path, data, cluster=False)
    old = rows(path, "from examples order by example_id")
    small_texts(data, 9)
    outcome = small_run(path, data, cluster=False)
    assert not outcome.already_there and outcome.n_examples == 36
    assert rows(path, "select count(*) from examples") == [(36,)]
    assert rows(path, "from examples order by example_id limit 16") == old
    assert rows(path, "select site_id, count(*) from codes group by all order by all") == [(1, 36), (2, 36)]
    assert rows(path, "select name, n_inputs from datasets") == [("words", 9)]
    assert rows(path, "select count(*), count(distinct ordinal), max(ordinal) from dataset_inputs") == [(9, 9, 8)]
    keys = "select key, example_id from examples join dataset_inputs using (input_id) where example_id > 16"
    assert {key for key, _ in rows(path, keys)} == {key for key, _, _ in word_texts(9)[4:]}
    check_against_one_run(path, data, tmp_path / "fresh")


def check_against_one_run(path: Path, data: Path, fresh: Path) -> None:
    """Whatever the order of ids, each token of each text has the code that a single run gives it."""
    small_run(fresh, data, cluster=False)
    query = """
        select text, position, site_id, code::varchar, n_active, activation from codes
        join activations using (site_id, example_id) join examples using (example_id) join inputs using (input_id)
        order by all
    """
    assert rows(path, query) == rows(fresh, query)


def test_other_sites_add_to_same_examples(tmp_path: Path) -> None:
    """Other sites add codes to the same examples."""
    path, data = tmp_path / "a", small_texts(tmp_path / "words")
    small_run(path, data, cluster=False)
    examples = rows(path, "from examples order by example_id")
    before = rows(path, "from codes where site_id <= 2 order by all")
    small_run(path, data, replace(SMALL, sites=SITES[1:], spans=("blocks.1.mlp->",)), cluster=False)
    assert rows(path, "from examples order by example_id") == examples
    assert rows(path, "from codes where site_id <= 2 order by all") == before
    assert rows(path, "select site_id, count(*) from codes group by all order by all") == [
        (i, 36) for i in (1, 2, 3, 4)
    ]
    small_run(tmp_path / "all", data, replace(SMALL, sites=SITES), cluster=False)
    for table in ("codes", "activations", "examples", "sites"):
        assert tables(path)[table] == tables(tmp_path / "all")[table]


def test_activations_can_be_added_later(tmp_path: Path) -> None:
    path, data = tmp_path / "a", small_texts(tmp_path / "words")
    small_run(path, data, replace(SMALL, store_activations=False), cluster=False)
    assert rows(path, "select count(*) from activations") == [(0,)]
    small_run(path, data, cluster=False)
    small_run(tmp_path / "once", data, cluster=False)
    assert tables(path)["activations"] == tables(tmp_path / "once")["activations"]
    assert tables(path)["sites"] == tables(tmp_path / "once")["sites"]


def test_activations_rounded_to_bfloat16(tmp_path: Path) -> None:
    """They are read back as the nearest numbers of bfloat16, and one kind only is stored of a network."""
    data, rounded = small_texts(tmp_path / "words"), replace(SMALL, bfloat16=True)
    small_run(tmp_path / "a", data, cluster=False)
    small_run(tmp_path / "b", data, rounded, cluster=False)
    whole, halves = (rows(tmp_path / name, "from activations order by all") for name in "ab")
    for (*place, activation), (*same_place, other) in zip(whole, halves, strict=True):
        expected = torch.tensor(activation).bfloat16().float()
        assert place == same_place and torch.equal(expected, torch.tensor(other))
    assert whole != halves and tables(tmp_path / "a")["codes"] == tables(tmp_path / "b")["codes"]
    with atlas.open(tmp_path / "b") as a:
        assert query.verify(a)["ok"].all()
    with pytest.raises(UsageError, match=r"activations of words as bfloat16.*float32; add --bfloat16"):
        small_run(tmp_path / "b", data, replace(SMALL, limit=3))
    codes_alone = replace(SMALL, limit=3, store_activations=False)
    assert small_run(tmp_path / "b", data, codes_alone, cluster=False).n_new == 0
    assert small_run(tmp_path / "b", data, rounded, cluster=False).already_there


def test_activations_of_many_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are asked for; the plan says what they would take."""
    monkeypatch.setattr(ingest_plan, "AUTOMATIC_ACTIVATIONS", 35)
    data, seen = small_texts(tmp_path / "words"), Seen()
    small_run(tmp_path / "a", data, cluster=False, progress=seen)
    assert rows(tmp_path / "a", "select count(*) from activations") == [(0,)]
    [line] = [line for line in seen.lines if line.startswith("activations")]
    assert re.search(r"not stored, of so many .* take \d\S* kB as float32 or .* as bfloat16 \(--store-act", line)
    small_run(tmp_path / "b", data, replace(SMALL, store_activations=True), cluster=False)
    assert rows(tmp_path / "b", "select count(*) from activations") == [(72,)]


class Seen(Progress):
    """Keeps what is said of the plan."""

    def plan(self, plan: Plan, estimate: Forecast, network: Network, dataset: Dataset) -> None:
        self.lines = describe_plan(plan, estimate, dataset)


def test_a_second_network_shares_the_inputs(tmp_path: Path) -> None:
    path, data = tmp_path / "a", small_texts(tmp_path / "words")
    small_run(path, data, cluster=False)
    inputs = {name: tables(path)[name] for name in ("inputs", "dataset_inputs")}
    small_run(path, data, cluster=False, network=word_network("others", seed=5))
    assert {name: tables(path)[name] for name in inputs} == inputs
    assert rows(path, "select network_id, count(*) from examples group by all order by all") == [(1, 36), (2, 36)]
    with atlas.open(path) as a:
        for network in ("words", "others"):
            ids, codes = a.codes(a.catalog.target(site="blocks.1.mlp", network=network).sites)
            assert len(ids) == len(codes) == 36


def test_same_text_twice_is_stored_once(tmp_path: Path) -> None:
    """The same text twice is stored once with both memberships."""
    path, made = tmp_path / "a", word_texts(5)
    doubled = [*made, ("metal/copy.txt", "metal", made[0][2]), ("river/copy.txt", "river", made[0][2])]
    outcome = small_run(path, write_texts(tmp_path / "first", doubled), cluster=False)
    assert outcome.n_examples == 28 and rows(path, "select count(*) from examples") == [(20,)]
    assert rows(path, "select count(*) from inputs") == [(5,)]
    assert rows(path, "select n_inputs from datasets") == [(7,)]
    small_run(path, write_texts(tmp_path / "second", made[:2]), cluster=False)
    assert rows(path, "select count(*) from inputs") == [(5,)]
    assert rows(path, "select count(*) from examples") == [(20,)]
    assert rows(path, "select site_id, count(*) from codes group by all order by all") == [(1, 20), (2, 20)]
    memberships = """
        select datasets.name, key, dataset_inputs.label from dataset_inputs join datasets using (dataset_id)
        join inputs using (input_id) where content_hash = (
            select content_hash from inputs join dataset_inputs using (input_id) where key = 'metal/copy.txt'
        ) order by all
    """
    assert rows(path, memberships) == [
        ("first", "fruit/0.txt", "fruit"),
        ("first", "metal/copy.txt", "metal"),
        ("first", "river/copy.txt", "river"),
        ("second", "fruit/0.txt", "fruit"),
    ]


def test_texts_without_a_label_are_null(tmp_path: Path) -> None:
    """Texts without a label are null and clusters know it."""
    made = [(key.replace("/", "-"), None, text) for key, _, text in word_texts(9)]
    small_run(tmp_path / "a", write_texts(tmp_path / "flat", made))
    assert rows(tmp_path / "a", "select distinct label from examples") == [(None,)]
    assert rows(tmp_path / "a", "select distinct purity from clusterings") == [(None,)]


class Foretold(Progress):
    """Keeps what was forecast."""

    def plan(self, plan: Plan, estimate: Forecast, network: Network, dataset: Dataset) -> None:
        self.estimate = estimate


def grown_by(path: Path, run: Callable[[Progress], Outcome]) -> tuple[int, int]:
    """Bytes that a run was forecast to add to an empty atlas, and those that it did."""
    atlas.create(path).close()
    empty, progress = size(path), Foretold()
    run(progress)
    return progress.estimate.atlas_bytes, size(path) - empty


def size(path: Path) -> int:
    files = [path / "atlas.duckdb", *path.glob("indexes/*")]
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("store_activations", [True, False])
def test_text_forecast_is_within_a_fifth(store_activations: bool, tmp_path: Path) -> None:
    """The forecast of a text run is within a fifth of the truth."""
    choices = Choices(limit=4, store_activations=store_activations, skip_bad=True, tokens=TokenSampling(24, 100))
    data = open_dataset("builtin:python-heldout", kind="text")
    network = shipped("demo:gpt2")
    forecast, truth = grown_by(
        tmp_path / "a", lambda progress: ingest(tmp_path / "a", network, data, choices, progress=progress)
    )
    assert forecast == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("store_activations", [True, False])
def test_image_forecast_is_within_a_fifth(store_activations: bool, tmp_path: Path) -> None:
    """The forecast of an image run is within a fifth of the truth."""
    choices = Choices(
        limit=200, store_activations=store_activations, sites=("inception3b", "inception4e", "inception5b")
    )
    data = open_dataset("builtin:digits-heldout", kind="image")
    network = shipped("demo:inceptionv1")
    forecast, truth = grown_by(
        tmp_path / "a", lambda progress: ingest(tmp_path / "a", network, data, choices, progress=progress)
    )
    assert forecast == pytest.approx(truth, rel=0.2)


def test_the_forecast_counts_spans(tmp_path: Path) -> None:
    data = small_texts(tmp_path / "words", 12)
    estimates = []
    for name, spans in (("a", ()), ("b", ("blocks.0.mlp->", "blocks.1.mlp->"))):
        progress = Foretold()
        small_run(tmp_path / name, data, Choices(tokens=TOKENS, spans=spans), cluster=False, progress=progress)
        estimates.append(progress.estimate.atlas_bytes)
    # Gates: 13, 20, 9, 31; the spans hold the last three and the last two sites, each code 8 bytes of id.
    assert estimates[1] - estimates[0] == 48 * (3 + 2 + 4 + 8 + 2 + 4 + 8)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_peak_memory_is_bounded_by_shard(tmp_path: Path) -> None:
    """The smaller run, 52 MB, fills what a shard and a writer may use; the larger is four times as large, and takes
    less than twice that: how much DuckDB keeps of what it has freed is a matter of time."""
    line = [sys.executable, "-m", "tests.ingest.generated", str(tmp_path), "4", "100", "400"]
    ran = subprocess.run(line, capture_output=True, text=True, check=True)
    tiny, small, both = map(float, ran.stdout.split())
    assert size(tmp_path / "400") > 3.8 * size(tmp_path / "100") > 3.8 * 45e6
    assert both - tiny < 2 * (small - tiny)


@pytest.fixture(autouse=True)
def no_staging_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert [file for folder in tmp_path.glob("*/staging") for file in folder.iterdir()] == []
