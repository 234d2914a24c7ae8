"""Codes that something else computed: what stands in an atlas in place of the network, which can't be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from atlas.errors import UsageError
from atlas.network import NetworkInfo, Reading, RecordedView, Site

if TYPE_CHECKING:
    from .registry import LoadRequest


@dataclass(frozen=True)
class Options:
    """Nothing can be said about how inputs are read."""


class RecordedNetwork:
    """Reads the codes and activations that its inputs carry. Made by `ingest.open_codes`."""

    def __init__(self, info: NetworkInfo, sites: Sequence[Site]) -> None:
        self.info, self.sites = info, tuple(sites)

    def read(self, batch: Sequence[RecordedView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """What is written of some examples. It is finite: what is not was refused as an input."""
        nothing = np.full(len(batch), np.nan, np.float32)
        return Reading(
            {site.name: np.stack([view.codes[site.name] for view in batch]) for site in codes},
            {site.name: np.stack([view.activations[site.name] for view in batch]) for site in activations},
            {site.name: np.ones(len(batch), bool) for site in (*codes, *activations)},
            [""] * len(batch),
            nothing,
            nothing,
        )


def load(request: LoadRequest, options: Options) -> NoReturn:
    """Raises `UsageError`: there is nothing to run."""
    raise UsageError(
        f"{request.name} is codes from elsewhere ({request.weights}): no network of it can be run, so no text or "
        "image can be read now, nor any activation changed; ask about stored examples, by --example"
    )
