"""A slice of an atlas that is resolved: through three examples, in a window so narrow that areas are larger than the
points that they were found by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import query
from atlas import Atlas, Network
from atlas.errors import IndexMissing, UsageError
from query.experiments.archive import load, stored
from query.experiments.result import Result
from query.experiments.slice import closer, through, unresolved
from query.progress import Progress

from . import choices, measured, pin

SIZE = 48
"""Points a side: seconds."""

NEARER = 3
"""Windows that are tried, each nearer than the one before; on the networks of the demo the first is resolved."""

MEDOID = """
select medoid, target as site
from clusters join clusterings using (clustering_id)
join sites on sites.network_id = clusterings.network_id and sites.name = clusterings.target
where clusterings.network_id = $1 and space = 'codes' and scope = 'position'
order by ordinal desc, clustering_id desc, size desc, medoid limit 1
"""


def three_examples(atlas: Atlas, network: str) -> list[int]:
    """The medoid of the largest cluster at the last clustered site and the two nearest outside its polytope: near
    enough that areas between them can be told apart. Else the first three examples."""
    record = atlas.catalog.network(network)
    rows = atlas.rows(MEDOID, [record.network_id])
    if rows:
        [(medoid, site)] = rows
        here: dict[str, Any] = {"example": medoid, "site": site, "network": network}
        try:
            others = query.nearest(atlas, **here, k=2, outside=True, density=False)["example_id"].tolist()
        except (UsageError, IndexMissing):  # too few lie outside
            others = []
        if len(others) == 2:
            return [int(medoid), *map(int, others)]
    return choices.first_examples(choices.read_range(atlas, record.network_id, network), 3)


def newest_stored(atlas: Atlas, network: str) -> Result | None:
    """The newest slice that the atlas stores of a network, holds still, and is resolved; None where there is none."""
    held = stored(atlas, "slice", network)
    for number in held[held["current"].astype(bool)]["experiment_id"].astype(int):
        result = load(atlas, number)
        if not unresolved(result.tables["summary"].to_dict("records")[0]):
            return result
    return None


def slice_of_atlas(
    atlas: Atlas, network: str, span: str, plane: bool, *, reader: Network, progress: Progress | None = None
) -> Result:
    """A slice through three examples, or with ``plane`` of all inputs."""
    named = {} if plane else dict(zip("abc", three_examples(atlas, network), strict=True))
    return resolved(atlas, {"span": span, **named, "size": SIZE}, reader=reader, progress=progress)


Subjects = Mapping[str, Mapping[str, Any]]
"""By letter the arguments of `query.subject`, an image as its file."""


def sliced(
    atlas: Atlas,
    options: dict[str, Any],
    given: Subjects | None,
    *,
    reader: Network,
    progress: Progress | None = None,
) -> Result:
    """A slice; with ``given`` through these subjects, of which some are read now."""
    if given is None:
        return measured.compute(atlas, "slice", options, reader=reader, progress=progress)
    subjects = {letter: pin.given(subject) for letter, subject in given.items()}
    return through(atlas, reader, given=subjects, progress=progress, **options)


def resolved(
    atlas: Atlas,
    options: dict[str, Any],
    given: Subjects | None = None,
    *,
    reader: Network,
    progress: Progress | None = None,
) -> Result:
    """A slice, and of one that is unresolved a nearer one, until it is resolved or has been looked at so often."""
    result = sliced(atlas, options, given, reader=reader, progress=progress)
    for _ in range(NEARER):
        [summary] = result.tables["summary"].to_dict("records")
        if not unresolved(summary):
            break
        result = sliced(atlas, {**options, **closer(result)}, given, reader=reader, progress=progress)
    return result
