"""What a whole run adds to an atlas: once, whatever is given twice; within memory and disk that it foretold."""

import multiprocessing
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

import atlas
import query
from app.cli.progress import describe_plan
from atlas.errors import UsageError
from atlas.network import Network
from ingest.datasets.base import Dataset
from ingest.datasets.builtin import python_texts
from ingest.datasets.sources import open_dataset
from ingest.progress import Progress
from ingest.run import plan as ingest_plan
from ingest.run.forecast import Forecast
from ingest.run.plan import Choices, Plan
from ingest.run.run import Outcome, ingest
from ingest.run.sampling import TokenSampling
from tests.forked import children
from tests.ingest.generated import send_peaks
from tests.ingest.runs import SITES, SMALL, TOKENS, rows, small_run, small_texts, tables, texts, write_texts
from tests.networks import shipped, word_network, word_texts


def test_same_command_again_changes_nothing(clustered: Path, data: Path) -> None:
    """The same command after completion changes nothing."""
    before = {file: file.stat().st_mtime_ns for file in clustered.rglob("*") if file.is_file()}
    again = small_run(clustered, data)
    assert again.already_there and again.n_examples == 36
    assert {file: file.stat().st_mtime_ns for file in clustered.rglob("*") if file.is_file()} == before


def test_grown_folder_adds_what_is_new(tmp_path: Path, published: Path) -> None:
    """A grown folder adds only what is new; whatever the order of ids, each token has the code that one run gives."""
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
    codes = """
        select text, position, site_id, code::varchar, n_active, activation from codes
        join activations using (site_id, example_id) join examples using (example_id) join inputs using (input_id)
        order by all
    """
    assert rows(path, codes) == rows(published, codes)


def test_other_sites_add_to_same_examples(path: Path, data: Path, tmp_path: Path) -> None:
    """Other sites add codes to the same examples."""
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


def test_activations_can_be_added_later(tmp_path: Path, data: Path, unclustered: dict[str, str]) -> None:
    path = tmp_path / "a"
    small_run(path, data, replace(SMALL, store_activations=False), cluster=False)
    assert rows(path, "select count(*) from activations") == [(0,)]
    small_run(path, data, cluster=False)
    later = tables(path)
    assert [later[name] for name in ("activations", "sites")] == [
        unclustered[name] for name in ("activations", "sites")
    ]


def test_activations_rounded_to_bfloat16(tmp_path: Path, data: Path, published: Path) -> None:
    """They are read back as the nearest numbers of bfloat16, and one kind only is stored of a network."""
    rounded, path = replace(SMALL, bfloat16=True), tmp_path / "a"
    small_run(path, data, rounded, cluster=False)
    whole, halves = (rows(place, "from activations order by all") for place in (published, path))
    for (*place, activation), (*same_place, other) in zip(whole, halves, strict=True):
        expected = torch.tensor(activation).bfloat16().float()
        assert place == same_place and torch.equal(expected, torch.tensor(other))
    codes = "from codes order by all"
    assert whole != halves and rows(published, codes) == rows(path, codes)
    with atlas.open(path) as a:
        assert query.verify(a)["ok"].all()
    with pytest.raises(UsageError, match=r"activations of words as bfloat16.*float32; add --bfloat16"):
        small_run(path, data, replace(SMALL, limit=3))
    codes_alone = replace(SMALL, limit=3, store_activations=False)
    assert small_run(path, data, codes_alone, cluster=False).n_new == 0
    assert small_run(path, data, rounded, cluster=False).already_there


def test_activations_of_many_are_left_out(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are asked for; the plan says what they would take."""
    monkeypatch.setattr(ingest_plan, "AUTOMATIC_ACTIVATIONS", 35)
    seen = Seen()
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


def test_a_second_network_shares_the_inputs(path: Path, data: Path, unclustered: dict[str, str]) -> None:
    small_run(path, data, cluster=False, network=word_network("others", seed=5))
    assert {name for name, held in tables(path).items() if held == unclustered[name]} >= {"inputs", "dataset_inputs"}
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


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The first of Python's own texts: to read all of them takes a second."""
    made = [(f"{i}.txt", None, text.text) for i, text in enumerate(islice(python_texts("heldout"), 4))]
    return texts(write_texts(tmp_path_factory.mktemp("heldout"), made))


@pytest.mark.slow
@pytest.mark.parametrize("store_activations", [True, False])
def test_text_forecast_is_within_a_fifth(store_activations: bool, tmp_path: Path, heldout: Dataset) -> None:
    """The forecast of a text run is within a fifth of the truth."""
    choices = Choices(store_activations=store_activations, skip_bad=True, tokens=TokenSampling(24, 100))
    network = shipped("demo:gpt2")
    forecast, truth = grown_by(
        tmp_path / "a", lambda progress: ingest(tmp_path / "a", network, heldout, choices, progress=progress)
    )
    assert forecast == pytest.approx(truth, rel=0.2)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_peak_memory_is_bounded_by_shard(tmp_path: Path) -> None:
    """The smaller run, 52 MB, fills what a shard and a writer may use; the larger is three times as large, and takes
    less than twice that: how much DuckDB keeps of what it has freed is a matter of time."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = children().Process(target=send_peaks, args=(theirs, tmp_path, 4, 100, 300))
    process.start()
    theirs.close()
    tiny, small, both = (ours.recv() for _ in range(3))
    process.join()
    assert size(tmp_path / "300") > 2.85 * size(tmp_path / "100") > 2.85 * 45e6
    assert both - tiny < 2 * (small - tiny)


@pytest.fixture(autouse=True)
def no_staging_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert [file for folder in tmp_path.glob("*/staging") for file in folder.iterdir()] == []
