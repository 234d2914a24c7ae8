"""Shards written by the workers of a Ray cluster, or by several on this machine.

The driver, which is the process that was started, plans the run and publishes it. A worker is an actor in a process
of its own; it is handed a path and a number at a time: what it needs to write shards lies in a file of the run's
folder, pickled, whose digest it checks before it loads it. The next free worker takes the next shard. A worker that
is lost costs the shard in its hands, which the next one writes anew; a driver that is lost takes its workers with it
and is repeated, as any run is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atlas.errors import StoreError, UsageError, WorkersLost
from atlas.store.disk import replacing

from ..networks.registry import again_of
from .engines import ShardWriter, Tell
from .plan import Shard

WORK = "work.pickle"
"""The file of a run's folder that holds what a worker needs."""

POLL = 0.5
"""Seconds between two looks at how far the workers are."""

GRACE = 30.0
"""Seconds that workers have to end the batch in their hands when a run is stopped."""

LOSSES = 3
"""How many workers a shard, or the beginning of their work, may cost: what ends so many would end all."""

OBJECT_STORE = 128 << 20
"""Bytes of Ray's object store on this machine: only numbers and errors pass through it."""

ENVIRONMENT = {
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine takes longer than the 30 s that Ray waits
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports to its makers unless told otherwise
}
"""What Ray is started with on this machine, where the environment does not say otherwise."""


class RayEngine:
    """Writes shards in Ray's workers, each with a process, its share of cores and its GPU or part of one.

    >>> engine = ingest.RayEngine("local", workers=2)
    >>> ingest.ingest("mine.atlas", network, texts, engine=engine)

    The atlas' folder, the data and the weights are at the same paths on all nodes, which have the same versions of
    Python, Ray and this project. Ray runs code for whoever reaches its ports: only on a private network.
    """

    def __init__(
        self,
        address: str = "local",
        *,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        cpus_per_worker: float | None = None,
    ) -> None:
        """What to run on.

        Args:
            address: ``local`` starts Ray on this machine, for this run; ``auto`` finds the cluster that runs here;
                else HOST:PORT of one. In a process that has called `ray.init`, what that connected to.
            workers: how many; None: as many as the cluster has room for.
            gpus_per_worker: 0 for the CPU; 0.5 where two share a GPU. None: 1 where the cluster has any.
            cpus_per_worker: cores; None: 1, on one machine an equal share of all.

        Raises:
            UsageError: an impossible number.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"--workers is {workers}; it must be at least 1")
        for name, amount in (("gpus", gpus_per_worker), ("cpus", cpus_per_worker)):
            if amount is not None and (amount < 0 or (amount > 1 and amount != int(amount))):
                raise UsageError(f"--{name}-per-worker is {amount:g}; write a whole number, or a share below 1")
        self.address, self.workers = address, workers
        self.gpus_per_worker, self.cpus_per_worker = gpus_per_worker, cpus_per_worker

    def run(self, shards: Sequence[Shard], write: ShardWriter, tell: Tell) -> None:
        """As `Engine.run` says. Raises `WorkersLost` where workers end again and again, `UsageError` for a cluster
        that is not there or has no room for a worker."""
        if not shards:
            return
        with _connected(self.address):
            count, cpus, gpus = self._shares(len(shards))
            _Crew(_packed(write), cpus, gpus, tell).write(shards, count)

    def _shares(self, n_shards: int) -> tuple[int, float, float]:
        """How many workers there will be, and the cores and GPUs of each."""
        import ray

        room = ray.cluster_resources()
        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if room.get("GPU", 0) else 0.0
        cpus = self.cpus_per_worker
        if cpus is None:
            cpus = 1.0
            if self.address == "local":
                cores = int(room["CPU"])
                workers = self.workers or (int(room.get("GPU", 0) / gpus) if gpus else cores) or 1
                cpus = cores // workers or cores / workers
        fits = min(int(room.get(name, 0) / each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each)
        if (fits < 1 and self.workers is None) or (self.address == "local" and fits < (self.workers or 1)):
            raise UsageError(
                f"Ray has {room.get('CPU', 0):g} cores and {room.get('GPU', 0):g} GPUs, which is no room for "
                f"{self.workers or 1} workers with {cpus:g} cores and {gpus:g} GPUs each; ask for fewer (--workers, "
                "--gpus-per-worker)"
            )
        return min(self.workers or fits, n_shards), cpus, gpus


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Ray, until it is left; one that this process had begun before goes on."""
    try:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray
    except ModuleNotFoundError:
        raise UsageError("--ray needs Ray, which is not installed: pip install 'polytope-atlas[ray]'") from None
    if ray.is_initialized():
        yield
        return
    alone: dict[str, Any] = {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(alone if address == "local" else {}))
    except ConnectionError as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({str(error).strip().splitlines()[0]}); start one with "
            "`ray start --head`, or give --ray local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


class _Crew:
    """The workers of one run, and what each has in its hands."""

    def __init__(self, work: tuple[Path, str], cpus: float, gpus: float, tell: Tell) -> None:
        import ray

        self._actors: Any = ray.remote(_Worker).options(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)
        self._needs = (Path.cwd(), *work, "cuda" if gpus else "cpu")
        self._tell = tell
        self._held: dict[Any, tuple[Any, Shard | None]] = {}  # None: it loads what it needs
        self._losses: Counter[Shard | None] = Counter()

    def write(self, shards: Sequence[Shard], count: int) -> None:
        """Have all shards written by ``count`` workers."""
        import ray

        waiting, done = deque(shards), 0
        try:
            for _ in range(count):
                self._hire()
            while waiting or any(shard is not None for _, shard in self._held.values()):
                ready, _ = ray.wait(list(self._held), timeout=POLL)
                for reference in ready:
                    worker, shard = self._held.pop(reference)
                    try:
                        ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from error
                    except ray.exceptions.RayError as error:
                        self._lose(worker, shard, error)
                        waiting.extendleft([] if shard is None else [shard])
                        continue
                    done += 0 if shard is None else shard.n_examples
                    if waiting:
                        following = waiting.popleft()
                        self._held[worker.write.remote(following)] = worker, following
                    else:
                        ray.kill(worker)
                self._tell(done + self._under_way())
        finally:
            self._dismiss()

    def _hire(self) -> None:
        worker: Any = self._actors.remote()
        self._held[worker.load.remote(*self._needs)] = worker, None

    def _lose(self, worker: Any, shard: Shard | None, error: Exception) -> None:
        """A worker is gone, or can't be reached: another one comes in its place, unless that has no end."""
        import ray

        ray.kill(worker)
        self._losses[shard] += 1
        if self._losses[shard] >= LOSSES:
            what = "before it had loaded network and data" if shard is None else f"in shard {shard.number}"
            raise WorkersLost(
                f"{LOSSES} workers ended {what}, one after the other; the last one: {str(error).strip()}\nWhat is "
                "complete is kept: give the same command again once the cause is mended (memory, most often)"
            ) from error
        self._hire()

    def _under_way(self) -> int:
        """Examples of shards that are not complete. A worker that does not answer counts for nothing: that it is
        lost shows in what it has in its hands."""
        import ray

        asked = [worker.told.remote() for worker, shard in self._held.values() if shard is not None]
        answers, _ = ray.wait(asked, num_returns=len(asked), timeout=POLL) if asked else ([], [])
        examples = 0
        for answer in answers:
            with suppress(ray.exceptions.RayError):
                examples += ray.get(answer)
        return examples

    def _dismiss(self) -> None:
        """End all workers, those first asked to stop that write, so that they leave no part of a file."""
        import ray

        writing = {ref: worker for ref, (worker, shard) in self._held.items() if shard is not None}
        for worker in writing.values():
            worker.stop.remote()
        if writing:
            ray.wait(list(writing), num_returns=len(writing), timeout=GRACE)
        for worker, _ in self._held.values():
            ray.kill(worker)
        self._held.clear()


class _Stopped(Exception):
    """The run is over before the shard is."""


class _Worker:
    """Writes one shard at a time, and says meanwhile how far it is."""

    def __init__(self) -> None:
        self._done, self._stopped = 0, False

    def load(self, folder: Path, path: Path, sha256: str, device: str) -> None:
        """Make ready to write shards on a device. Paths may be relative to ``folder``, where the driver is."""
        try:
            os.chdir(folder)
        except OSError as error:
            raise StoreError(
                f"a worker can't go to {folder} ({error.strerror}): what is read must have the same path on all nodes"
            ) from error
        self._write = _unpacked(path, sha256, device)

    def write(self, shard: Shard) -> None:
        self._done = 0
        self._write(shard, self._advance)

    def told(self) -> int:
        """Examples of the shard that are done."""
        return self._done

    def stop(self) -> None:
        self._stopped = True

    def _advance(self, examples: int) -> None:
        if self._stopped:
            raise _Stopped
        self._done += examples


def _packed(write: ShardWriter) -> tuple[Path, str]:
    """Write down what a worker needs; returns the file and its SHA-256."""
    from ray import cloudpickle

    network, folder = write.network, write.folder.absolute()
    try:
        packed = cloudpickle.dumps((again_of(network), write.dataset, write.plan, folder, write.skip_bad))
    except (TypeError, pickle.PicklingError) as error:
        raise UsageError(
            f"network {network.info.name} or dataset {write.dataset.name} can't be sent to other processes "
            f"({error}); name them (MODULE:FACTORY, a folder), or read them without --ray"
        ) from error
    with replacing(folder / WORK) as file:
        file.write(packed)
    return folder / WORK, hashlib.sha256(packed).hexdigest()


def _unpacked(path: Path, sha256: str, device: str) -> ShardWriter:
    """What `_packed` wrote, the network on a device. Loads only what the driver wrote: a pickle is code."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"a worker can't read {path} ({error.strerror}): the folder of the atlas must lie on a disk that all "
            "nodes share, at the same path"
        ) from error
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise StoreError(f"{path} is not what was written; give the same command again, and check the disk")
    try:
        again, *rest = pickle.loads(packed)
    except ImportError as error:
        raise UsageError(f"a worker lacks what network or data need ({error}); install it there") from error
    return ShardWriter(again(device=device), *rest)
