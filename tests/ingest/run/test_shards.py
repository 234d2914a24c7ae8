"""Shards: how inputs are gathered into batches."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from atlas.network import ImageView, Reading, Site
from ingest.datasets.base import Item
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.shards import BATCH_PIXELS
from tests.atlases import Held
from tests.networks import PixelNetwork


class Weighing(PixelNetwork):
    """Notes the pixels of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []

    def read(self, batch: Sequence[ImageView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        self.batches.append([view.image.width * view.image.height for view in batch])
        return super().read(batch, codes, activations)


def test_a_batch_holds_bounded_pixels(tmp_path: Path) -> None:
    """However many photographs a batch may have; one that is larger than the bound is a batch by itself."""
    sides = [(4000, 3000), (4000, 3000), (6000, 6000), (10, 10), (20, 20)]
    images = [Image.new("L", size) for size in sides]
    hashes = [hashlib.sha256(str(place).encode()).hexdigest() for place in range(len(images))]
    items = [Item(i, f"{i}.png", None, image, hashes[i]) for i, image in enumerate(images)]
    network = Weighing()
    ingest(tmp_path / "a", network, Held("photographs", "image", items), Choices(batch_size=4), cluster=False)
    assert network.batches == [[12_000_000, 12_000_000], [36_000_000], [100, 400]]
    assert BATCH_PIXELS < 36_000_000
