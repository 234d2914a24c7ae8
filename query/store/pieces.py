"""A site's activations a piece at a time, for a question that SQL answers by row and that tells how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from atlas import Atlas
from atlas.store.catalog import SiteRecord

from ..progress import Progress, tell

PIECES = 16
"""Each costs a query of some milliseconds, and is what is waited for until a stop takes effect."""


def id_ranges(atlas: Atlas, site: SiteRecord, progress: Progress | None = None) -> Iterator[tuple[int, int]]:
    """Ranges (first, last) of example ids that hold all activations of a site, in order and of equal width.

    ``progress`` is told (pieces that are done, pieces in all). None where the site stores no activations.
    """
    [(lowest, highest)] = atlas.rows(
        "select min(example_id), max(example_id) from activations where site_id = $1 and part = 0", [site.site_id]
    )
    if lowest is None:
        return
    edges = np.unique(np.linspace(lowest, highest + 1, PIECES + 1).astype(np.int64)).tolist()
    for done, (first, after) in enumerate(pairwise(edges)):
        tell(progress, done, len(edges) - 1)
        yield first, after - 1
    tell(progress, len(edges) - 1, len(edges) - 1)
