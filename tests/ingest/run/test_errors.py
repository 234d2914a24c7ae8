"""Everything that can go wrong with a run: one message that says what and what to do, and nothing half done."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atlas
from atlas.errors import (
    AtlasLocked,
    BadInput,
    DiskFull,
    EmptyDataset,
    NonFinite,
    NotAnAtlas,
    StoreError,
    UsageError,
    WeightsError,
)
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices
from ingest.run.ray_engine import RayEngine
from ingest.run.run import ingest
from tests.atlases import begin
from tests.ingest.runs import (
    SMALL,
    TOKENS,
    Watching,
    held,
    leftovers,
    rows,
    small_run,
    small_texts,
    tables,
    texts,
    write_texts,
)
from tests.networks import PixelNetwork, WordReader, pixel_images, plane_network, word_network

# --- networks --------------------------------------------------------------------------------------------------


def broken_network() -> WordReader:
    """One NaN among the weights of its second layer."""
    network = word_network()
    name, weight, bias = network.layers[1]
    network.layers[1] = name, np.where(np.arange(weight.size).reshape(weight.shape) == 5, np.nan, weight), bias
    return network


def test_nan_weights_name_site_and_input(tmp_path: Path, data: Path) -> None:
    """Nan weights are named with the site and the input."""
    with pytest.raises(NonFinite, match=r"NaN or infinity at site blocks.1.mlp for fruit/0.txt, token 1 \('fruit"):
        small_run(tmp_path / "a", data, network=broken_network())
    assert rows(tmp_path / "a", "from networks") == [] and leftovers(tmp_path / "a") == []


def test_nan_input_is_named_with_its_token(tmp_path: Path) -> None:
    """An input that gives nan is named with its token."""
    points = [("a.txt", None, "1:1 2:2 3:1 1:3"), ("b.txt", None, "1:1 2:2 nan:1 1:3")]
    choices = Choices(tokens=replace(TOKENS, per_sequence=3))
    with pytest.raises(NonFinite, match=r"at site hidden for b.txt, token 2 \('nan:1'\) \(2 of 6 examples"):
        small_run(tmp_path / "a", write_texts(tmp_path / "points", points), choices, network=plane_network())


def test_other_network_of_same_name_refused(path: Path, data: Path, unclustered: dict[str, str]) -> None:
    """Another network of the same name is refused before it is run."""
    with pytest.raises(WeightsError, match=r"a network 'words' with other weights .* give these a name with --name"):
        small_run(path, data, network=word_network(seed=1))
    other_window = word_network()
    other_window.info = replace(other_window.info, reading={**other_window.info.reading, "window": 6})
    with pytest.raises(WeightsError, match=r"read in another way \(window: 5 → 6\)"):
        small_run(path, data, network=other_window)
    assert tables(path) == unclustered


# --- data ------------------------------------------------------------------------------------------------------


def test_unreadable_text_is_refused_or_told(tmp_path: Path) -> None:
    """A text that can not be read is refused or skipped and listed."""
    data = small_texts(tmp_path / "words")
    (data / "fruit" / "99.txt").write_bytes(b"fruit1 fruit2 \xfe")
    with pytest.raises(BadInput, match=r"1 of 10 inputs can't be used(.|\n)*fruit/99.txt is not UTF-8: byte 14"):
        small_run(tmp_path / "a", data)
    outcome = small_run(tmp_path / "a", data, replace(SMALL, skip_bad=True), cluster=False)
    assert outcome.bad == [("fruit/99.txt", "is not UTF-8: byte 14 is 0xfe")] and outcome.n_examples == 36
    assert rows(tmp_path / "a", "select run_id, key from bad_inputs") == [(1, "fruit/99.txt")]


def write_images(folder: Path, n_images: int = 9) -> Path:
    for key, _, image in pixel_images(n_images):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / key)
    return folder


IMAGES = Choices(batch_size=2, shard_examples=3)


def run_images(path: Path, folder: Path, choices: Choices = IMAGES, **options: Any) -> Any:
    begin(path)
    return ingest(path, PixelNetwork(), open_dataset(str(folder), kind="image"), choices, cluster=False, **options)


def test_broken_image_stops_or_is_skipped(tmp_path: Path) -> None:
    """A broken image stops the run and with skip bad the same run goes on."""
    path, folder = tmp_path / "a", write_images(tmp_path / "images")
    broken = folder / "dark" / "2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(BadInput, match=r"dark/2.png .*\n.*--skip-bad"):
        run_images(path, folder)
    complete = list((path / "staging").glob("*/[0-9]*[0-9].parquet"))
    assert len(complete) == 1 and leftovers(path) == []
    changed = complete[0].stat().st_mtime_ns
    seen: list[int] = []
    watch = Watching(lambda step, number: seen.append(complete[0].stat().st_mtime_ns) if step == "publish" else None)
    outcome = run_images(path, folder, replace(IMAGES, skip_bad=True), progress=watch)
    assert [key for key, _ in outcome.bad] == ["dark/2.png"] and outcome.n_examples == 8
    assert set(seen) == {changed}, "the complete shard was kept"
    assert rows(path, "select n_bad from runs") == [(1,)]


def test_forecast_of_broken_images(tmp_path: Path) -> None:
    """The forecast survives a beginning of broken images."""
    path, folder = tmp_path / "a", write_images(tmp_path / "images", 20)
    for file in (folder / "bright").iterdir():
        file.write_bytes(b"no image")
    outcome = run_images(path, folder, Choices(batch_size=2, skip_bad=True))
    assert len(outcome.bad) == outcome.n_examples == 10


def test_no_image_decodes_is_empty_dataset(tmp_path: Path) -> None:
    """Images of which none decodes are an empty dataset."""
    path, folder = tmp_path / "a", write_images(tmp_path / "images", 4)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(EmptyDataset, match=r"4 of 4 inputs are unusable(.|\n)*bright/1.png is no JPEG"):
        run_images(path, folder, replace(IMAGES, skip_bad=True))
    assert rows(path, "from networks") == [] and list((path / "staging").iterdir()) == []


def test_dataset_name_means_one_kind(path: Path, tmp_path: Path) -> None:
    """A dataset name means one kind of data."""
    with pytest.raises(UsageError, match=r"already holds a dataset 'words' of texts, and these are images"):
        images = open_dataset(str(write_images(tmp_path / "images")), kind="image", name="words")
        ingest(path, PixelNetwork(), images, IMAGES)


# --- other processes -------------------------------------------------------------------------------------------


def test_locked_atlas_names_the_writer(path: Path, data: Path) -> None:
    """An atlas that is being written names the process and its command."""
    with held(path, writable=True) as process:
        with pytest.raises(AtlasLocked, match=rf"is being written by process {process} \(`.+`, since 20.* UTC\)"):
            small_run(path, data, cluster=False, wait=0)
        with pytest.raises(AtlasLocked, match="wait until it has finished"):
            atlas.open(path)
    assert small_run(path, data, cluster=False).already_there


def test_damaged_note_hides_no_error(tmp_path: Path) -> None:
    """A damaged note of the writer does not hide the error."""
    begin(tmp_path / "a")
    with held(tmp_path / "a", writable=True) as process:
        (tmp_path / "a" / "writer.json").write_text('{"pid": ')
        with pytest.raises(AtlasLocked, match=rf"is being written by process {process}; wait"):
            atlas.open(tmp_path / "a")


def test_reader_keeps_run_from_publishing(path: Path, tmp_path: Path) -> None:
    """A reader keeps a run from being published and the shards are kept."""
    more = small_texts(tmp_path / "words", 12)
    with held(path, writable=False) as process:
        with pytest.raises(AtlasLocked, match=rf"is being read or written by process {process}.*close it, and try"):
            small_run(path, more, cluster=False, wait=0)
        shards = {file: file.stat().st_mtime_ns for file in path.glob("staging/*/*.parquet")}
        assert len(shards) == 8 and rows(path, "select count(*) from runs") == [(1,)]
    seen: list[bool] = []
    same = Watching(
        lambda step, number: (
            seen.append(shards == {file: file.stat().st_mtime_ns for file in shards}) if step == "publish" else None
        )
    )
    small_run(path, more, cluster=False, progress=same)
    assert set(seen) == {True} and rows(path, "select count(*) from runs") == [(2,)]


def test_a_run_waits_for_a_reader(path: Path, tmp_path: Path) -> None:
    """A run that is to be published waits until a reader has closed the atlas."""
    with ExitStack() as reader:
        reader.enter_context(held(path, writable=False))
        closes = Watching(lambda step, number: reader.close() if step.startswith("wait until") else None)
        small_run(path, small_texts(tmp_path / "words", 12), cluster=False, progress=closes)
    assert rows(path, "select count(*) from runs") == [(2,)]


@pytest.mark.parametrize("step", ["read", "wait until"])
def test_same_run_at_once_is_recorded_once(step: str, tmp_path: Path, data: Path) -> None:
    """What another process publishes while the same run reads, or waits to publish, is not recorded again."""
    path = tmp_path / "a"
    begin(path)
    with ExitStack() as reader:
        if step != "read":
            reader.enter_context(held(path, writable=False))

        def same(name: str, number: int) -> None:
            if name.startswith(step) and number == 0:
                reader.close()
                small_run(path, data, cluster=False)

        outcome = small_run(path, data, cluster=False, progress=Watching(same))
    assert outcome.already_there and rows(path, "select count(*) from runs") == [(1,)]
    assert list((path / "staging").iterdir()) == []


# --- names and places ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["..", ".", "", "a/b", "../../home", ".hidden", "a b"])
def test_run_is_named_like_a_folder(run: str, tmp_path: Path, data: Path) -> None:
    """A run is named like a folder in staging."""
    (tmp_path / "a" / "staging").mkdir(parents=True)
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(UsageError, match=r"--run is .*; it names a folder"):
        small_run(tmp_path / "a", data, run=run, discard=True)
    assert (tmp_path / "a" / "kept").exists()


WORKERS = {
    "--workers is 0": {"workers": 0},
    "--gpus-per-worker is -1": {"gpus_per_worker": -1.0},
    "--gpus-per-worker is 1.5": {"gpus_per_worker": 1.5},
}


@pytest.mark.parametrize("named", WORKERS)
def test_impossible_workers_are_refused(named: str) -> None:
    with pytest.raises(UsageError, match=named):
        RayEngine("local", **WORKERS[named])


def test_a_path_that_is_a_file_is_refused(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(NotAnAtlas, match=r"/a is a file; an atlas is a folder"):
        small_run(tmp_path / "a", data)
    assert (tmp_path / "a").read_text() == "mine"


# --- disks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that gives a file system of its own of so many bytes, in memory."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
            pytest.skip("only root may mount a small file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: object) -> int:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode


def fill(folder: Path, leave: int = 0) -> None:
    """Use up the disk, but for ``leave`` bytes."""
    space = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - leave, 1))


FULL_AT = {
    "while planning": ("plan", 1, 0, "staging"),
    "in the middle of a shard": ("read", 15, 0, "000001"),
    "while publishing": ("publish", 0, 0, "free some"),
    "while publishing, near the end": ("publish", 0, 1, "free some"),
    "while indexing": ("index", 0, 0, "free some"),
    "while clustering": ("cluster blocks.1", 0, 0, "free some"),
}
"""When the disk fills up: at which event of which step, how many journals of a commit still fit, and a part of the
message."""


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Choices, dict[bool, dict[str, str]], int]:
    """Texts, choices, the tables of an undisturbed run by whether it clusters, the bytes of its commit's journal."""
    root, choices = tmp_path_factory.mktemp("larger"), replace(SMALL, shard_examples=40)
    data = small_texts(root / "words", 30)
    journals: list[int] = []

    def measure(step: str, number: int) -> None:
        if step == "index" and number == 0 and not journals:
            journals.append((root / "a" / "atlas.duckdb.wal").stat().st_size)

    expected = {}
    for cluster in (False, True):
        small_run(root / "a", data, choices, cluster=cluster, progress=Watching(measure))
        expected[cluster] = tables(root / "a")
    return data, choices, expected, journals[0]


@pytest.mark.slow
@pytest.mark.parametrize("when", FULL_AT)
def test_full_disk_then_same_command_again(
    when: str, larger: tuple[Path, Choices, dict[bool, dict[str, str]], int], disk: Callable[[str], Path]
) -> None:
    """A full disk leaves nothing half written and the same command completes."""
    path, (data, choices, expected, journal) = disk("40m") / "a", larger
    step, number, journals, named = FULL_AT[when]
    cluster = step.startswith("cluster")
    pages = 2 * os.sysconf("SC_PAGE_SIZE")  # a file system gives whole pages

    def fill_up(at: str, event: int) -> None:
        if at.startswith(step) and event == number:
            fill(path.parent, journals * (journal + pages))

    with pytest.raises(DiskFull, match=named):
        small_run(path, data, choices, cluster=cluster, progress=Watching(fill_up))
    # A commit that fitted into DuckDB's journal is whole, though it could not be moved into the database yet.
    assert set(leftovers(path)) <= {"atlas.duckdb.wal"}
    assert len(rows(path, "from runs")) == 1 or step not in ("index", "cluster blocks.1")
    (path.parent / "filler").unlink()
    small_run(path, data, choices, cluster=cluster)
    assert tables(path) == expected[cluster]
    assert leftovers(path) == []


def test_run_that_will_not_fit_is_refused(tmp_path: Path, data: Path, disk: Callable[[str], Path]) -> None:
    """A run that will not fit is refused before it begins."""
    path = disk("40m") / "a"
    begin(path)
    fill(path.parent, 1_500_000)
    with pytest.raises(DiskFull, match=r"the run needs about 0.00\d+ GB .* GB are free. Free some, choose fewer --s"):
        small_run(path, data)
    assert list(path.glob("staging/*/*.parquet")) == []


def test_disk_too_small_for_empty_atlas(data: Path, disk: Callable[[str], Path]) -> None:
    """A disk too small for an empty atlas is full."""
    path = disk("100k") / "a"
    with pytest.raises(DiskFull, match="free some"):
        ingest(path, word_network(), texts(data), SMALL)
    assert not list(path.iterdir())


def test_unwritable_folder_can_still_be_read(data: Path, published: Path, disk: Callable[[str], Path]) -> None:
    """A folder that can not be written is an error and reading goes on."""
    folder = disk("40m")
    shutil.copytree(published, folder / "a")
    assert _mount("-o", "remount,ro", folder) == 0
    for path, more in ((folder / "a", replace(SMALL, seed=1)), (folder / "new", SMALL)):
        with pytest.raises(StoreError, match=r"can't be written \(.*Read-only file system.*give another folder"):
            ingest(path, word_network(), texts(data), more)
    with pytest.raises(StoreError, match=r"can't be written \(.*Read-only file system"):
        atlas.open(folder / "a", writable=True)
    watching = Watching(lambda step, number: None)
    assert small_run(folder / "a", data, cluster=False, progress=watching).already_there


def test_too_short_texts_say_by_how_much(tmp_path: Path, data: Path) -> None:
    """Texts that are all too short say by how much."""
    with pytest.raises(EmptyDataset, match=r"has 12 tokens in sequences of at most 5; sampling needs at least 106"):
        small_run(tmp_path / "a", data, Choices(skip_bad=True))


def test_an_empty_folder_is_an_empty_dataset(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EmptyDataset, match=r"nothing holds no text for a text network"):
        texts(tmp_path / "nothing")
