"""Small networks in NumPy that honour the protocol, and what they read.

`plane_network` can be computed on paper: 2 inputs, 3 hidden gates, 2 output gates; see `REGIONS`. `word_network` is a
smooth text network of 4 sites whose widths fill no whole bytes. `PixelNetwork` is an image network with position and
full codes. `PointNetwork` is the plane network fed vectors. All of them compute what they say: none returns a canned
answer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

from atlas.network import GateRange, ImageView, Network, NetworkInfo, Reading, Site, Tokens, TokenWindow, VectorView


@cache
def shipped(source: str) -> Network:
    """A network that ships with the project, such as demo:gpt2, loaded once a process."""
    from ingest.networks import load_network

    return load_network(source, device="cpu")


class WordReader:
    """A text network whose tokens are the words of a text, a space between two, each a point of its vocabulary.

    The activation of a token depends on its own point and, by ``context``, on the mean of the points before it in
    its window.
    """

    def __init__(
        self,
        name: str,
        vocabulary: dict[str, Sequence[float]],
        layers: list[tuple[str, np.ndarray, np.ndarray]],
        act: str = "relu",
        window: int = 8,
        context: float = 0.0,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.words = list(vocabulary)
        self.points = np.array(list(vocabulary.values()), dtype=np.float64)
        self.layers, self.act, self.window, self.context = layers, act, window, context
        self.classes = list(classes or self.words)
        digest = hashlib.sha256(self.points.tobytes())
        for _, weight, bias in layers:
            digest.update(weight.tobytes() + bias.tobytes())
        self.info = NetworkInfo(
            name,
            type(self).__name__,
            "text",
            "tests",
            "by hand",
            digest.hexdigest(),
            {"window": window, "context": context},
        )
        self.sites = tuple(
            Site(name, ordinal, len(bias), len(bias), act, act == "relu", "position", (len(bias),))
            for ordinal, (name, _, bias) in enumerate(layers)
        )

    def tokenize(self, text: str) -> Tokens:
        words = text.split(" ") if text else []
        starts = np.cumsum([0, *(len(word) + 1 for word in words)], dtype=np.int64)[:-1]
        ids = np.array([self.words.index(word) for word in words], dtype=np.int64)
        return Tokens(ids, starts, starts + np.array([len(word) for word in words], dtype=np.int64))

    def windows(self, n_tokens: int) -> list[range]:
        return [range(start, min(start + self.window, n_tokens)) for start in range(0, n_tokens, self.window)]

    def token_text(self, token: int) -> str:
        return self.words[token]

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        x = np.concatenate([self._inputs(window)[window.positions] for window in batch])
        return read_layers(x, self.layers, self.act, self.classes, codes, activations)

    def _inputs(self, window: TokenWindow) -> np.ndarray:
        points = self.points[window.ids]
        before = np.cumsum(points, axis=0) - points
        return points + self.context * before / np.maximum(np.arange(len(points)), 1)[:, None]


def read_layers(
    x: np.ndarray,
    layers: list[tuple[str, np.ndarray, np.ndarray]],
    act: str,
    classes: Sequence[str],
    codes: Sequence[Site],
    activations: Sequence[Site],
) -> Reading:
    """Dense layers on rows of ``x``; the prediction is the largest softmax of the last layer's preactivations."""
    z, a = {}, {}
    for name, weight, bias in layers:
        z[name] = x @ weight.T + bias
        x = a[name] = np.maximum(z[name], 0) if act == "relu" else gelu(z[name])
    logits = z[layers[-1][0]]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return Reading(
        {site.name: np.packbits(z[site.name] > 0, axis=1) for site in codes},
        {site.name: a[site.name].astype(np.float32) for site in activations},
        {site.name: np.isfinite(z[site.name]).all(axis=1) for site in [*codes, *activations]},
        [classes[i % len(classes)] for i in logits.argmax(axis=1)],
        shares.max(axis=1).astype(np.float32),
        np.full(len(logits), np.nan, np.float32),
    )


def gelu(z: np.ndarray) -> np.ndarray:
    """z Φ(z)."""
    return z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))


REGIONS = {
    "1:1": ("110", "00"),
    "2:2": ("111", "01"),
    "3:1": ("111", "11"),
    "1:3": ("111", "01"),
    "-1:1": ("010", "00"),
    "-1:5": ("011", "01"),
    "1:-1": ("100", "10"),
    "5:-1": ("101", "11"),
    "-1:-1": ("000", "00"),
    "2:1": ("111", "10"),
    "0:0": ("000", "00"),
    "nan:1": ("010", "00"),
}
"""Codes of some points x:y at the sites hidden and out of the plane network, worked out on paper.

hidden: x > 0, y > 0, x + y > 2. Out, of the activations h = relu(z): h0 > h1, and h2 > 1 (that is, x + y > 3).
"""


def plane_network(name: str = "plane", scale: float = 1.0) -> WordReader:
    """2 inputs, 3 hidden and 2 output gates. A word is a point ``x:y``."""
    hidden = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([0.0, 0, -2])
    out = scale * np.array([[1.0, -1, 0], [0, 0, 1]]), np.array([0.0, -1])
    vocabulary: dict[str, Sequence[float]] = {f"{x}:{y}": (x, y) for x in range(-5, 6) for y in range(-5, 6)}
    vocabulary["nan:1"] = (np.nan, 1)
    return WordReader(name, vocabulary, [("hidden", *hidden), ("out", *out)], classes=["left", "right"], window=4)


class PointNetwork:
    """The plane network, fed vectors of two numbers: `REGIONS` are its codes."""

    n_inputs = 2

    def __init__(self, name: str = "points") -> None:
        plane = plane_network()
        self.layers, self.classes, self.sites = plane.layers, plane.classes, plane.sites
        self.info = NetworkInfo(name, "PointNetwork", "vector", "tests", "by hand", plane.info.weights_digest)

    def read(self, batch: Sequence[VectorView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        x = np.stack([view.numbers for view in batch]).astype(np.float64)
        return read_layers(x, self.layers, "relu", self.classes, codes, activations)


WIDTHS = (13, 20, 9, 31)  # no whole bytes
KINDS = ("fruit", "metal", "river")


def word_network(name: str = "words", seed: int = 0, context: float = 0.2, window: int = 5) -> WordReader:
    """4 smooth layers over 60 words, 20 of a kind, each kind near a centre of its own in 6 dimensions."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((len(KINDS), 6))
    vocabulary = {
        f"{kind}{i}": centre + rng.standard_normal(6)
        for kind, centre in zip(KINDS, centres, strict=True)
        for i in range(20)
    }
    sizes = (6, *WIDTHS)
    layers = [
        (f"blocks.{i}.mlp", rng.standard_normal((high, low)) / np.sqrt(low), 0.3 * rng.standard_normal(high))
        for i, (low, high) in enumerate(pairwise(sizes))
    ]
    return WordReader(name, vocabulary, layers, act="gelu_new", window=window, context=context)


def word_texts(n_texts: int = 60, seed: int = 1) -> list[tuple[str, str | None, str]]:
    """(key, label, text): 12 words of one kind a text, many first words alike, the last text without a label."""
    rng = np.random.default_rng(seed)
    texts = []
    for i in range(n_texts):
        kind = KINDS[i % len(KINDS)]
        words = [f"{kind}{j}" for j in rng.integers(20, size=12)]
        words[0] = f"{kind}{i % 2}"
        texts.append((f"{kind}/{i}.txt", kind if i < n_texts - 1 else None, " ".join(words)))
    return texts


class PixelNetwork:
    """Images of any size, made 3 x 3 and grey; 1 x 1 convolutions to 3 and then to 2 channels.

    Each block is a position site and a full one, ``conv1`` and ``conv1:full``. The class is dark or bright.
    """

    classes = ("dark", "bright")
    side = 3
    layers = (
        ("conv1", np.array([[1.0], [-1], [2]]), np.array([-0.5, 0.5, -0.4])),
        ("conv2", np.array([[1.0, -1, 0], [0.5, 1, -1]]), np.array([0.1, -0.1])),
    )

    def __init__(self, name: str = "pixels") -> None:
        self.info = NetworkInfo(name, "PixelNetwork", "image", "tests", "by hand", "p" * 64, {"size": self.side})
        area = self.side**2
        position = [
            Site(name, i, len(bias), len(bias), "relu", True, "position", (len(bias),))
            for i, (name, _, bias) in enumerate(self.layers)
        ]
        full = [
            Site(
                f"{name}:full",
                i,
                len(bias) * area,
                len(bias) * area,
                "relu",
                True,
                "full",
                (len(bias), self.side, self.side),
                (GateRange(name, 0, len(bias) * area, (self.side, self.side)),),
            )
            for i, (name, _, bias) in enumerate(self.layers)
        ]
        self.sites = (*position, *full)

    def read(self, batch: Sequence[ImageView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        z: dict[str, np.ndarray] = {}
        images = [view.image.convert("L").resize((self.side, self.side), Image.Resampling.NEAREST) for view in batch]
        grey = x = np.stack([np.asarray(image) / 255 for image in images])[:, None]
        rows = np.array([int(view.row * self.side) for view in batch])
        columns = np.array([int(view.column * self.side) for view in batch])
        for name, weight, bias in self.layers:
            pre = np.einsum("oi,nirc->norc", weight, x) + bias[:, None, None]
            z[name], z[f"{name}:full"] = pre[np.arange(len(x)), :, rows, columns], pre.reshape(len(pre), -1)
            x = np.maximum(pre, 0)
        bright = grey.mean(axis=(1, 2, 3))
        return Reading(
            {site.name: np.packbits(z[site.name] > 0, axis=1) for site in codes},
            {site.name: np.maximum(z[site.name], 0).astype(np.float32) for site in activations},
            {site.name: np.isfinite(z[site.name]).all(axis=1) for site in [*codes, *activations]},
            [self.classes[int(value > 0.5)] for value in bright],
            np.maximum(bright, 1 - bright).astype(np.float32),
            np.zeros(len(bright), np.float32),
        )


def pixel_images(n_images: int = 12, seed: int = 2) -> list[tuple[str, str, Image.Image]]:
    """(key, label, image): 3 x 3 greys, alternately dark and bright."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(n_images):
        low = 0 if i % 2 == 0 else 128
        pixels = rng.integers(low, low + 128, size=(3, 3)).astype(np.uint8)
        images.append((f"{('dark', 'bright')[i % 2]}/{i}.png", ("dark", "bright")[i % 2], Image.fromarray(pixels)))
    return images
