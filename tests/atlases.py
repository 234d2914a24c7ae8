"""Atlases of the small networks, made as `polytope ingest` makes them, and built once for all processes of a run."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

import atlas
from atlas.errors import RunInterrupted
from atlas.network import Kind, Network
from ingest.datasets.base import BadItem, Item, text_item
from ingest.datasets.vectors import vector_item
from ingest.derived.clusters import cluster
from ingest.progress import Progress, Step
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import ImageSampling, TokenSampling
from tests.networks import REGIONS, PixelNetwork, pixel_images, plane_network, word_network, word_texts


@dataclass(frozen=True)
class Held:
    """A dataset of items that are in memory."""

    name: str
    kind: Kind
    held: Sequence[Item | BadItem]
    source: ClassVar = "tests"
    ignored: ClassVar[Mapping[str, int]] = {}

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr([item.key for item in self.held]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.held)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        yield from self.held[start:stop]


class Unindexed(Progress):
    """Stops a run when its tables are published and no index is built yet."""

    @contextmanager
    def step(self, name: str, **options: Any) -> Iterator[Step]:
        if name == "index":
            raise KeyboardInterrupt
        yield Step()


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        atlas.create(Path(folder) / "a").close()
        return (Path(folder) / "a" / "atlas.duckdb").read_bytes()


def begin(path: Path) -> None:
    """An empty atlas where there is nothing, as `atlas.create` makes it, copied from the first of this process.

    To make one takes 0.2 CPU seconds, more than half of them to note what each column means.
    """
    if not path.exists():
        path.mkdir(parents=True)
        (path / "atlas.duckdb").write_bytes(_empty())


def add_texts(
    path: Path,
    network: Network,
    texts: Sequence[tuple[str, str | None, str]],
    *,
    per_sequence: int = 2,
    skip_first: int = 0,
    dataset: str = "texts",
    **options: Any,
) -> None:
    """Ingest texts, given as (key, label, text)."""
    items = [text_item(ordinal, key, label, text) for ordinal, (key, label, text) in enumerate(texts)]
    _add(path, network, Held(dataset, "text", items), tokens=TokenSampling(per_sequence, skip_first), **options)


def add_images(
    path: Path,
    network: Network,
    images: Sequence[tuple[str, str, Image.Image]],
    *,
    place: tuple[float, float] = (0.5, 0.5),
    dataset: str = "images",
    **options: Any,
) -> None:
    """Ingest images, given as (key, label, image), at one relative position."""
    items = [
        Item(ordinal, key, label, image, hashlib.sha256(png(image)).hexdigest())
        for ordinal, (key, label, image) in enumerate(images)
    ]
    _add(path, network, Held(dataset, "image", items), view=ImageSampling(*place), **options)


def add_vectors(
    path: Path,
    network: Network,
    vectors: Sequence[tuple[str, str | None, Any]],
    *,
    dataset: str = "vectors",
    **options: Any,
) -> None:
    """Ingest vectors, given as (key, label, numbers)."""
    items = [vector_item(ordinal, key, label, numbers) for ordinal, (key, label, numbers) in enumerate(vectors)]
    _add(path, network, Held(dataset, "vector", items), **options)


def png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _add(
    path: Path,
    network: Network,
    dataset: Held,
    *,
    sites: Sequence[str] | None = None,
    activations: Sequence[str] | None = None,
    indexed: bool = True,
    **choices: Any,
) -> None:
    """Codes of ``sites``, activations of ``activations`` (default: all sites, and the same). Not ``indexed``: the run
    was stopped before it built indexes."""
    codes = [site.name for site in network.sites] if sites is None else [*sites]
    stored = codes if activations is None else [*activations]
    for names, kept in ((stored, True), ([name for name in codes if name not in stored], False)):
        if not names:
            continue
        chosen = Choices(sites=tuple(names), store_activations=kept, **choices)
        progress = None if indexed else Unindexed()
        begin(path)
        try:
            ingest(path, network, dataset, chosen, run=dataset.fingerprint[:8], cluster=False, progress=progress)
        except RunInterrupted:
            assert not indexed


def three_networks(path: Path) -> None:
    """All three networks, with indexes and clusterings: 11 points, 360 tokens, 12 images."""
    points = [
        (f"{point}.txt", "even" if i % 2 == 0 else "odd", point)
        for i, point in enumerate(REGIONS)
        if point != "nan:1"
    ]
    add_texts(path, plane_network(), points, dataset="points", per_sequence=1)
    add_texts(path, word_network(), word_texts(), spans=("blocks.0.mlp->",))
    add_images(path, PixelNetwork(), pixel_images())
    cluster(path, site="blocks.1.mlp", space="activations")
    cluster(path, site="blocks.3.mlp")
    cluster(path, site="blocks.3.mlp", metric="euclidean")
    cluster(path, site="blocks.3.mlp", space="activations")
    cluster(path, span="blocks.1.mlp->")
    cluster(path, site="conv1:full", min_cluster_size=2)


def built_once(temporary: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """What one process of this run of the tests builds, and all others wait for; not to be written."""
    root = temporary.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    place = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            part = root / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)  # of one that failed
            build(part)
            part.rename(place)
    return place
