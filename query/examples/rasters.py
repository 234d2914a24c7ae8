"""The codes of a stored example at every site, for the eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from atlas import Atlas
from atlas.network import GateRange
from atlas.store.catalog import SiteRecord

from .ids import checked_id, network_of


@dataclass(frozen=True, eq=False)
class Raster:
    """The code of one example at one site, for the eye.

    ``values``: the gates in order, 1 for on and 0 for off. Of a full site, a cell a channel of each module of the
    block: the share of its positions at which the gate is on. ``parts``: which module each run of cells belongs to,
    by first cell and number of cells; ``positions``: gates behind a cell of that module, 1 where cells are gates.
    """

    site: str
    n_gates: int
    n_active: int
    values: Float32[np.ndarray, " cells"]
    parts: tuple[tuple[str, int, int, int], ...]

    @property
    def by_channel(self) -> bool:
        """Whether cells are channels, summed up over positions, and not single gates."""
        return any(positions > 1 for *_, positions in self.parts)


def rasters(atlas: Atlas, example: int) -> list[Raster]:
    """The codes of an example at every site that holds one, position sites first, from input to output.

    Args:
        atlas: an open atlas.
        example: id of a stored example.

    Returns:
        A `Raster` a site.

    Raises:
        UnknownName: for an example that is not there.
    """
    network = network_of(atlas, example)
    sites = {site.site_id: site for site in atlas.catalog.sites if site.network == network and site.n_codes}
    rows = atlas.rows(
        "select site_id, cast(code as blob), n_active from codes where example_id = $1 and site_id in "
        "(select unnest($2::usmallint[]))",
        [checked_id(example), list(sites)],
    )
    codes = {site_id: (code, n_active) for site_id, code, n_active in rows}
    return [_raster(site, *codes[number]) for number, site in sites.items() if number in codes]


def _raster(site: SiteRecord, code: bytes, n_active: int) -> Raster:
    bits = np.unpackbits(np.frombuffer(code, np.uint8))[: site.n_gates].astype(np.float32)
    layout = site.layout or (GateRange(site.name, 0, site.n_gates),)
    if site.scope == "position":
        return Raster(site.name, site.n_gates, n_active, bits, tuple((g.module, g.start, g.count, 1) for g in layout))
    values, parts, first = [], [], 0
    for gates in layout:
        positions = 1 if gates.grid is None else gates.grid[0] * gates.grid[1]
        shares = bits[gates.start : gates.start + gates.count].reshape(-1, positions).mean(axis=1)
        values.append(shares)
        parts.append((gates.module, first, len(shares), positions))
        first += len(shares)
    return Raster(site.name, site.n_gates, n_active, np.concatenate(values).astype(np.float32), tuple(parts))
