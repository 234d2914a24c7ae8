"""Networks that can be run on from a site, small enough to work out on paper, and atlases of them."""

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from atlas.network import GateRange, Site, TokenWindow
from atlas.tails import Block
from ingest.networks.tails import NoPooling, PiecewiseTail
from tests.atlases import add_images, add_texts
from tests.networks import WordReader, shipped

PLANE_GATES = 5
"""Of the plane network after its site embed: hidden x > 0, y > 0, x + y > 2; out x⁺ > y⁺, (x + y − 2)⁺ > 1."""


class LinearReluStage(NoPooling):
    """A dense layer: z = W·x + b, then ReLU."""

    def __init__(self, site, weight, bias):
        self.gates = ((site.name, GateRange(site.name, 0, len(bias))),)
        self._weight, self._bias = weight, bias

    def preactivations(self, state):
        return torch.nn.functional.linear(state[0], self._weight, self._bias)

    def blocks(self, state):
        gates, inputs = (np.arange(size) for size in self._weight.shape)
        return (Block(gates, inputs, inputs, self._weight.T),)

    def advance(self, state, preactivations):
        return (preactivations.relu(),)


class LastStage(LinearReluStage):
    """A layer whose preactivations are the logits: what it hands on has seen no ReLU."""

    def advance(self, state, preactivations):
        return (preactivations,)


def dense_tail(site, later, layers, names, dtype=torch.float32):
    """A tail of dense layers (weight, bias); the gates of each are those of a site in ``later``."""
    tensors = [[torch.tensor(values, dtype=dtype) for values in layer] for layer in layers]
    kinds = [LinearReluStage] * (len(layers) - 1) + [LastStage]
    stages = [kind(other, *layer) for kind, other, layer in zip(kinds, later, tensors, strict=True)]
    return PiecewiseTail(
        site,
        later,
        stages,
        lambda x: (x,),
        lambda state: state[0],
        names=names,
        like=tensors[0][0],
        precise_tail=lambda: dense_tail(site, later, layers, names, torch.float64),
    )


class TailedReader(WordReader):
    """A `WordReader` that can be run on from its sites."""

    def tail(self, site, work=None):
        assert isinstance(work, TokenWindow) and len(work.positions) == 1
        later = [other for other in self.sites if other.ordinal > site.ordinal]
        return dense_tail(site, later, [layer[1:] for layer in self.layers[site.ordinal + 1 :]], self.classes)


class NormedReader(TailedReader):
    """The plane network whose site hidden is also read through RMSNorm: gates N(r)ₓ > 0.9 and N(r)ᵧ > N(r)ₓ."""

    eps = 0.0
    gates = np.array([[1.0, 0], [-1, 1]]), np.array([-0.9, 0])

    def before_norm(self, batch, sites):
        points = np.concatenate([self.points[work.ids[work.positions]] for work in batch])
        return {site.name: points.astype(np.float32) for site in sites}

    def after_norm(self, site, residual):
        weight, bias = self.gates
        normalised = residual / np.sqrt(np.square(residual).mean(axis=1, keepdims=True) + self.eps)
        return normalised, (normalised @ weight.T + bias).astype(np.float32)


def plane_reader(name="tailed", seed=None, kind=TailedReader):
    """Site embed holds the point x:y itself, 0 ≤ x, y ≤ 6; then the plane network of `tests.networks`, or, with a
    seed, an untrained one of the same shape, without offsets."""
    hidden = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([0.0, 0, -2])
    out = np.array([[1.0, -1, 0], [0, 0, 1]]), np.array([0.0, -1])
    if seed is not None:
        rng = np.random.default_rng(seed)
        hidden, out = ((rng.standard_normal(weight.shape), np.zeros(len(bias))) for weight, bias in (hidden, out))
    vocabulary = {f"{x}:{y}": (x, y) for x in range(7) for y in range(7)}
    layers = [("embed", np.eye(2), np.zeros(2)), ("hidden", *hidden), ("out", *out)]
    return kind(name, vocabulary, layers, classes=["left", "right"], window=4)


def plane_atlas(path: Path) -> None:
    """An atlas of all 49 points, labelled low (x + y < 6) or high."""
    reader = plane_reader()
    texts = [(word, "low" if sum(map(int, word.split(":"))) < 6 else "high", word) for word in reader.words]
    add_texts(path, reader, texts, per_sequence=1)


def random_tail(seed, sizes=(4, 16, 16, 16, 3)):
    """A deep dense tail with random weights, and its sites."""
    rng = np.random.default_rng(seed)
    layers = [
        (rng.standard_normal((high, low)) / np.sqrt(low), 0.5 * rng.standard_normal(high))
        for low, high in itertools.pairwise(sizes)
    ]
    start = Site("start", 0, sizes[0], sizes[0], "relu", True)
    later = [Site(f"layer{i}", i, width, width, "relu", True) for i, width in enumerate(sizes[1:], start=1)]
    return dense_tail(start, later, layers, [str(i) for i in range(sizes[-1])]), later


def digits(n):
    """(key, label, image) of the first digits, as PNGs of 8 x 8 pixels."""
    data = load_digits()
    pixels = (data.images[:n] * 15.9375).astype(np.uint8)
    return [(f"{i}.png", str(data.target[i]), Image.fromarray(image)) for i, image in enumerate(pixels)]


def digit_atlas(path: Path, stored=("inception5a:full",), images=None) -> None:
    """Digits read by the demo's InceptionV1, with activations of the sites ``stored``."""
    sites = ["inception5a:full", "inception5b:full"]
    add_images(path, shipped("demo:inceptionv1"), images or digits(24), sites=sites, activations=stored)
