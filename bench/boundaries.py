"""What the boundaries of a polytope cost, in forward passes of the network behind them.

    python -m bench.boundaries [--size small|full] [--lab FOLDER] [--rounds N] [--flips N]

Of one image and a span of InceptionV1: the distances of all gates and pooling windows with the nearest ten in double
precision, the same from a sketch, and exits along 1,000 directions, each over the time of a forward pass of 64
points through the same tail (codes read); and the Jacobian of all gates by `torch.func.jacrev`, from which
distances alone would follow, where it takes less than half a GB. Ratios are of CPU seconds, a pair a round.
``--size small`` reads the demo's network; ``full`` that of the lab (see `bench.lab`) and the real architecture at 224
pixels, with random weights: speed does not depend on them. ``--flips N``: of N held-out images of the lab, how many
gates flip across the nearest boundary. Prints a table and one JSON line for each.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from atlas.network import ImageView
from bench.lab import LAB
from bench.report import show
from ingest.networks import load_network
from query.examples.live import Place, place_of
from query.polytope.boundaries import SKETCH, across, crossed, nearest_boundaries
from query.polytope.exits import first_exits, uniform_directions
from query.polytope.margins import Margins, margins_at
from query.polytope.names import names_of

NEAREST, POINTS, RAYS = 10, 64, 1000
FEWER = 100  # rays at 224 pixels, where a thousand of 163,072 units take gigabytes
LARGEST_JACOBIAN = 1 << 29  # bytes in single precision
SPANS = ("inception5a->", "inception4e->", "inception4c->")
FLIPPED = ("inception5a->", "inception4e->", "inception4c->", "inception3a->")


@dataclass(frozen=True)
class Asked:
    """A network, an image and a span, and the activation there."""

    name: str
    network: Any
    place: Place
    point: np.ndarray

    @property
    def tail(self) -> Any:
        return self.network.tail(self.place.site)

    def margins(self) -> Margins:
        return margins_at(self.tail, self.place.sites, self.point)


def asked(name: str, network: Any, image: Image.Image, span: str) -> Asked:
    place = place_of(network, span=span)
    reading = network.read([ImageView(image)], codes=[], activations=[place.site])
    return Asked(name, network, place, reading.activations[place.site.name][0])


def measure(of: Asked, rounds: int, rays: int = RAYS) -> list[dict[str, Any]]:
    """A row a question, each timed beside forward passes of the same rounds; of all distances where they are not
    sketched unless asked for."""
    tail, sites = of.tail, of.place.sites
    points = torch.from_numpy(np.repeat(of.point[None], POINTS, axis=0))
    margins = of.margins()
    exact = not margins.is_large
    ways = uniform_directions(np.random.default_rng(0), rays, len(of.point))
    questions: dict[str, Callable[[], Any]] = {}
    if exact:
        questions["distances of all"] = lambda: nearest_boundaries(of.margins(), NEAREST)
    questions[f"nearest, sketch of {SKETCH}"] = lambda: nearest_boundaries(of.margins(), NEAREST, sketch=SKETCH)
    questions[f"{rays:,} exits"] = lambda: first_exits(of.margins(), ways)
    if exact and 4 * len(of.point) * margins.n_gates <= LARGEST_JACOBIAN:
        questions["jacrev of the gates"] = lambda: jacobian(of)
    tail.read(points, sites)
    rows = []
    for name, ask in questions.items():
        timed = [(_seconds(lambda: tail.read(points, sites)), _seconds(ask)) for _ in range(rounds)]
        rows.append(
            {
                "network": of.name,
                "span": of.place.name,
                "units": len(of.point),
                "gates": margins.n_gates,
                "windows": len(margins.values) - margins.n_gates,
                "question": name,
                "forward CPU s": statistics.median(forward for (_, forward), _ in timed),
                "s": statistics.median(clock for _, (clock, _) in timed),
                "CPU s": statistics.median(cpu for _, (_, cpu) in timed),
                "forward passes": statistics.median(cpu / forward for (_, forward), (_, cpu) in timed),
                "peak MB so far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    return rows


def jacobian(of: Asked) -> torch.Tensor:
    """∂z/∂x of all gates, at once."""
    tail, sites = of.tail, of.place.sites

    def gates(x: torch.Tensor) -> torch.Tensor:
        _, values = tail.preactivations(x[None], sites)
        return torch.cat([values[site.name][0] for site in sites])

    found: torch.Tensor = torch.func.jacrev(gates, chunk_size=POINTS)(torch.from_numpy(of.point))
    return found


def flips(network: Any, files: Sequence[Path], span: str) -> dict[str, Any]:
    """Across the nearest boundary of each image: whether exactly its gate, or its window alone, changes.

    Crossed in double precision by the forward pass. Where several hyperplanes are one, all of their gates flip.
    """
    rows = []
    started = time.process_time()
    for file in files:
        with Image.open(file) as image:
            of = asked("", network, image.convert("RGB"), span)
        margins = of.margins()
        nearest = nearest_boundaries(margins, 1, sketch=SKETCH)
        beyond = across(margins, nearest)
        flipped, verified = crossed(margins, beyond)
        kind = names_of(margins, nearest.numbers)["kind"].iloc[0]
        rows.append(
            (kind, int(flipped[0]), bool(verified[0]), bool(beyond.facet[0]), len(nearest.tied), nearest.missed)
        )
    kinds, flipped, verified, facets, tied, missed = (np.array(column) for column in zip(*rows, strict=True))
    gate = kinds == "gate"
    return {
        "span": span,
        "images": len(rows),
        "nearest is a gate": int(gate.sum()),
        "one gate flips": int((gate & (flipped == 1)).sum()),
        "nearest is a window": int((~gate).sum()),
        "it alone switches": int((~gate & (flipped == 0) & verified).sum()),
        "as foretold": int(verified.sum()),
        "facets": int(facets.sum()),
        "lie on, median": float(np.median(tied)),
        "missed at most": float(missed.sum()),
        "CPU s": time.process_time() - started,
    }


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - cpu


def _lab(folder: Path) -> Any:
    options: dict[str, Any] = {"classes": str(folder / "inceptionv1-lab.classes.txt"), "image_size": 64}
    return load_network("inceptionv1", weights=str(folder / "inceptionv1-lab.pt"), device="cpu", **options)


def _held_out(folder: Path, n: int) -> list[Path]:
    """Images that the lab's network was not trained on, of all classes by turns."""
    files = sorted((folder / "images").glob("*/val_*"), key=lambda file: (file.name, file.parent.name))
    return files[:: max(1, len(files) // n)][:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["small", "full"], default="full")
    parser.add_argument("--lab", type=Path, default=LAB)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flips", type=int, default=0)
    given = parser.parse_args()
    if given.flips:
        network, files = _lab(given.lab), _held_out(given.lab, given.flips)
        for span in FLIPPED:
            show("across the nearest boundary", [flips(network, files, span)])
        return
    if given.size == "small":
        network = load_network("demo:inceptionv1", device="cpu")
        image = Image.fromarray((load_digits().images[0] * 15.9375).astype(np.uint8))
        show("boundaries of the demo", measure(asked("demo", network, image, SPANS[0]), given.rounds))
        return
    if given.lab.is_dir():
        network, [file] = _lab(given.lab), _held_out(given.lab, 1)
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for span in SPANS:
            show("boundaries at 64 pixels", measure(asked("lab", network, image, span), given.rounds))
    network = load_network("inceptionv1", weights="random-raw:0", device="cpu")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    for span in SPANS:
        show("boundaries at 224 pixels", measure(asked("random", network, noise, span), 1, FEWER))


if __name__ == "__main__":
    main()
