"""Which examples a search may answer with: those of a label, a cluster, a dataset, or of which a condition holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64

from atlas import Atlas
from atlas.checks import is_whole
from atlas.errors import SqlError, SqlRefused, UnknownName, UsageError
from atlas.store.catalog import Target
from atlas.store.user_sql import check_condition

from ..clustering.clusterings import NOISE, Clustering
from ..store.queries import sql

SHOWN = 12
"""Names listed in an error; an atlas may have thousands of labels."""

LONGEST_SHOWN = 200
"""Characters of a condition in an error."""

_DATABASE_SAYS = re.compile(r"\w+( \w+)* Error: ")
"""How an error of the database begins. Others are about the limits of time and memory."""
_PLACE = re.compile(r" \(line \d+(, column \d+)?\)$")
"""Where in a query it is, which is not the one that the user wrote."""


@dataclass(frozen=True)
class Filter:
    """Conditions that all must hold. ``label``: of the example, the first that its input was given. ``cluster``:
    number in a clustering, -1 is noise. ``dataset``: name of one that holds the example's input. ``where``: SQL on
    the columns of table ``examples``.
    """

    label: str | None = None
    cluster: int | None = None
    dataset: str | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        for name in ("label", "dataset", "where"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or (name == "where" and not value.strip())):
                raise UsageError(
                    f"{name} is {value!r}; expected {'a condition in SQL' if name == 'where' else 'a name'}"
                )
        if self.cluster is not None and not is_whole(self.cluster):
            raise UsageError(f"cluster is {self.cluster!r}; expected the number of a cluster, or {NOISE} for noise")

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.label, self.cluster, self.dataset, self.where))

    def __str__(self) -> str:
        """How to call it in a sentence."""
        named = [(name, getattr(self, name)) for name in ("label", "cluster", "dataset", "where")]
        return ", ".join(f"{name} {value!r}" for name, value in named if value is not None)


def allowed_examples(
    atlas: Atlas, target: Target, wanted: Filter, clustering: Clustering | None
) -> Int64[np.ndarray, " allowed"]:
    """Ids, ascending, of the examples of the target's network that meet the filter.

    ``clustering``: the one whose clusters are meant. Raises `UnknownName` for a label, cluster or dataset that is not
    there, `SqlError` for a condition that can't be evaluated or leaves the sandbox, and `UsageError` for a condition
    on an atlas that is open for writing.
    """
    meeting = None if wanted.where is None else _meeting(atlas, wanted.where)
    conditions = [*_conditions(atlas, target, wanted, clustering)]
    values = [target.network.network_id, *(value for _, value in conditions)]
    texts = [text.format(f"${place}") for place, (text, _) in enumerate(conditions, start=2)]
    rows = atlas.frame(
        f"select example_id from examples where {' and '.join(['network_id = $1', *texts])} order by example_id",
        values,
    )
    ids = rows["example_id"].to_numpy(np.int64)
    return ids if meeting is None else ids[np.isin(ids, meeting)]


def _conditions(
    atlas: Atlas, target: Target, wanted: Filter, clustering: Clustering | None
) -> Iterator[tuple[str, object]]:
    """Each as SQL, with {} for its value, and the value."""
    if wanted.label is not None:
        labels = "select distinct label from examples where network_id = $1 and label is not null order by 1"
        _check_known("label", wanted.label, atlas.rows(labels, [target.network.network_id]), target)
        yield "label = {}", wanted.label
    if wanted.dataset is not None:
        _check_known("dataset", wanted.dataset, atlas.rows("select name from datasets order by 1"), target)
        yield (
            "input_id in (select input_id from dataset_inputs join datasets using (dataset_id) where name = {})",
            wanted.dataset,
        )
    if wanted.cluster is not None:
        if clustering is None:
            raise UnknownName(
                f"cluster {wanted.cluster} was asked for, but {target.name} of network {target.network.name} has no "
                f"clustering; `polytope cluster {atlas.address}` makes one, or name one of another site (clustering)"
            )
        clustering.check(wanted.cluster)
        yield (
            f"example_id in (select example_id from cluster_labels where clustering_id = {clustering.clustering_id} "
            "and label = {})",
            int(wanted.cluster),
        )


def _check_known(what: str, name: str, rows: list[tuple[str]], target: Target) -> None:
    known = [row[0] for row in rows]
    if name not in known:
        more = f", … ({len(known)} in all)" if len(known) > SHOWN else ""
        held = f"it has {', '.join(known[:SHOWN])}{more}" if known else "it has none"
        where = f"of network {target.network.name}" if what == "label" else "in the atlas"
        raise UnknownName(f"no example {where} has {what} {name!r}; {held}")


def _meeting(atlas: Atlas, where: str) -> Int64[np.ndarray, " examples"]:
    """Examples of which a user's condition holds, asked in the sandbox: no more than there are, for it is one
    condition. A newline ends a comment that it may end in."""
    try:
        check_condition(partial(sql, atlas), "examples", where)
        meeting = sql(atlas, f"select example_id from examples where (\n{where}\n)", limit=None)
    except SqlError as error:
        shown = where if len(where) <= LONGEST_SHOWN else where[: LONGEST_SHOWN - 1] + "…"
        if not isinstance(error, SqlRefused) and not _DATABASE_SAYS.match(str(error)):
            raise type(error)(f"{error} (where is {shown!r})") from None
        raise type(error)(
            f"where is {shown!r}; expected a condition on the columns of examples (label, prediction, loss, token, "
            f"position, …; `polytope sql {atlas.address} --schema` lists them): {_PLACE.sub('', str(error))}"
        ) from None
    return meeting["example_id"].to_numpy(np.int64)
