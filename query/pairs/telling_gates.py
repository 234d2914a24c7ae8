"""The gates in which two codes differ, ordered by how much each says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from atlas import Atlas
from atlas.checks import whole
from atlas.codes import SplineCodes
from atlas.errors import UsageError
from atlas.store.catalog import SiteRecord, Target

from ..examples.subjects import Subject
from ..neurons.gate_tops import code_blocks, gate_tops
from ..progress import Progress, part, tell
from .differing_gates import by_site


def telling_gates(
    atlas: Atlas,
    x: Subject,
    y: Subject,
    *,
    most: int = 30,
    examples: int = 5,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The gates in which the codes of two subjects differ, those first in which two codes seldom do.

        bits = −log₂ 2p(1 − p),    p = (codes with the gate on + ½) / (codes + 1)

    is how much one learns from hearing that two codes drawn at random differ there (Shannon 1948): 1 for a gate that
    is on in half of the stored codes, more for one that is rarely on, or rarely off.

    Args:
        atlas: an open atlas.
        x: a subject of a site or span, as `subject` reads it.
        y: another of the same.
        most: at most so many rows.
        examples: at most so many example ids in a row.
        progress: is told (steps done, steps in all).

    Returns:
        A row a gate: site, gate (bit of the site's code), on_in (x or y), on_rate (share of the stored codes that
        have it on), bits, label (which the examples with the gate on bear more than others do, by n · log lift; None
        where none does), label_share (of those that bear one), lift (label_share over the label's share of all
        labelled examples), examples (ids of its highest activations; where none is stored, of some that have it on).
        ``frame.attrs``: network, target, n_differ, n_gates.

    Raises:
        UsageError: for subjects of two atlases, or of two targets, and for impossible parameters.
    """
    most, examples = whole("most", most), whole("examples", examples, 0)
    target = _same_target(atlas, x, y)
    found, step, steps = [], 0, 3 * len(target.sites)
    for site, on in zip(target.sites, by_site(target, both(x, y)), strict=True):
        differ = np.flatnonzero(on[0] != on[1])
        counts, n = on_counts(atlas, site, _step(progress, step, steps))
        bits = bits_of(counts[differ], n)
        found.append(
            pd.DataFrame(
                {
                    "site": site.name,
                    "gate": differ,
                    "on_in": np.where(on[0][differ], "x", "y"),
                    "on_rate": counts[differ] / n,
                    "bits": bits,
                }
            )
        )
        step += 1
    frame = pd.concat(found, ignore_index=True)
    n_differ = len(frame)
    frame = frame.sort_values("bits", ascending=False, kind="stable", ignore_index=True).head(most)
    more: dict[int, tuple[str | None, float, float, list[int]]] = {}
    for site in target.sites:
        rows = frame.index[frame["site"] == site.name]
        gates = frame.loc[rows, "gate"].tolist()
        told = labels_on(atlas, site, gates, _step(progress, step, steps))
        tops = gate_tops(atlas, site, gates, examples, _step(progress, step + 1, steps))
        more |= {row: (*label, top) for row, label, top in zip(rows, told, tops, strict=True)}
        step += 2
    part(progress, steps, steps)
    for place, name in enumerate(("label", "label_share", "lift", "examples")):
        kind = np.float64 if name in ("label_share", "lift") else object
        frame[name] = pd.Series([more[row][place] for row in frame.index], dtype=kind)
    frame.attrs.update(network=target.network.name, target=target.name, n_differ=n_differ, n_gates=target.n_gates)
    return frame


def both(x: Subject, y: Subject) -> SplineCodes:
    """The codes of two subjects, a row each."""
    return SplineCodes(np.concatenate([x.codes.packed, y.codes.packed]), x.codes.parts)


def _step(progress: Progress | None, step: int, steps: int) -> Progress:
    """What a step of several tells of itself."""
    told = part(progress, step, steps)
    return lambda done, total: told(done / total)


def _same_target(atlas: Atlas, x: Subject, y: Subject) -> Target:
    for subject in (x, y):
        if subject.atlas != atlas.path:
            raise UsageError(f"{subject.name} was read in {subject.atlas}, not in {atlas.address}; read it there")
    if (x.target.name, x.target.network.name) != (y.target.name, y.target.network.name):
        raise UsageError(
            f"{x.name} was read at {x.target.name} of network {x.target.network.name}, {y.name} at {y.target.name} "
            f"of {y.target.network.name}; read both at one"
        )
    return x.target


def bits_of(counts: Int64[np.ndarray, " gates"], n: int) -> Float64[np.ndarray, " gates"]:
    """−log₂ 2p(1 − p) of gates that are on in so many of ``n`` codes, with half a code more on either side: what is
    read now may have a gate on that no stored code has."""
    p = (counts + 0.5) / (n + 1)
    return -np.log2(2 * p * (1 - p))


def on_counts(
    atlas: Atlas, site: SiteRecord, progress: Progress | None = None
) -> tuple[Int64[np.ndarray, " gates"], int]:
    """In how many stored codes of a site each gate is on, and how many codes there are."""

    def count() -> Int64[np.ndarray, " gates"]:
        counts, done = np.zeros(site.n_gates, np.int64), 0
        for _, packed in code_blocks(atlas, site):
            counts += SplineCodes(packed, (site.n_gates,)).gate_counts()
            done += len(packed)
            tell(progress, done, site.n_codes)
        return counts

    return atlas.keep(("on-counts", site.site_id), count), site.n_codes


@dataclass(frozen=True)
class _Labelled:
    numbers: Int64[np.ndarray, " examples"]
    names: tuple[str, ...]
    ids: Int64[np.ndarray, " examples"]


def labels_on(
    atlas: Atlas, site: SiteRecord, gates: list[int], progress: Progress | None = None
) -> list[tuple[str | None, float, float]]:
    """Of each gate the label that says most about where it is on: the label, its share of the labelled examples with
    the gate on, and that over its share of all; (None, NaN, NaN) where no label is commoner there.

    The label of the greatest n · log(lift): of the information between gate and label the greatest part.
    """
    labelled = _labels(atlas, site)
    if not gates or not len(labelled.ids):
        return [(None, np.nan, np.nan)] * len(gates)
    on, done = np.zeros((len(gates), len(labelled.names)), np.int64), 0
    for ids, packed in code_blocks(atlas, site):
        places = np.searchsorted(labelled.ids, ids)
        known = labelled.ids[np.minimum(places, len(labelled.ids) - 1)] == ids
        numbers = labelled.numbers[places[known]]
        for row, gate in enumerate(gates):
            is_on = packed[known, gate // 8] >> (7 - gate % 8) & 1
            on[row] += np.bincount(numbers[is_on.astype(np.bool_)], minlength=len(labelled.names))
        done += len(ids)
        tell(progress, done, site.n_codes)
    shares = np.bincount(labelled.numbers, minlength=len(labelled.names)) / len(labelled.ids)
    return [_most_telling(counts, shares, labelled.names) for counts in on]


def _most_telling(
    counts: Int64[np.ndarray, " labels"], shares: Float64[np.ndarray, " labels"], names: tuple[str, ...]
) -> tuple[str | None, float, float]:
    n = counts.sum()
    if n == 0:
        return None, np.nan, np.nan
    lift = counts / n / shares
    gain = np.where(counts > 0, counts * np.log(np.where(lift > 0, lift, 1)), 0)
    best = int(gain.argmax())
    if gain[best] <= 0:
        return None, np.nan, np.nan
    return names[best], float(counts[best] / n), float(lift[best])


def _labels(atlas: Atlas, site: SiteRecord) -> _Labelled:
    """The labelled examples that have a code at the site, in order of id."""
    frame = atlas.frame(
        """
        select example_id, label from examples
        where label is not null and example_id in (select example_id from codes where site_id = $1)
        order by example_id
        """,
        [site.site_id],
    )
    values = pd.Categorical(frame["label"])
    return _Labelled(
        values.codes.astype(np.int64), tuple(map(str, values.categories)), frame["example_id"].to_numpy(np.int64)
    )
