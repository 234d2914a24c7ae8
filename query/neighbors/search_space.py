"""What a search for neighbours goes through: the codes of a target, or those of them that meet a filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from atlas import Atlas
from atlas.checks import whole
from atlas.devices import Device
from atlas.errors import UsageError
from atlas.store.catalog import Target

from ..clustering.clusterings import Clustering
from ..clustering.labels import cluster_column, shown_clustering
from ..examples.description import described
from ..examples.ids import holders
from ..examples.labels import label_note
from ..pairs.density import exactness
from .filters import Filter, allowed_examples
from .indexes import Indexes, check_searchable, open_indexes

DEFAULT_K = 10


@dataclass(frozen=True)
class SearchSpace:
    """A target, the indexes of its codes, what is searched ``among`` (None: all), and whose clusters are shown."""

    target: Target
    wanted: Filter
    indexes: Indexes
    among: Int64[np.ndarray, " held"] | None
    labels: Clustering | None
    label_note: str | None
    """Whose labels the filter goes by, where that is a question."""

    @property
    def n_searched(self) -> int:
        return self.indexes.n_codes if self.among is None else len(self.among)

    def holds(self, examples: int | Int64[np.ndarray, " queries"]) -> bool:
        """Whether one of the examples, which have a code, is searched."""
        return self.among is None or bool(np.isin(np.asarray(examples), self.among).any())

    def shown(self, atlas: Atlas, ids: Int64[np.ndarray, " examples"]) -> dict[str, Any]:
        """What an answer shows of examples by the name of its column: example_id, label, cluster, then the rest."""
        shown = described(atlas, self.target.network, ids)
        first = {name: shown.pop(name) for name in ("example_id", "label")}
        return {**first, "cluster": cluster_column(atlas, self.labels, ids), **shown}

    def attributes(self) -> dict[str, object]:
        """What ``frame.attrs`` of an answer says about the search."""
        return {
            "network": self.target.network.name,
            "target": self.target.name,
            "n_gates": self.target.n_gates,
            "n_codes": self.indexes.n_codes,
            "n_searched": self.n_searched,
            "exact": self.target.exact,
            "exact_note": exactness(self.target),
            "clustering": self.labels.clustering_id if self.labels is not None else None,
            "label_note": self.label_note,
            **_how_searched(self.indexes),
        }


def search_space(
    atlas: Atlas,
    target: Target,
    wanted: Filter,
    clustering: int | None,
    *,
    exact: bool,
    device: Device,
    radius: bool = False,
) -> SearchSpace:
    """Open the indexes and evaluate the filter; `UsageError` for a ``device`` that can't do such a search."""
    indexes = open_indexes(atlas, target, exact=exact or bool(wanted))
    check_searchable(device, indexes, filtered=bool(wanted), radius=radius)
    labels = shown_clustering(atlas, target, clustering)
    among = None
    if wanted:
        among = _held_ids(atlas, target, indexes, allowed_examples(atlas, target, wanted, labels))
    note = label_note(atlas) if wanted.label is not None else None
    return SearchSpace(target, wanted, indexes, among, labels, note)


def checked_k(space: SearchSpace, k: int | None, radius: int | None, excluding: bool) -> int | None:
    """How many to return of what is searched; None for all within the radius.

    ``excluding``: the example asked about is one of those searched, and not returned.
    """
    if k is not None:
        whole("k", k)
    if radius is not None:
        whole("radius", radius, 0)
    target, wanted, available = space.target, space.wanted, space.n_searched - excluding
    others = "other examples" if excluding else "examples"
    meeting = f" with {wanted}" if wanted else ""
    if available == 0 and wanted:
        raise UsageError(
            f"none of the {others} of network {target.network.name} that have a code of {target.name} meets the "
            f"filter ({wanted}); widen it"
        )
    if k is None:
        return None if radius is not None else min(DEFAULT_K, available)
    if k > available:
        raise UsageError(
            f"k is {k}; {target.name} of network {target.network.name} has codes of {available} {others}{meeting}: "
            "ask for fewer"
        )
    return int(k)


def _held_ids(
    atlas: Atlas, target: Target, indexes: Indexes, ids: Int64[np.ndarray, " allowed"]
) -> Int64[np.ndarray, " held"]:
    """Those of the examples that have a code of the target, ascending."""
    if indexes.flat is not None:
        return indexes.flat.ids[indexes.flat.places(ids)]
    return np.intersect1d(ids, holders(atlas, target))


def _how_searched(indexes: Indexes) -> dict[str, object]:
    """What `nearest` says about the search in ``frame.attrs``."""
    index = indexes.approximate
    if index is not None:
        measured = (
            f"recall@10 {index.recall:.4f}, ties as hits, {index.recall_in_order:.4f} of the very ten by distance "
            f"and id, measured on {index.sample} stored codes"
        )
        return {
            "exact_search": False,
            "searched": f"{index.kind} index",
            "recall": index.recall,
            "search_note": f"approximate search with the {index.kind} index ({measured}): neighbours may be missing; "
            "ask with exact (--exact) to compare all codes",
        }
    with_what = "Hamming index" if indexes.flat is not None else "all codes, block by block (this span has no index)"
    return {"exact_search": True, "searched": with_what, "recall": None, "search_note": None}
