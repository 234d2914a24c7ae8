"""Shards written by Ray's workers, on two nodes of this machine: the same tables, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

import atlas
from app.cli.commands import run as polytope
from atlas.errors import BadInput, UsageError, WorkersLost
from atlas.store.buckets import Bucket
from ingest.datasets.coded import open_codes
from ingest.datasets.sources import open_dataset
from ingest.run.ray_engine import ENVIRONMENT, RayEngine
from ingest.run.run import ingest
from tests import object_store
from tests.ingest.run.mortal import Meeting, MortalReader, end_node
from tests.ingest.runs import Stop, leftovers, rows, run_in_child, small_run, small_texts, tables
from tests.networks import PixelNetwork

pytestmark = pytest.mark.slow

STORE = 80 << 20
"""Bytes, nearly the least that Ray takes."""

ALONE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
"""Nobody looks at these nodes, reads what their workers print, or starts more of them: each would be a process."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of a core each, which know a store and share a cache; this process is connected to them."""
    known = object_store.environment(object_store.endpoint()) | {"POLYTOPE_CACHE": str(tmp_path_factory.mktemp("c"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | known).items():
            patch.setenv(name, value)
        head = {"num_cpus": 1, "object_store_memory": STORE, **ALONE}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            made.add_node(num_cpus=1, object_store_memory=STORE)
            ray.init(made.address, log_to_driver=False)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture(scope="module")
def meeting(cluster: Cluster) -> str:
    """The name of an actor where workers wait for each other."""
    made = ray.remote(Meeting).options(num_cpus=0, name="meeting", lifetime="detached").remote()
    ray.get(made.come.remote("itself", 1))
    return "meeting"


@pytest.fixture
def one(cluster: Cluster) -> RayEngine:
    return RayEngine(cluster.address, workers=1, cpus_per_worker=1, gpus_per_worker=0)


@pytest.fixture
def two(cluster: Cluster) -> RayEngine:
    return RayEngine(cluster.address, workers=2, cpus_per_worker=1, gpus_per_worker=0)


def test_lost_worker_costs_its_shard(one: RayEngine, tmp_path: Path, data: Path, unclustered: dict[str, str]) -> None:
    """One that is killed in its shard is replaced, and nothing but that shard is read again."""
    network = MortalReader(tmp_path / "log", deaths=1)
    small_run(tmp_path / "a", data, network=network, cluster=False, engine=one)
    assert tables(tmp_path / "a") == unclustered
    assert len(network.read_by()) == 9 + 2


def test_shard_that_ends_all_is_named(
    one: RayEngine, tmp_path: Path, data: Path, unclustered: dict[str, str]
) -> None:
    """What ends three workers would end all; what is complete is kept."""
    network = MortalReader(tmp_path / "log", deaths=1000)
    with pytest.raises(WorkersLost, match=r"3 workers ended in shard 0(.|\n)*give the same command again"):
        small_run(tmp_path / "a", data, network=network, cluster=False, engine=one)
    small_run(tmp_path / "a", data, cluster=False)
    assert tables(tmp_path / "a") == unclustered


def test_a_node_dies_in_mid_shard(
    cluster: Cluster, meeting: str, tmp_path: Path, data: Path, unclustered: dict[str, str]
) -> None:
    """The shard that was in its hands is read by those that are left, though nobody takes its place."""
    cluster.add_node(num_cpus=1, resources={"third": 1}, object_store_memory=STORE)
    [third] = [node["NodeID"] for node in ray.nodes() if "third" in node["Resources"]]
    network = MortalReader(tmp_path / "log", deaths=1, dies=end_node, node=third, meeting=meeting, size=3)
    engine = RayEngine(cluster.address, workers=3, cpus_per_worker=1, gpus_per_worker=0)
    small_run(tmp_path / "a", data, network=network, cluster=False, engine=engine)
    assert tables(tmp_path / "a") == unclustered
    assert len(network.read_by()) == 9 + 2


def test_drivers_that_end_are_repeated(
    one: RayEngine, two: RayEngine, meeting: str, tmp_path: Path, data: Path, unclustered: dict[str, str]
) -> None:
    """A driver takes its workers with it, else there would be no room for two that meet, one on each node; one that
    Ctrl-C ends leaves no part of a file."""
    killed, interrupted, shared = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    assert run_in_child(killed, data, Stop("read", 3, signal.SIGKILL), engine=one).code == -signal.SIGKILL
    ended = run_in_child(interrupted, data, Stop("read", 3, signal.SIGINT), engine=one)
    assert ended.error is not None and ended.error[0] == "RunInterrupted" and "of 3 shards" in ended.error[1]
    assert leftovers(interrupted) == []
    network = MortalReader(tmp_path / "log", meeting=meeting, size=2)
    small_run(shared, data, network=network, cluster=False, engine=two)
    nodes, processes = (set(who) for who in zip(*network.read_by(), strict=True))
    assert len(network.read_by()) == 9 and len(nodes) == 2 and str(os.getpid()) not in processes
    for path in (killed, interrupted):
        assert rows(path, "from runs") == []
        small_run(path, data, cluster=False)
    for path in (killed, interrupted, shared):
        assert tables(path) == unclustered and leftovers(path) == []


def test_what_a_worker_raises_is_raised(one: RayEngine, tmp_path: Path) -> None:
    """An input that only the worker opens ends the run with the sentence that it ends with in one process."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "broken.png").write_bytes(b"no image")
    dataset = open_dataset(str(images), kind="image")
    told = []
    for engine in (None, one):
        with pytest.raises(BadInput) as caught:
            ingest(tmp_path / "a", PixelNetwork(), dataset, engine=engine)
        told.append(str(caught.value))
    assert told[0] == told[1] and told[0].startswith("broken.png ")


def test_datasets_reach_other_processes(tmp_path: Path) -> None:
    """A dataset of which something was read is pickled as paths and names, and reads the same elsewhere."""
    values = np.random.default_rng(0).random((5_000, 8), dtype=np.float32)
    np.save(tmp_path / "rows.npy", values)
    np.savez(tmp_path / "codes.npz", key=np.arange(5_000).astype(str), gates=values > 0.5)
    lines = pa.table({"text": ["one two", "three"], "label": ["a", "b"]})
    pq.write_table(lines, tmp_path / "texts.parquet", row_group_size=1)
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    datasets = [
        open_dataset(str(small_texts(tmp_path / "words")), kind="text"),
        open_dataset(str(tmp_path / "texts.jsonl"), kind="text"),
        open_dataset(str(tmp_path / "texts.parquet"), kind="text"),
        open_dataset(str(tmp_path / "rows.npy"), kind="vector"),
        open_codes(tmp_path / "codes.npz")[1],
    ]
    for dataset in datasets:
        next(iter(dataset.items()))
        packed = ray.cloudpickle.dumps(dataset)
        assert len(packed) < values.nbytes // 2
        again = pickle.loads(packed)
        assert again.fingerprint == dataset.fingerprint
        for one, other in zip(dataset.items(), again.items(), strict=True):
            assert (one.key, one.label, one.content_hash) == (other.key, other.label, other.content_hash)


def test_more_than_there_is_is_refused(cluster: Cluster, tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match=r"Ray has \d cores and 0 GPUs.*--gpus-per-worker"):
        small_run(tmp_path / "a", data, engine=RayEngine(cluster.address, gpus_per_worker=1))


RAY_AUTO = ("--ray", "auto", "--workers", "1")


@pytest.fixture
def told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command that succeeds prints."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["polytope", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            polytope()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return run


def test_codes_are_read_by_workers(told: Callable[..., str], tmp_path: Path) -> None:
    """`polytope ingest --ray auto` uses the cluster that is there, for codes and an atlas in tables."""
    np.savez(
        tmp_path / "codes.npz", key=np.arange(50).astype(str), gates=np.random.default_rng(0).random((50, 9)) > 0.5
    )
    ingested = told("ingest", tmp_path / "a", "--codes", tmp_path / "codes.npz", "--no-cluster", *RAY_AUTO)
    assert "is in the atlas: 50 examples" in ingested
    assert rows(tmp_path / "a", "select count(*) from codes") == [(50,)]
    assert leftovers(tmp_path / "a") == []


def test_a_laboratorys_lines_run(told: Callable[..., str], tmp_path: Path) -> None:
    """Data and atlas in a bucket: read, clustered, indexed and searched by Ray's workers, asked from a laptop."""
    lab = object_store.new_bucket()
    at = f"{lab}/moons.atlas"
    for number in range(2):
        points = np.random.default_rng(number).normal(size=(60, 2)).astype(np.float32)
        np.save(tmp_path / "points.npy", points)
        assert Bucket(lab).create(f"data/{number}/points.npy", (tmp_path / "points.npy").read_bytes())
        data = ("--network", "demo:two-moons", "--data", f"{lab}/data/{number}/points.npy", "--data-name", number)
        by = RAY_AUTO if number == 0 else ()  # what is added later is read here
        ingested = told("ingest", at, *data, "--no-cluster", "--no-store-activations", *by)
        assert "is in the atlas: 60 examples" in ingested
    with atlas.open(at) as a:
        site = ("--site", a.catalog.sites[0].name)
        assert a.rows("select source from datasets order by all")[0] == (f"{lab}/data/0/points.npy",)
    assert "clustering 1: codes of" in told("cluster", at, *site, *RAY_AUTO)
    assert "ids,true" in told("sql", at, "select ties, exact from clusterings", "--format", "csv").lower()
    assert "clustering 2: codes of" in told("cluster", at, *site, "--sample", 80, "--place")
    near = ("nearest", at, "--example", 17, *site, "--format", "csv")
    alone = told(*near)
    assert told(*near, *RAY_AUTO) == alone and len(alone.splitlines()) == 11
    assert "built ivf of" in told("index", at, "--kind", "ivf", *RAY_AUTO)
    assert "120" in told("sql", at, "select count(distinct example_id) as n from codes", "--format", "csv")
    assert len(told("versions", at, "--format", "csv").splitlines()) == 1 + 7  # a header, and the empty one
    assert not Path("s3:").exists()
