"""Where does it lead: what is measured here up to some size, and what a model fitted to it says of 100 M and 1 G?

    python -m bench.scale [--size small|full|ten-million] [--folder PLACE]

One site of 3,072 sparse gates is ingested run by run into a segmented atlas, so that a run is a segment, and a
smaller atlas is cut into more and more segments. Measured at each size, in CPU seconds, the least of some: what
publishing and indexing a run take, opening, the nearest of one code (exactly), two questions in SQL; and the bytes,
old versions removed. Each is fitted, without negative terms, by a constant, the examples and the segments; an append
by a constant, what it adds and what is there. The largest size takes no part in that: it says how far the model is
off. Then the table, which says of each row whether it was measured or computed. Ten million take some 12 GB, and an
hour or two.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

import atlas
import query
from atlas.network import Kind, NetworkInfo, Reading, Site, Tokens, TokenWindow
from atlas.store.vacuum import vacuum
from bench.report import show
from ingest.datasets.base import BadItem, Item, text_item
from ingest.progress import Progress, Step
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling

GATES, CENTRES, ON, FLIPPED = 3072, 1000, 0.1, 0.02
A_TEXT = 1000
"""Tokens, each an example."""

SIZES: dict[str, tuple[list[int], int, list[int]]] = {
    "small": ([4_000, 8_000, 16_000, 40_000], 8_000, [2, 8]),
    "full": ([100_000, 200_000, 400_000, 1_000_000], 64_000, [4, 16, 64]),
    "ten-million": ([1_000_000, 2_000_000, 4_000_000, 10_000_000], 64_000, [4, 16, 64]),
}
"""Examples after each run, the last one to check the model by; examples of the atlas that is cut; its segments."""

SEGMENT = 4_000_000  # examples, where the model goes on
BEYOND = [10**8, 10**9]
APPENDED = 100_000
APPEND = "append CPU s"
ROUNDS = 5
SITE = "blocks.0.mlp"

ASKED = {
    "gates on": "select avg(n_active), max(n_active) from codes where site_id = 1",
    "gate by prediction": "select prediction, avg(is_on(code, 42)::int) from codes join examples using (example_id) "
    "where site_id = 1 group by prediction",
}

Row = dict[str, float]


class Numbers:
    """Texts whose words are numbers, each of which stands for an example, from ``first`` on."""

    kind: Kind = "text"
    ignored: Mapping[str, int] = {}

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count
        self.name = self.source = self.fingerprint = f"numbers {first} to {first + count}"

    def __len__(self) -> int:
        return -(-self.count // A_TEXT)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        for ordinal in range(start, len(self) if stop is None else stop):
            low = self.first + ordinal * A_TEXT
            words = range(low, min(low + A_TEXT, self.first + self.count))
            yield text_item(ordinal, f"{low}.txt", None, " ".join(map(str, words)))


class Sparse:
    """A network whose codes are drawn by the numbers that it reads, around centres, a tenth of the gates on."""

    def __init__(self) -> None:
        self.info = NetworkInfo("generated", "Sparse", "text", "bench", "none", "0" * 64)
        self.sites = (Site(SITE, 0, 8, GATES, "relu", False),)
        self._centres = np.random.default_rng(0).random((CENTRES, GATES), dtype=np.float32) < ON

    def tokenize(self, text: str) -> Tokens:
        words = text.split(" ")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        return Tokens(np.array([int(word) for word in words]), ends - [len(word) for word in words], ends)

    def windows(self, n_tokens: int) -> list[range]:
        return [range(n_tokens)]

    def token_text(self, token: int) -> str:
        return str(token)

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        packed = np.concatenate([self._codes(window.ids[window.positions]) for window in batch])
        n = len(packed)
        return Reading(
            {site.name: packed for site in codes},
            {},
            {site.name: np.ones(n, np.bool_) for site in codes},
            [str(number % 10) for number in range(n)],
            np.ones(n, np.float32),
            np.zeros(n, np.float32),
        )

    def _codes(self, rows: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng(int(rows[0]))
        flipped = generator.random((len(rows), GATES), dtype=np.float32) < FLIPPED * ON
        return np.packbits(self._centres[generator.integers(0, CENTRES, len(rows))] ^ flipped, axis=1)


class Clock(Progress):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        started = time.process_time()
        yield Step()
        self.seconds[name] = time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--folder", type=Path, help="Where the atlases are made; removed at the end.")
    arguments = parser.parse_args()
    sizes, cut, segments = SIZES[arguments.size]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        rows = [_grown(Path(name) / f"cut {count}", _even(cut, count), asked=False)[-1] for count in segments]
        rows += _grown(Path(name) / "grown", sizes, asked=True)
    measured, check = rows[:-1], rows[-1]
    models = {quantity: _fitted(measured, quantity) for quantity in check if quantity not in KEYS}
    show("measured", rows)
    checked = [
        {"what": what, "measured": check[what], "computed": model(check), "ratio": model(check) / check[what]}
        for what, model in models.items()
    ]
    show(f"the model at {check['examples']:,.0f} examples, to which it was not fitted", checked)
    beyond: list[Row] = [{"examples": n, "segments": -(-n // SEGMENT), "added": APPENDED} for n in BEYOND]
    table: list[dict[str, Any]] = [{**row, "row": "measured"} for row in rows if row["segments"] <= len(sizes)]
    table += [row | {what: model(row) for what, model in models.items()} | {"row": "computed"} for row in beyond]
    show("at size", table)


KEYS = ("examples", "segments", "added")
"""What the rest depends on."""


def _even(n: int, count: int) -> list[int]:
    return [n * (number + 1) // count for number in range(count)]


def _grown(path: Path, sizes: Sequence[int], *, asked: bool) -> list[Row]:
    """What is measured as an atlas grows to each size, a run at a time; ``asked``: at each, not at the last alone."""
    rows, held = [], 0
    for number, size in enumerate(sizes, start=1):
        clock = Clock()
        ingest(
            path,
            Sparse(),
            Numbers(held, size - held),
            Choices(store_activations=False, tokens=TokenSampling(A_TEXT, 0)),
            run=f"run-{number}",
            segmented=True,
            cluster=False,
            progress=clock,
        )
        row: Row = {"examples": size, "segments": number, "added": size - held}
        row[APPEND] = clock.seconds["publish"] + clock.seconds["index"]
        rows.append(row | _asked(path, size) if asked or number == len(sizes) else row)
        held = size
    shutil.rmtree(path)
    return rows


def _asked(path: Path, size: int) -> Row:
    vacuum(path, grace=0)
    row = {"GB": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e9}
    row["open CPU ms"] = _least(lambda: atlas.open(path).close())
    with atlas.open(path) as a:
        others = iter(range(1, size, size // (2 * ROUNDS)))  # what was asked before is remembered
        row["nearest CPU ms"] = _least(lambda: query.nearest(a, example=next(others), site=SITE, k=10, exact=True))
        for what, sql in ASKED.items():
            row[f"{what} CPU ms"] = _least(lambda sql=sql: a.rows(sql))  # type: ignore[misc]
    return row


def _least(run: Callable[[], Any]) -> float:
    """CPU milliseconds of the least of some."""
    took = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run()
        took.append(time.process_time() - started)
    return 1000 * min(took)


def _fitted(rows: Sequence[Row], quantity: str) -> Callable[[Row], float]:
    """A constant, examples and segments, none of them negative, with the least relative squares."""
    held = [row for row in rows if quantity in row]
    terms = np.array([_terms(row, quantity) for row in held])
    truth = np.array([row[quantity] for row in held])
    scale = terms.max(axis=0)
    weights, _ = nnls(terms / scale / truth[:, None], np.ones(len(truth)))
    return lambda row: float(_terms(row, quantity) @ (weights / scale))


def _terms(row: Row, quantity: str) -> np.ndarray:
    return np.array([1.0, row["examples"], row["added" if quantity == APPEND else "segments"]])


if __name__ == "__main__":
    main()
