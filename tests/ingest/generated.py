"""Any number of texts and any number of activations, made when they are asked for and held by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import atlas.store.atlas
from atlas.network import Kind, NetworkInfo, Reading, Site, Tokens, TokenWindow
from ingest.datasets.base import BadItem, Item, text_item
from ingest.run import plan
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling

WORDS = 64
"""Words of a text; the text is one sequence."""


class Noise:
    """A dataset of numbers written out, each text other than all others, about 2 kB with its padding."""

    kind: Kind = "text"
    ignored: Mapping[str, int] = {}
    name = source = "noise"

    def __init__(self, n_texts: int) -> None:
        self.n_texts, self.fingerprint = n_texts, f"noise {n_texts}"

    def __len__(self) -> int:
        return self.n_texts

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        for ordinal in range(start, self.n_texts if stop is None else stop):
            words = np.random.default_rng(ordinal).integers(10**15, size=WORDS)
            yield text_item(ordinal, f"{ordinal}.txt", str(ordinal % 7), " ".join(f"{word:030d}" for word in words))


class NoisyNetwork:
    """Activations are noise seeded by the text's first token: nothing to compress, and the same every time."""

    def __init__(self, width: int = 1024, n_sites: int = 2) -> None:
        self.info = NetworkInfo("noisy", "NoisyNetwork", "text", "tests", "seeded", "0" * 64)
        self.sites = tuple(
            Site(f"blocks.{i}.mlp", i, width, width, "relu", False, unit_shape=(width,)) for i in range(n_sites)
        )

    def tokenize(self, text: str) -> Tokens:
        words = text.split(" ")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        return Tokens(np.array([int(word) for word in words]), ends - [len(word) for word in words], ends)

    def windows(self, n_tokens: int) -> list[range]:
        return [range(n_tokens)]

    def token_text(self, token: int) -> str:
        return f"{token:030d}"

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        z = {site.name: np.concatenate([self._noise(window, site) for window in batch]) for site in codes}
        n = sum(len(window.positions) for window in batch)
        return Reading(
            {site.name: np.packbits(z[site.name] > 0, axis=1) for site in codes},
            {site.name: z[site.name] for site in activations},
            {site.name: np.ones(n, bool) for site in codes},
            ["next"] * n,
            np.full(n, 0.5, np.float32),
            np.full(n, 0.7, np.float32),
        )

    def _noise(self, window: TokenWindow, site: Site) -> np.ndarray:
        generator = np.random.default_rng([window.ids[0], site.ordinal])
        return generator.standard_normal((len(window.ids), site.n_units), np.float32)[window.positions]


def send_peaks(pipe: Connection, folder: Path, *numbers: int) -> None:
    """Ingest so many texts and send the peak of this process's memory in MB, and then the same of the next number: a
    run that takes no more than those before leaves the peak as it was. Shards and the writer have less memory than
    otherwise, so that a small run fills it."""
    atlas.store.atlas.WRITER_BYTES, plan.SHARD_BYTES = 96 << 20, 16 << 20
    every_word = Choices(tokens=TokenSampling(WORDS, 0))
    for number in numbers:
        # Clustering is bounded by AUTOMATIC_POINTS instead, and left out here.
        ingest(folder / str(number), NoisyNetwork(), Noise(number), every_word, cluster=False)
        pipe.send(_peak_megabytes())


def _peak_megabytes() -> float:
    """Of this process alone: `getrusage` would count what its parent held when it started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kilobytes) / 1024
