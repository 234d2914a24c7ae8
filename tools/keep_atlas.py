"""Write a small atlas of this schema version to the tests, which open it from then on."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from atlas.store.atlas import SCHEMA_VERSION
from atlas.store.opening import make
from ingest.derived.clusters import cluster
from tests.atlases import add_images, add_texts
from tests.networks import PixelNetwork, pixel_images, word_network, word_texts

KEPT = Path(__file__).parents[1] / "tests" / "atlas" / "store" / "kept"

BLOCK_SIZE = 16_384
"""Bytes, the least that DuckDB has: the file is to be small."""


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kept.atlas"
        make(path, block_size=BLOCK_SIZE)
        add_texts(path, word_network(), word_texts(12), sites=["blocks.0.mlp", "blocks.1.mlp"])
        add_images(path, PixelNetwork(), pixel_images(6), sites=["conv1"])
        cluster(path, site="blocks.0.mlp", min_cluster_size=3)
        KEPT.mkdir(exist_ok=True)
        file = KEPT / f"schema-{SCHEMA_VERSION}.tar.xz"
        with (
            lzma.open(file, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            tar.add(path, path.name)
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
