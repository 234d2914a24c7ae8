"""Tasks done by the workers of a Ray cluster, or by several on this machine: shards of a run, say.

The driver, which is the process that was started, plans the work and uses its results. A worker is an actor in a
process of its own; it is handed a path and a task at a time: what it needs lies in a file of the work's folder,
pickled, whose digest it checks before it loads it. The next free worker takes the next task. A worker that is lost
costs the task in its hands, which the next one does anew; a driver that is lost takes its workers with it and is
repeated, as any run is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atlas.errors import StoreError, UsageError, WorkersLost
from atlas.store.disk import replacing
from atlas.threads import use_threads

from .engines import Task, Tell, Work

WORK = "work.pickle"
"""The file of a work's folder that holds what a worker needs."""

POLL = 0.5
"""Seconds between two looks at how far the workers are."""

GRACE = 30.0
"""Seconds that workers have to come to where a task can be left when a work is stopped."""

LOSSES = 3
"""How many workers a task, or the beginning of their work, may cost: what ends so many would end all."""

OBJECT_STORE = 128 << 20
"""Bytes of Ray's object store on this machine: only numbers and errors pass through it."""

ENVIRONMENT = {
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine takes longer than the 30 s that Ray waits
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports to its makers unless told otherwise
}
"""What Ray is started with on this machine, where the environment does not say otherwise."""


class RayEngine:
    """Does tasks in Ray's workers, each with a process, its share of cores and its GPU or part of one.

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

    def run(self, tasks: Sequence[Task], work: Work, tell: Tell) -> None:
        """As `Engine.run` says. Raises `WorkersLost` where workers end again and again, `UsageError` for a cluster
        that is not there or has no room for a worker."""
        if not tasks:
            return
        with connected(self.address):
            count, cpus, gpus = self.shares(len(tasks))
            _Crew(_packed(work), work.unit, cpus, gpus, tell).do(tasks, count)

    def shares(self, n_tasks: int) -> tuple[int, float, float]:
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
        return min(self.workers or fits, n_tasks), cpus, gpus


@contextmanager
def connected(address: str) -> Iterator[None]:
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

    def __init__(self, packed: tuple[Path, str], unit: str, cpus: float, gpus: float, tell: Tell) -> None:
        import ray

        self._actors: Any = ray.remote(_Worker).options(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)
        self._needs = (Path.cwd(), *packed, "cuda" if gpus else "cpu", max(1, int(cpus)))
        self._unit, self._tell = unit, tell
        self._held: dict[Any, tuple[Any, Task | None]] = {}  # None: it loads what it needs
        self._losses: Counter[Task | None] = Counter()

    def do(self, tasks: Sequence[Task], count: int) -> None:
        """Have all tasks done by ``count`` workers."""
        import ray

        waiting, done = deque(tasks), 0
        try:
            for _ in range(count):
                self._hire()
            while waiting or any(task is not None for _, task in self._held.values()):
                ready, _ = ray.wait(list(self._held), timeout=POLL)
                for reference in ready:
                    worker, task = self._held.pop(reference)
                    try:
                        ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from error
                    except ray.exceptions.RayError as error:
                        self._lose(worker, task, error)
                        waiting.extendleft([] if task is None else [task])
                        continue
                    done += 0 if task is None else task.size
                    if waiting:
                        following = waiting.popleft()
                        self._held[worker.do.remote(following)] = worker, following
                    else:
                        ray.kill(worker)
                self._tell(done + self._under_way())
        finally:
            self._dismiss()

    def _hire(self) -> None:
        worker: Any = self._actors.remote()
        self._held[worker.load.remote(*self._needs)] = worker, None

    def _lose(self, worker: Any, task: Task | None, error: Exception) -> None:
        """A worker is gone, or can't be reached: another one comes in its place, unless that has no end."""
        import ray

        ray.kill(worker)
        self._losses[task] += 1
        if self._losses[task] >= LOSSES:
            what = "before it had loaded what it needs" if task is None else f"in {self._unit} {task.number}"
            raise WorkersLost(
                f"{LOSSES} workers ended {what}, one after the other; the last one: {str(error).strip()}\nWhat is "
                "complete is kept: give the same command again once the cause is mended (memory, most often)"
            ) from error
        self._hire()

    def _under_way(self) -> int:
        """What is done of tasks that are not complete. A worker that does not answer counts for nothing: that it is
        lost shows in what it has in its hands."""
        import ray

        asked = [worker.told.remote() for worker, task in self._held.values() if task is not None]
        answers, _ = ray.wait(asked, num_returns=len(asked), timeout=POLL) if asked else ([], [])
        amount = 0
        for answer in answers:
            with suppress(ray.exceptions.RayError):
                amount += ray.get(answer)
        return amount

    def _dismiss(self) -> None:
        """End all workers, those first asked to stop that are in a task, so that they leave no part of a file."""
        import ray

        working = {ref: worker for ref, (worker, task) in self._held.items() if task is not None}
        for worker in working.values():
            worker.stop.remote()
        if working:
            ray.wait(list(working), num_returns=len(working), timeout=GRACE)
        for worker, _ in self._held.values():
            ray.kill(worker)
        self._held.clear()


class _Stopped(Exception):
    """The run is over before the task is."""


class _Worker:
    """Does one task at a time, and says meanwhile how far it is."""

    def __init__(self) -> None:
        self._done, self._stopped = 0, False

    def load(self, folder: Path, path: Path, sha256: str, device: str, threads: int) -> None:
        """Make ready for tasks, on a device and so many threads. Paths may be relative to ``folder``, where the
        driver is."""
        try:
            os.chdir(folder)
        except OSError as error:
            raise StoreError(
                f"a worker can't go to {folder} ({error.strerror}): what is read must have the same path on all nodes"
            ) from error
        use_threads(threads)
        self._work = _unpacked(path, sha256)(device)

    def do(self, task: Task) -> None:
        self._done = 0
        self._work(task, self._advance)

    def told(self) -> int:
        """How much of the task is done."""
        return self._done

    def stop(self) -> None:
        self._stopped = True

    def _advance(self, amount: int) -> None:
        if self._stopped:
            raise _Stopped
        self._done += amount


def _packed(work: Work) -> tuple[Path, str]:
    """Write down what a worker needs; returns the file and its SHA-256."""
    from ray import cloudpickle

    try:
        packed = cloudpickle.dumps(work.elsewhere())
    except (TypeError, pickle.PicklingError) as error:
        raise UsageError(
            f"{work.described} can't be sent to other processes ({error}); name them (MODULE:FACTORY, a folder), or "
            "read them without --ray"
        ) from error
    path = work.folder.absolute() / WORK
    with replacing(path) as file:
        file.write(packed)
    return path, hashlib.sha256(packed).hexdigest()


def _unpacked(path: Path, sha256: str) -> Callable[[str], Work]:
    """What `_packed` wrote. Loads only what the driver wrote: a pickle is code."""
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
        again: Callable[[str], Work] = pickle.loads(packed)
    except ImportError as error:
        raise UsageError(f"a worker lacks what network or data need ({error}); install it there") from error
    return again
