"""What a target is searched with: its flat index, and the approximate one that may stand beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atlas import Atlas
from atlas.devices import Device, check_device
from atlas.errors import IndexMissing, UsageError
from atlas.search.hamming_index import PROCESSOR_ONLY, HammingIndex
from atlas.search.joined import JoinedApproximate, load_index
from atlas.store.catalog import Target

from ..examples.ids import count_codes, is_span

if TYPE_CHECKING:
    from atlas.search.approximate import ApproximateIndex


@dataclass(frozen=True)
class Indexes:
    """``flat``: None for a span that has no index, whose codes are read from the database, block by block.

    ``approximate``: None where none was built.
    """

    n_codes: int
    flat: HammingIndex | None
    approximate: ApproximateIndex | JoinedApproximate | None


def open_indexes(atlas: Atlas, target: Target, *, exact: bool) -> Indexes:
    """The indexes of a target, checked against the codes in the database; without the approximate one if ``exact``.

    Opened once for as long as the atlas is open for reading. Raises `NotStored` for a span that no example has,
    `IndexMissing` for a site without a flat index and where a file is absent or damaged, `IndexMismatch` for one of
    other codes.
    """
    return atlas.keep(("indexes", target.network.network_id, target.name, exact), lambda: _open(atlas, target, exact))


def check_searchable(device: Device, indexes: Indexes, *, filtered: bool, radius: bool) -> None:
    """Raise `UsageError` for another device, and where ``cuda`` was asked for and the answer comes from elsewhere."""
    check_device(device)
    reasons = {
        "blocks": indexes.flat is None,
        "filter": filtered,
        "radius": radius,
        "approximate": indexes.approximate is not None,
    }
    why = next((PROCESSOR_ONLY[name] for name, holds in reasons.items() if holds), None)
    if device == "cuda" and why is not None:
        raise UsageError(f"device is cuda, but {why}; use auto or cpu")


def flat_index(atlas: Atlas, target: Target) -> HammingIndex:
    """The flat index of a target; raises `IndexMissing` for a span without one too."""
    index = open_indexes(atlas, target, exact=True).flat
    if index is None:
        raise _missing(atlas, target)
    return index


def current_index(atlas: Atlas, target: Target) -> HammingIndex | None:
    """The flat index of a target, if one was built and from the codes that it has now."""
    rows = [row for row in _rows(atlas, target) if row["kind"] == "flat" and row["digest"] == target.digest]
    return flat_index(atlas, target) if rows else None


def _open(atlas: Atlas, target: Target, exact: bool) -> Indexes:
    n_codes = count_codes(atlas, target)
    rows = {row["kind"]: row for row in _rows(atlas, target)}
    if "flat" not in rows:
        if is_span(target):
            return Indexes(n_codes, None, None)
        raise _missing(atlas, target)
    row = rows.pop("flat")
    file = row["file"]
    flat = atlas.keep(
        ("flat index", file), lambda: load_index(atlas.index_files(file), row["digest"], searchers=atlas.searchers)
    )
    flat.check(n_codes, target.digest)
    if exact or not rows:
        return Indexes(n_codes, flat, None)
    from atlas.search.approximate import load_approximate  # FAISS takes a quarter of a second

    [beside] = rows.values()
    found = load_approximate(atlas.index_files(beside["file"]), flat)
    if isinstance(found, JoinedApproximate):
        found = replace(
            found,
            recall=beside["recall"],
            recall_in_order=beside["recall_in_order"],
            sample=beside["recall_sample"],
        )
    return Indexes(n_codes, flat, found)


def _rows(atlas: Atlas, target: Target) -> list[dict[str, Any]]:
    return atlas.records(
        "select kind, file, digest, recall, recall_in_order, recall_sample from indexes "
        "where network_id = $1 and target = $2",
        [target.network.network_id, target.name],
    )


def _missing(atlas: Atlas, target: Target) -> IndexMissing:
    which = f" --span '{target.name}'" if is_span(target) else ""
    return IndexMissing(
        f"{target.name} of network {target.network.name} has no index; build it with `polytope index {atlas.address}"
        f"{which}`"
    )
