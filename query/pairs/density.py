"""Polytope density of a pair of examples: boundaries crossed per unit of distance (SCIENCE 4; post: Prediction 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, hamming
from atlas.errors import NotStored, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import SiteRecord, Target

from ..examples.ids import check_network, checked_id, network_of, with_activation

BLOCK_BYTES = 1 << 26
"""Bytes of float64 differences worked on at once; more brings no speed."""


@dataclass(frozen=True)
class PairDensity:
    """``hamming`` in gates; ``distance`` between the activations at the site before the target, Euclidean;
    ``density`` in gates per unit of distance, and ``density_per_gate`` the same over the target's number of gates.
    """

    network: str
    target: str
    x: int
    y: int
    hamming: int
    distance: float
    density: float
    density_per_gate: float
    n_gates: int
    exact: bool
    note: str


def density(
    atlas: Atlas, x: int, y: int, *, site: str | None = None, span: str | None = None, network: str | None = None
) -> PairDensity:
    """Polytope density of two stored examples (SCIENCE 4; post: Prediction 2).

        density(x, y) = Hamming(code(x), code(y)) / ‖x − y‖₂

    Codes are those of a span l→m, x and y the activations at l: float32 as stored, subtracted in float64. For a
    single site l is the site before it.

    Args:
        atlas: an open atlas.
        x: id of one example.
        y: id of the other.
        site: the site, or
        span: the span that is meant.
        network: its network, where several have such a one.

    Returns:
        `PairDensity`: the Hamming distance (gates), the Euclidean distance, and their ratio.

    Raises:
        UnknownName: for an example or site that is not there.
        NotStored: where activations or full codes were not ingested.
        UsageError: where it is undefined: before the first site, for position codes, for x = y.
    """
    checked_id(y)
    target = atlas.catalog.target(site=site, span=span, network=network or network_of(atlas, x))
    before = space_before(target)
    ids = [check_network(atlas, example, target.network) for example in (x, y)]
    _, codes = atlas.codes(target.sites, ids)
    _, points = atlas.activations(before, ids)
    distance = float(euclidean(points[:1], points[1:])[0])
    if distance == 0:
        raise UsageError(
            f"the density of examples {x} and {y} is undefined: their activations at {before.name} are equal, at "
            "distance 0; choose two that differ"
        )
    crossed = int(hamming(codes[:1], codes[1:])[0])
    return PairDensity(
        target.network.name,
        target.name,
        ids[0],
        ids[1],
        crossed,
        distance,
        crossed / distance,
        crossed / distance / target.n_gates,
        target.n_gates,
        target.exact,
        exactness(target),
    )


def exactness(target: Target) -> str:
    """In words, whether equal codes of the target mean one affine map (SCIENCE: what is exact and what is not)."""
    if target.exact:
        return "equal codes, with equal max-pooling switches, mean the same affine map"
    broken = next((site for site in target.sites if site.broken_by), None)
    if broken is not None:
        return f"equal codes need not mean one affine map: {broken.broken_by} (site {broken.name})"
    if target.before is not None and target.before.bypassed_by:
        bypass = f"{target.before.bypassed_by} also reads what flows past {target.before.name}"
        return f"equal codes need not mean one affine map of the activations before them: {bypass}"
    kinds = {site.nonlinearity for site in target.sites if not site.exact}
    if kinds == {"relu"} and INPUT_KINDS[target.network.kind].in_sequence:
        return (
            "attention and normalisation lie between the gates and are not piecewise linear, so equal codes need not "
            "mean one affine map"
        )
    if kinds == {"relu"}:
        return (
            "codes of one position: the gates elsewhere are not in them, so equal codes need not mean one affine map"
        )
    signs = " and ".join(sorted(kinds))
    return f"codes are signs of {signs} preactivations: a definition, not a partition into exactly affine regions"


def space_before(target: Target) -> SiteRecord:
    """The site whose activations a density of the target is measured in.

    Raises `UsageError` where the target has none, `NotStored` where the atlas does not store what is needed.
    """
    name, network = target.name, target.network.name
    if target.sites[0].scope != target.whole:
        block = target.before.name if target.before is not None else target.sites[0].name
        raise UsageError(
            f"{name} of network {network} has position codes; density needs full codes, of whole activation tensors: "
            f"ask for {name}{FULL_SUFFIX}, ingested with --full {block}"
        )
    if target.before is None:
        raise UsageError(
            f"{name} is the first site of network {network}: the space before it is that of the inputs, whose points "
            "are not stored; ask for a later site, or for a span that starts after it"
        )
    if target.before.n_activations == 0:
        option = f"--full {target.before.name.removesuffix(FULL_SUFFIX)} and " if _is_full(target) else ""
        raise NotStored(
            f"density of {name} needs activations at site {target.before.name} of network {network}, and none are "
            f"stored; ingest with {option}--store-activations"
        )
    return target.before


def euclidean(
    a: Float32[np.ndarray, "#pairs units"], b: Float32[np.ndarray, "pairs units"]
) -> Float64[np.ndarray, " pairs"]:
    """‖a − b‖₂ row by row, computed in float64; a single row of ``a`` is compared with every row of ``b``."""
    distances = np.empty(len(b))
    step = max(1, BLOCK_BYTES // (8 * max(1, b.shape[1])))
    for start in range(0, len(b), step):
        rows = slice(start, start + step)
        difference = b[rows].astype(np.float64) - (a if len(a) == 1 else a[rows])
        distances[rows] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return distances


def distances_to_activation(
    atlas: Atlas, site: SiteRecord, point: Float32[np.ndarray, " units"], examples: Int64[np.ndarray, " examples"]
) -> Float64[np.ndarray, " examples"]:
    """Euclidean distance of a point to each example's activation at the site; NaN where none is stored.

    Examples are read a block at a time.
    """
    distances = np.full(len(examples), np.nan)
    step = max(1, BLOCK_BYTES // (4 * site.n_units))
    for start in range(0, len(examples), step):
        block = examples[start : start + step]
        stored = np.isin(block, with_activation(atlas, site, block))
        if stored.any():
            _, points = atlas.activations(site, block[stored])
            distances[start : start + step][stored] = euclidean(point[None], points)
    return distances


def _is_full(target: Target) -> bool:
    return target.sites[0].scope == "full"
