"""The nearest neighbours that are stored for all examples."""

from __future__ import annotations

import pandas as pd

from atlas import Atlas


def neighborhoods(atlas: Atlas) -> pd.DataFrame:
    """The sites and spans whose nearest neighbours, of all examples, are stored in the table ``neighbors``.

    Args:
        atlas: an open atlas.

    Returns:
        A row a target: network, target, k, n_codes, current: False where examples were added since, which have no
        neighbours and are nobody's.
    """
    frame = atlas.frame(
        """
        select networks.name as network, target, k, n_codes, digest
        from neighborhoods join networks using (network_id)
        order by network_id, target
        """
    )
    frame["current"] = [
        atlas.catalog.target(site=target, network=network).digest == digest
        for target, network, digest in frame[["target", "network", "digest"]].itertuples(index=False)
    ]
    return frame.drop(columns="digest")
