"""A run from end to end: plan, shards, publish, cluster, index.

The database is not held while the network runs. Every step leaves what is complete on the disk, so the same command
given again after a kill, a full disk or Ctrl-C goes on where it stopped and ends with the same tables.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import AtlasLocked, DiskFull, PlanChanged, RunInterrupted, StoreError, UsageError
from atlas.network import Network
from atlas.store.atlas import Atlas
from atlas.store.disk import disk_full, remove_stranger, replacing, sealed, unsealed
from atlas.store.opening import exists, is_segmented, local_folder, make

from ..datasets.base import Dataset, Item
from ..derived.clusters import cluster_all
from ..derived.indexes import build_indexes
from ..derived.job import PATIENCE, STAGING, patiently, reading
from ..progress import Progress
from .engines import Engine, LocalEngine
from .forecast import Forecast, forecast
from .outlook import Outlook
from .plan import Choices, Plan, Shard, choose_inputs, difference, make_plan, no_example, read_inputs
from .publish import check_dataset, check_network, is_published, publish
from .shard_writer import ShardWriter
from .shards import inputs_path, is_complete, is_intact, seal_path, shard_path

PLAN = "plan.json"
ATTEMPTS = 3
"""How often a run is published whose shards are found to be damaged, and written again."""

REMOVED = ".removed-"  # no run's name starts with a dot


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    ``n_examples`` were read, as planned; ``n_new`` of them were not in the atlas yet, and are stored.
    """

    run: str
    plan: Plan
    already_there: bool
    n_examples: int
    n_new: int
    bad: list[tuple[str, str]]
    notes: list[str]


def ingest(
    path: str | Path,
    network: Network,
    dataset: Dataset,
    choices: Choices | None = None,
    *,
    run: str | None = None,
    engine: Engine | None = None,
    cluster: bool = True,
    discard: bool = False,
    segmented: bool = False,
    wait: float = PATIENCE,
    progress: Progress | None = None,
) -> Outcome:
    """Run a network over a dataset and add what it did to an atlas: activations, codes, indexes, clusters.

    What was stopped goes on when called again, and ends with the same tables. While the network runs nobody is kept
    from the atlas; to publish, index and cluster, it is open for writing.

    Args:
        path: folder of the atlas; made if need be, else added to.
        network: what `load_network` returns, or any other `atlas.Network`.
        dataset: what `open_dataset` returns, or any other `Dataset` of the network's kind.
        choices: sites, sampling, limits; None: every position site of every input.
        run: name of the run; None: network and dataset.
        engine: who reads: None for this process; `RayEngine` for several, on one machine or many.
        cluster: whether to cluster the codes of every site, up to 20,000 examples.
        discard: forget what an unfinished run of this name has done.
        segmented: make a new atlas of codes in files that never change, in versions; one that is there must be such.
        wait: seconds to wait at most while somebody else has the atlas open.
        progress: is told the plan, and how far each step is.

    Returns:
        What the run did.

    Raises:
        PlanChanged: the unfinished run of this name was planned differently.
        EmptyDataset: no input gives an example.
        BadInput: inputs can't be read, unless ``choices.skip_bad``.
        SequenceTooShort: texts have too few tokens for the sampling, unless ``choices.skip_bad``.
        UnknownName: the network has no such site.
        UsageError: an impossible argument, or a dataset of another kind under this name.
        WeightsError: the atlas holds another network under this name.
        NonFinite: an activation is NaN or infinite.
        AtlasLocked: somebody else has the atlas open, for longer than ``wait``.
        DiskFull: there is too little space.
        WorkersLost: the engine's processes end again and again.
        RunInterrupted: Ctrl-C.
    """
    path, choices, progress = Path(path), choices or Choices(), progress or Progress()
    engine = engine or LocalEngine()
    name = _run_name(run, network, dataset)
    folder = local_folder(path) / STAGING / name
    finish = partial(_finish, network=network, name=name, cluster=cluster, progress=progress)
    if segmented and exists(path) and not is_segmented(path):
        raise UsageError(f"{path} keeps its codes in tables; `polytope convert {path} NEW` makes a segmented one")
    recorded = partial(_recorded, path, network, dataset, segmented, wait, progress)
    whole, notes = ExitStack(), list[str]()
    try:
        first, published, held = recorded()
        with progress.step("plan", unit="inputs") as step:
            plan = make_plan(network, dataset, choices, progress=step.update)
        _check_one_kind(network, plan, held)
        if discard:
            _remove(folder)
        already_there = plan.digest in published
        if not already_there:
            started_at = _settle_plan(folder, name, plan)
            write = ShardWriter(network, dataset, plan, folder, choices.skip_bad)
            asked = {"first": first, "cluster": cluster, "segmented": is_segmented(path)}
            estimate = forecast(network, dataset, write.ordinals, plan, **asked)
            progress.plan(plan, estimate, network, dataset)
            _check_space(path, plan, estimate, folder)
            whole.enter_context(progress.run(Outlook.of(plan, cluster=cluster)))
            try:
                _write_shards(engine, write, progress)
            except FileNotFoundError:  # who ran the same at once has published it, and removed what was staged
                if folder.exists() or plan.digest not in recorded().plans:
                    raise
        if already_there:
            outcome = finish(path, plan=plan, already_there=True)
        else:
            for _ in range(ATTEMPTS):
                with patiently(path, progress, writable=True, wait=wait) as a:
                    # Asked again: who ran the same at once may have published it meanwhile.
                    already_there = is_published(a, plan)
                    if already_there or _published(
                        a, network, dataset, plan, name, folder, started_at, progress, notes
                    ):
                        outcome = finish(a, plan=plan, already_there=already_there)
                        outcome = replace(outcome, notes=[*notes, *outcome.notes])
                        break
                _write_shards(engine, write, progress, "read again what changed on the disk")
            else:
                raise StoreError(
                    f"what is written to {folder} is not what is read from it, {ATTEMPTS} times over; check the disk"
                )
    except KeyboardInterrupt:
        raise RunInterrupted(_where_it_stands(folder)) from None
    finally:
        whole.close()
    if _is_staged(folder, plan):  # else it is another run's, which is unfinished
        _remove(folder)
    return outcome


class _Recorded(NamedTuple):
    """What an atlas holds before a run: whether ``no_network`` yet, the digests of the ``plans`` of its runs, and
    whether ``activations`` of the run's network are of bfloat16, a truth value for each kind that there is."""

    no_network: bool
    plans: set[str]
    activations: set[bool]


def _recorded(
    path: Path, network: Network, dataset: Dataset, segmented: bool, wait: float, progress: Progress
) -> _Recorded:
    """An atlas that does not exist is made; `WeightsError` and `UsageError` as `check_network` and `check_dataset`
    raise them."""
    if not exists(path):
        make(path, segmented=segmented)
        return _Recorded(True, set(), set())
    with patiently(path, progress, wait=wait) as a:
        check_network(a, network)
        check_dataset(a, dataset.name, dataset.kind)
        runs = a.rows("select plan_digest, plan, networks.name from runs join networks using (network_id)")
        plans = [json.loads(plan) for _, plan, name in runs if name == network.info.name]
        kinds = {bool(plan.get("bfloat16")) for plan in plans if plan.get("store_activations")}
        return _Recorded(not a.catalog.networks, {digest for digest, *_ in runs}, kinds)


def _check_one_kind(network: Network, plan: Plan, held: set[bool]) -> None:
    if plan.stored_activations and held - {plan.bfloat16}:
        kinds = "float32", "bfloat16"
        raise UsageError(
            f"the atlas holds activations of {network.info.name} as {kinds[not plan.bfloat16]}, and these would be "
            f"{kinds[plan.bfloat16]}; {'leave out' if plan.bfloat16 else 'add'} --bfloat16, or pass "
            "--no-store-activations"
        )


def _finish(
    place: Path | Atlas,
    *,
    network: Network,
    name: str,
    plan: Plan,
    already_there: bool,
    cluster: bool,
    progress: Progress,
) -> Outcome:
    """Index and cluster what is published, and tell what the run did."""
    if already_there:
        build_indexes(place, network=network.info.name, progress=progress)
    sites = [site.name for site in plan.sites]
    notes = cluster_all(place, network.info.name, sites, progress=progress) if cluster else []
    with reading(place) as a:
        run_id, n_examples = a.rows(
            "select run_id, n_examples from runs where plan_digest = $1 order by run_id desc limit 1", [plan.digest]
        )[0]
        n_new = a.value("select count(*) from examples where run_id = $1", [run_id])
        bad = a.rows("select key, reason from bad_inputs where run_id = $1", [run_id])
    return Outcome(name, plan, already_there, n_examples, n_new, [(key, reason) for key, reason in bad], notes)


def _run_name(run: str | None, network: Network, dataset: Dataset) -> str:
    name = re.sub(r"[^\w.-]+", "-", f"{network.info.name}-{dataset.name}") if run is None else run
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UsageError(f"--run is {name!r}; it names a folder: letters, digits, '_', '-' and, not first, '.'")
    return name


def _settle_plan(folder: Path, name: str, plan: Plan) -> datetime:
    """Write the plan down, or find it unchanged; returns when it was first made."""
    written = _read_plan(folder)
    if written is not None:
        changes = difference(written["plan"], plan.document)
        if changes:
            raise PlanChanged(
                f"run {name!r} is unfinished and was planned differently:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nGive the first command again to finish it, or --run NAME for another run, or --discard to drop "
                "what it has done so far"
            )
        return datetime.fromisoformat(written["started_at"])
    started_at = datetime.now(UTC)
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    document = {"started_at": started_at.isoformat(), "plan": plan.document}
    remove_stranger(folder / PLAN)
    with replacing(folder / PLAN) as file:
        file.write(sealed(document))
    return started_at


def _read_plan(folder: Path) -> dict[str, Any] | None:
    """What was written down; None where nothing is, or where it has changed since: shards say of which plan they
    are, so that it can be written anew."""
    file = folder / PLAN
    return unsealed(file.read_bytes()) if file.is_file() else None


def _is_staged(folder: Path, plan: Plan) -> bool:
    """Whether what is staged in ``folder`` is this run, rather than another of the same name."""
    written = _read_plan(folder)
    return written is not None and not difference(written["plan"], plan.document)


def _remove(folder: Path) -> None:
    """Forget what is staged. It goes under another name first: a kill in between must not leave shards without the
    plan that they belong to, which the next plan of that name would take for its own."""
    with suppress(FileNotFoundError):  # it is not there, or who ran the same at once removes it too
        folder.rename(folder.with_name(f"{REMOVED}{secrets.token_hex(4)}-{folder.name}"))
    for removed in folder.parent.glob(f"{REMOVED}*"):
        shutil.rmtree(removed, ignore_errors=True)


def _write_shards(engine: Engine, write: ShardWriter, progress: Progress, step_name: str = "read") -> None:
    digest, shards = write.plan.digest, write.plan.shards
    missing = [shard for shard in shards if not is_complete(write.folder, shard, digest)]
    total = write.plan.n_examples
    before = total - sum(shard.n_examples for shard in missing)
    with progress.step(step_name, total=total, unit="examples", done=before) as step:
        engine.run(missing, write, lambda done: step.update(before + done, total))


def _published(
    a: Atlas,
    network: Network,
    dataset: Dataset,
    plan: Plan,
    name: str,
    folder: Path,
    started_at: datetime,
    progress: Progress,
    notes: list[str],
) -> bool:
    """Publish and index a run and say True, if all its shards are as they were written; else those that are not no
    longer count as complete. What is to be said is added to ``notes``."""
    if _rotten(plan, folder):
        return False
    _check_not_empty(dataset, plan, folder)
    for left in reversed(range(ATTEMPTS)):
        try:
            with a.together():
                with progress.step("publish", unit="MB") as step:
                    said = publish(a, network, plan, name, folder, started_at, progress=step.update)
                build_indexes(a, network=network.info.name, progress=progress)
            notes += said
            return True
        except AtlasLocked:  # another machine committed a version meanwhile: once more, upon that one
            if not left:
                raise
            if is_published(a, plan):
                return True
        except (OSError, pa.ArrowException):  # a page changed after it was looked at
            if not _rotten(plan, folder):
                raise
            return False
    raise AssertionError


def _rotten(plan: Plan, folder: Path) -> list[Shard]:
    """The shards whose bytes have changed since they were written; these are no longer complete."""
    digest = plan.digest
    rotten = [shard for shard in plan.shards if not is_intact(folder, shard, digest)]
    for shard in rotten:
        remove_stranger(seal_path(folder, shard))
        seal_path(folder, shard).unlink(missing_ok=True)
    return rotten


def _check_not_empty(dataset: Dataset, plan: Plan, folder: Path) -> None:
    """Whether images decode is only known once they were read; a run without any is an error, and is forgotten."""
    if any(pq.read_metadata(shard_path(folder, shard)).num_rows for shard in plan.shards):
        return
    bad = [
        (row["key"], row["reason"])
        for shard in plan.shards
        for row in pq.read_table(inputs_path(folder, shard), columns=["key", "reason"]).to_pylist()
    ]
    _remove(folder)
    raise no_example(dataset.source, bad, plan.n_inputs)


def _where_it_stands(folder: Path) -> str:
    written = _read_plan(folder)
    if written is None:
        return "stopped before anything was read; give the same command again"
    total = len(written["plan"]["shards"])
    done = sum(seal_path(folder, Shard(number, 0, 0, 0)).exists() for number in range(total))
    return f"stopped with {done} of {total} shards complete in {folder}; give the same command again to go on"


def _check_space(path: Path, plan: Plan, estimate: Forecast, folder: Path) -> None:
    digest = plan.digest
    done = sum(shard.n_examples for shard in plan.shards if is_complete(folder, shard, digest))
    left = 1 - done / plan.n_examples
    needed = int(estimate.staging_bytes * left) + estimate.atlas_bytes
    free = shutil.disk_usage(local_folder(path)).free
    if free < needed:
        raise DiskFull(
            f"the run needs about {needed / 1e9:.3g} GB on the device that holds {local_folder(path)} "
            f"({estimate.atlas_bytes / 1e9:.3g} for the atlas, the rest until it is published); {free / 1e9:.3g} GB "
            "are free. Free some, choose fewer --sites, or pass --no-store-activations"
        )


def calibration_inputs(dataset: Dataset, choices: Choices, limit: int | None = None) -> Iterator[Any]:
    """The inputs of a run that calibrate an untrained control (SCIENCE 4): all that can be read, or the first few."""
    inputs = (
        item.content for item in read_inputs(dataset, choose_inputs(dataset, choices)) if isinstance(item, Item)
    )
    yield from islice(inputs, limit)
