"""Large inputs, their size a parameter, and how much memory a whole ingestion of them takes beside the network."""

from __future__ import annotations

import json
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from atlas.network import Kind, Network
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling
from tests.forked import children
from tests.networks import KINDS, PixelNetwork, word_network

MOST_BYTES = 1_500_000_000
"""Of memory that any ingestion takes beside its network."""

LONG = 60_000_000
"""Characters of one line."""


def words(number: int) -> str:
    """A text of its own for each number, of five words that the network knows."""
    digits = [number // 60**place % 60 for place in range(5)]
    return " ".join(f"{KINDS[digit // 20]}{digit % 20}" for digit in digits)


def _records(path: Path, n: int, text: Callable[[int], object], label: Callable[[int], object]) -> Path:
    with path.open("w") as file:
        for i in range(n):
            file.write(json.dumps({"text": text(i), "label": label(i)}) + "\n")
    return path


def tiny_files(folder: Path, n: int) -> Path:
    """``n`` files of two words, a thousand a folder."""
    for i in range(n):
        if i % 1000 == 0:
            (folder / f"{i // 1000}").mkdir(parents=True)
        (folder / f"{i // 1000}" / f"{i}.txt").write_text(words(i))
    return folder


def many_labels(folder: Path, n: int) -> Path:
    return _records(folder / "a.jsonl", n, words, lambda i: f"label {i}")


def long_labels(folder: Path, n: int) -> Path:
    """Labels of a megabyte, a thousandth as many, and one that is read."""
    return _records(folder / "a.jsonl", 2 + n // 1000, words, lambda i: "x" * 10**6 if i else "short")


def long_lines(folder: Path, n: int) -> Path:
    return _records(folder / "a.jsonl", 2 + n // 50_000, lambda i: words(0) if i == 0 else "x" * LONG, lambda i: i)


def long_texts(folder: Path, n: int) -> Path:
    """Texts of 2.9 MB, a five-thousandth as many: as long as they may be."""
    text = " ".join([words(7)] * 80_000)
    return _records(folder / "a.jsonl", max(1, n // 5000), lambda i: f"{words(i)} {text}", lambda i: i)


def deep_lines(folder: Path, n: int) -> Path:
    path = _records(folder / "a.jsonl", 2, words, lambda i: i)
    with path.open("a") as file:
        file.writelines("[" * n + "]" * n + "\n" for _ in range(3))
    return path


def unpacking_tables(folder: Path, n: int) -> Path:
    """A row that can be read, and a hundredth of ``n`` rows of 4 MB, each of one letter: kilobytes on the disk."""
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(folder / "a.parquet", schema, compression="zstd", use_dictionary=False) as file:
        file.write_table(pa.table({"text": [words(0)]}))
        for _ in range(0, n, 6000):
            file.write_table(pa.table({"text": ["a" * 4_000_000] * 60}))
    return folder / "a.parquet"


def photographs(folder: Path, n: int) -> Path:
    """Images of 24 megapixels, a two-thousandth as many, every fourth with transparency."""
    noise = np.random.default_rng(1).integers(0, 255, (8, 8, 4), np.uint8)
    for i in range(max(2, n // 2000)):
        image = Image.fromarray(np.roll(noise, i, 0)).convert("RGBA" if i % 4 == 3 else "RGB").resize((6000, 4000))
        image.save(folder / (f"{i}.png" if i % 4 == 3 else f"{i}.jpg"), compress_level=1)
    return folder


@dataclass(frozen=True)
class Large:
    """What is made of so many, and its kind."""

    make: Callable[[Path, int], Path]
    kind: Kind = "text"


LARGE = {
    "tiny files": Large(tiny_files),
    "many labels": Large(many_labels),
    "long labels": Large(long_labels),
    "long lines": Large(long_lines),
    "long texts": Large(long_texts),
    "deep lines": Large(deep_lines),
    "unpacking tables": Large(unpacking_tables),
    "photographs": Large(photographs, "image"),
}
"""Another joins by a line."""


def taken(name: str, folder: Path, n: int) -> int:
    """Bytes by which the peak of a process grows that ingests such an input, indexes and clusters included."""
    (folder / "data").mkdir(parents=True)
    data = LARGE[name].make(folder / "data", n)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = children().Process(target=_measure, args=(theirs, name, data, folder / "a.atlas"))
    process.start()
    theirs.close()
    found: int = ours.recv()
    process.join()
    return found


def _measure(pipe: Connection, name: str, data: Path, path: Path) -> None:
    large = LARGE[name]
    network: Network = PixelNetwork() if large.kind == "image" else word_network()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dataset = open_dataset(str(data), kind=large.kind)
    choices = Choices(tokens=TokenSampling(1, 0), batch_size=256, skip_bad=True, sites=(network.sites[0].name,))
    ingest(path, network, dataset, choices)
    pipe.send(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
