"""What all jobs share that compute something from an atlas and store it there, such as clusters and indexes.

A job reads, computes while the database is closed, and opens it again to store the result in one transaction. The
digest of the data says whether the same was computed before, and whether the data changed meanwhile. Where a caller
holds the atlas open for writing, as a run does that has just published, the job works in that instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import atlas
from atlas.errors import AtlasLocked, NotStored, RunInterrupted, UsageError
from atlas.store.atlas import Atlas
from atlas.store.buckets import address_in
from atlas.store.catalog import Target
from atlas.store.opening import local_folder
from atlas.store.statements import quoted

from ..progress import Progress

Space = Literal["codes", "activations"]

AUTOMATIC_POINTS = 20_000
"""More examples than this are not clustered without being asked for: the time grows with the square."""

STAGING = "staging"
"""The folder of an atlas for what is unfinished."""

PATIENCE = 60.0
"""Seconds that one waits for others to close the atlas: to compute again what waits would take longer."""

TRY_EVERY = 0.25  # seconds


def folder_of(place: str | Path | Atlas) -> Path:
    """The folder on this machine for what is staged: that of the atlas, or what stands for its address."""
    return place.path if isinstance(place, Atlas) else local_folder(place)


def name_of(place: str | Path | Atlas) -> str:
    """The folder or address of an atlas, as `atlas.open` takes it."""
    return place.address if isinstance(place, Atlas) else address_in(place) or str(place)


@contextmanager
def reading(place: str | Path | Atlas) -> Iterator[Atlas]:
    """The atlas to read, opened unless the caller has it open."""
    if isinstance(place, Atlas):
        yield place
        return
    with atlas.open(place) as a:
        yield a


@contextmanager
def storing(place: str | Path | Atlas, progress: Progress) -> Iterator[Atlas]:
    """A transaction in the atlas, opened for writing unless the caller has it open.

    Where somebody else has it open, that is waited for; `AtlasLocked` after `PATIENCE` seconds.
    """
    if isinstance(place, Atlas):
        with place.transaction():
            yield place
        return
    with patiently(place, progress, writable=True) as a, a.transaction():
        yield a


def patiently(path: str | Path, progress: Progress, *, writable: bool = False, wait: float = PATIENCE) -> Atlas:
    """Open an atlas as `atlas.open` does; where somebody else has it open, that is waited for.

    Args:
        path: its folder.
        progress: is told that one waits.
        writable: hold it alone.
        wait: seconds to wait at most.

    Raises:
        AtlasLocked: it was not closed within ``wait`` seconds.
    """
    try:
        return atlas.open(path, writable=writable)
    except AtlasLocked:
        if wait <= 0:
            raise
    until = time.monotonic() + wait
    with progress.step(f"wait until {name_of(path)} is closed elsewhere"):
        while True:
            time.sleep(TRY_EVERY)
            try:
                return atlas.open(path, writable=writable)
            except AtlasLocked as error:
                if time.monotonic() > until:
                    raise AtlasLocked(f"{error} (waited {wait:g} s)") from None


def data_digest(target: Target, space: Space) -> str:
    """The digest of a target's codes or activations; raises where it has no activations."""
    if space == "codes":
        return target.digest
    if len(target.sites) != 1 or "->" in target.name:
        raise UsageError(f"a span ({target.name}) has codes but no activations of its own; name a site")
    digest = target.sites[0].activations_digest
    if digest is None:
        raise NotStored(
            f"no activations are stored for site {target.name} of network {target.network.name}; ingest with "
            "--store-activations"
        )
    return digest


def check_unchanged(a: Atlas, target: Target, space: Space, digest: str, job: str) -> None:
    """`RunInterrupted` where the target does not hold any more what ``job`` was done with."""
    now = a.catalog.target(site=target.name, network=target.network.name)
    if data_digest(now, space) != digest:
        raise RunInterrupted(f"{target.name} got new examples while {job}; give the same command again")


def find_result(a: Atlas, table: str, column: str, parameters: dict[str, Any]) -> int | None:
    """The number, in ``column``, of the latest row of ``table`` with these parameters; None if there is none."""
    matches = " and ".join(
        f"{quoted(name)} is not distinct from ${place}" for place, name in enumerate(parameters, start=1)
    )
    number = a.value(f"select max({quoted(column)}) from {quoted(table)} where {matches}", list(parameters.values()))
    return None if number is None else int(number)


def next_number(a: Atlas, table: str, column: str) -> int:
    """The number that the next row of ``table`` gets."""
    return 1 + int(a.value(f"select coalesce(max({quoted(column)}), 0) from {quoted(table)}"))
