"""How many bytes a run will take: widths times what DuckDB and Parquet were measured to need for each byte.

How well activations and codes compress depends on the network, but little. The ratios below are those of the two
shipped networks and of larger ones of the same architectures, trained on texts of 38 kinds and on 64 classes of
images; a forecast was within a fifth of the truth for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atlas.network import Network, Site, Span
from atlas.store.atlas import BLOCK_SIZE, FAST_WIDTH

from ..datasets.base import Dataset, Item
from ..datasets.images import thumbnail
from ..derived.job import AUTOMATIC_POINTS
from .kinds import feeding_of
from .plan import Plan

FIXED_BLOCKS = 18
"""Blocks of a database, little used, that the first few examples bring: keys' indexes and columns of small tables."""

CLUSTERING_BLOCKS = 6
"""The same for the first clustering."""

CLUSTERED_BYTES = 45
"""What a clustering takes for each example."""

ID_BYTES = 8
"""Of an example's id, which an index holds beside its code."""

ROW_BYTES = 6
"""Of a row of codes or activations besides the values: site, example, part, count of active gates, lengths."""

NARROW_CODE = 0.7
"""Bytes in the database for each byte of a code below `FAST_WIDTH`, which DuckDB's string compression packs:
0.63 where one gate in ten is on, 0.77 where one in three is."""

WIDE_CODE = 0.65
"""The same of wider ones, under Zstandard (0.64 for full codes of digits)."""

ACTIVATION = {"float32": (0.75, 0.91), "bfloat16": (0.81, 0.89)}
"""Bytes in the database for each four bytes of an activation, after a ReLU, which leaves zeros (0.66 at one position
of an image, 0.79 over whole tensors), and where no unit is exactly zero: of a float32 DuckDB's ALP-RD shortens sign
and exponent (0.88 to 0.94). It gains nothing by the zeros at the end of what is rounded to bfloat16."""

SEGMENT_ACTIVATION = {"float32": (0.56, 0.85), "bfloat16": (0.24, 0.35)}
"""The same in segments, whose bytes are split and compressed: those that rounding made zero take nothing."""

INPUT_BYTES = 130
"""Of an input besides its text, thumbnail or numbers: content hash, key, label, ids."""

THUMBNAILS = 8
"""Images that are opened to see how large their thumbnails are, spread over the run."""


@dataclass(frozen=True)
class Forecast:
    """Bytes that the atlas grows by (database and indexes), and bytes of staging that exist until it is published.

    ``activations``: bytes that those of all sites take, or would take, in the atlas, as float32 and as bfloat16.
    """

    atlas_bytes: int
    staging_bytes: int
    activations: dict[str, int]


def forecast(
    network: Network,
    dataset: Dataset,
    ordinals: np.ndarray,
    plan: Plan,
    *,
    first: bool = True,
    cluster: bool = True,
    segmented: bool = False,
) -> Forecast:
    """What a plan will take.

    ``first``: whether the atlas is still empty. ``cluster``: whether the sites will be clustered too. ``segmented``:
    whether the atlas is.
    """
    ratios = SEGMENT_ACTIVATION if segmented else ACTIVATION
    feeding = feeding_of(network.info)
    contents = plan.content_bytes or int(plan.n_inputs * _thumbnail_bytes(dataset, ordinals))
    stored = plan.n_examples * (_stored_bytes(plan, ratios) + feeding.example_bytes)
    stored += plan.n_inputs * INPUT_BYTES + contents * feeding.stored
    staged = plan.n_examples * (_raw_bytes(plan) + feeding.staged_bytes)
    staged += plan.n_inputs * INPUT_BYTES + contents
    fixed = FIXED_BLOCKS * BLOCK_SIZE * first
    beside = _index_bytes(network, plan) + _clustering_bytes(plan, first) * cluster
    activations = {kind: int(plan.n_examples * _activation_bytes(plan.sites, ratios[kind])) for kind in ratios}
    return Forecast(int(stored) + fixed + beside, int(staged), activations)


def _activation_bytes(sites: Sequence[Site], ratios: tuple[float, float]) -> float:
    """Of the activations of one example in the atlas."""
    after_relu, smooth = ratios
    return sum(
        ROW_BYTES * site.n_parts + 4 * site.n_units * (after_relu if site.nonlinearity == "relu" else smooth)
        for site in sites
    )


def _stored_bytes(plan: Plan, ratios: dict[str, tuple[float, float]]) -> float:
    """Of the codes and activations of one example in the atlas."""
    codes = sum(ROW_BYTES + site.n_bytes * _code_ratio(site) for site in plan.sites)
    return codes + _activation_bytes(plan.stored_activations, ratios[_kind(plan)])


def _kind(plan: Plan) -> str:
    return "bfloat16" if plan.bfloat16 else "float32"


def _code_ratio(site: Site) -> float:
    return NARROW_CODE if site.n_bytes < FAST_WIDTH else WIDE_CODE


def _raw_bytes(plan: Plan) -> int:
    numbers = sum(site.n_units for site in plan.stored_activations)
    return sum(site.n_bytes for site in plan.sites) + (2 if plan.bfloat16 else 4) * numbers


def _thumbnail_bytes(dataset: Dataset, ordinals: np.ndarray) -> float:
    """The mean size of the thumbnails, by a few images; 0 where none of these can be read."""
    sizes = [len(thumbnail(image)) for image in _some_images(dataset, ordinals)]
    return float(np.mean(sizes)) if sizes else 0.0


def _some_images(dataset: Dataset, ordinals: np.ndarray) -> Iterator[Image.Image]:
    places = np.unique(np.linspace(0, len(ordinals) - 1, THUMBNAILS).astype(int))
    for ordinal in ordinals[places].tolist():
        for item in dataset.items(ordinal, ordinal + 1):
            if isinstance(item, Item) and isinstance(item.content, Image.Image):
                yield item.content


def _index_bytes(network: Network, plan: Plan) -> int:
    spans = [Span.parse(span).resolve(network.sites) for span in plan.document["spans"]]
    targets = [*((site,) for site in plan.sites), *spans]
    return plan.n_examples * sum(ID_BYTES + sum(site.n_bytes for site in target) for target in targets)


def _clustering_bytes(plan: Plan, first: bool) -> int:
    if plan.n_examples > AUTOMATIC_POINTS:
        return 0
    return CLUSTERING_BLOCKS * BLOCK_SIZE * first + plan.n_examples * CLUSTERED_BYTES * len(plan.sites)
