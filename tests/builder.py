"""Atlases made by hand, without torch: three small NumPy networks that honour the protocol, and a writer of tables.

`PlaneNetwork` can be computed on paper: 2 inputs, 3 hidden gates, 2 output gates; see `REGIONS`. `WordNetwork` is a
smooth text network of 4 sites whose widths fill no whole bytes. `PixelNetwork` is an image network with position and
full codes. All of them compute what they say: none returns a canned answer.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

import atlas
from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.medoids import medoids
from atlas.network import GateRange, ImageView, NetworkInfo, Reading, Site, Tokens, TokenWindow
from atlas.search.hamming_index import HammingIndex
from atlas.store import digests
from atlas.store.atlas import Atlas

# --- networks --------------------------------------------------------------------------------------------------


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
    vocabulary = {f"{x}:{y}": (x, y) for x in range(-5, 6) for y in range(-5, 6)}
    vocabulary["nan:1"] = (np.nan, 1)
    return WordReader(name, vocabulary, [("hidden", *hidden), ("out", *out)], classes=["left", "right"], window=4)


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
    """(key, label, image): 3 x 3 greys, alternately mostly dark and mostly bright; the third repeats the first."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(n_images):
        low = 0 if i % 2 == 0 else 128
        pixels = rng.integers(low, low + 128, size=(3, 3)).astype(np.uint8)
        images.append((f"{('dark', 'bright')[i % 2]}/{i}.png", ("dark", "bright")[i % 2], Image.fromarray(pixels)))
    return images


# --- writing ---------------------------------------------------------------------------------------------------


def add_texts(
    a: Atlas,
    network: WordReader,
    texts: Sequence[tuple[str, str | None, str]],
    *,
    first: int = 0,
    every: int = 2,
    dataset: str = "texts",
    activations: Sequence[str] | None = None,
    codes: Sequence[str] | None = None,
) -> None:
    """Read tokens first, first + every, … of each text and store codes and activations (default: of all sites)."""
    rows, views = [], []
    for _, label, text in texts:
        tokens = network.tokenize(text)
        for place in range(first, len(tokens.ids), every):
            window = next(window for window in network.windows(len(tokens.ids)) if place in window)
            views.append(TokenWindow(tokens.ids[window.start : window.stop], np.array([place - window.start])))
            rows.append(
                {
                    "content_hash": hashlib.sha256(text.encode()).hexdigest(),
                    "label": label,
                    "position": place,
                    "token": text[tokens.starts[place] : tokens.ends[place]],
                    "context": text,
                    "context_offset": int(tokens.starts[place]),
                    "row": None,
                    "column": None,
                }
            )
    inputs = [
        {
            "key": key,
            "label": label,
            "kind": "text",
            "content_hash": hashlib.sha256(text.encode()).hexdigest(),
            "text": text,
            "thumbnail": None,
            "width": None,
            "height": None,
        }
        for key, label, text in texts
    ]
    _publish(a, network, dataset, inputs, rows, views, codes, activations)


def add_images(
    a: Atlas,
    network: PixelNetwork,
    images: Sequence[tuple[str, str, Image.Image]],
    *,
    place: tuple[float, float] = (0.5, 0.5),
    dataset: str = "images",
    codes: Sequence[str] | None = None,
    activations: Sequence[str] | None = None,
) -> None:
    """Read each image at one relative position."""
    rows, inputs = [], []
    for key, label, image in images:
        encoded = io.BytesIO()
        image.save(encoded, "PNG")
        content_hash = hashlib.sha256(encoded.getvalue()).hexdigest()
        rows.append(
            {
                "content_hash": content_hash,
                "label": label,
                "position": None,
                "token": None,
                "context": None,
                "context_offset": None,
                "row": place[0],
                "column": place[1],
            }
        )
        inputs.append(
            {
                "key": key,
                "label": label,
                "kind": "image",
                "content_hash": content_hash,
                "text": None,
                "thumbnail": encoded.getvalue(),
                "width": image.width,
                "height": image.height,
            }
        )
    views = [ImageView(image, *place) for _, _, image in images]
    _publish(a, network, dataset, inputs, rows, views, codes, activations)


def _publish(a, network, dataset, inputs, rows, views, codes, activations) -> None:
    codes = [site for site in network.sites if codes is None or site.name in codes]
    stored = [site for site in network.sites if activations is None or site.name in activations]
    reading = network.read(views, codes, stored)
    with a.transaction():
        network_id = _add_network(a, network)
        run_id = _next_id(a, "runs", "run_id")
        input_ids = _add_inputs(a, dataset, inputs, run_id)
        first = _next_id(a, "examples", "example_id")
        examples = np.arange(first, first + len(rows))
        _insert(
            a,
            "examples",
            [
                {
                    "example_id": int(example),
                    "network_id": network_id,
                    "run_id": run_id,
                    "input_id": input_ids[row["content_hash"]],
                    **{name: value for name, value in row.items() if name != "content_hash"},
                    "prediction": prediction,
                    "probability": float(probability),
                    "loss": None if np.isnan(loss) else float(loss),
                }
                for example, row, prediction, probability, loss in zip(
                    examples, rows, reading.prediction, reading.probability, reading.loss, strict=True
                )
            ],
        )
        ids = {
            name: number
            for number, name in a.rows("select site_id, name from sites where network_id = $1", [network_id])
        }
        for site in codes:
            packed = reading.codes[site.name]
            a.insert(
                "codes",
                pa.table(
                    {
                        "site_id": np.full(len(examples), ids[site.name]),
                        "example_id": examples,
                        "code": [row.tobytes() for row in packed],
                        "n_active": np.bitwise_count(packed).sum(axis=1),
                    }
                ),
            )
        for site in stored:
            a.insert(
                "activations",
                pa.table(
                    {
                        "site_id": np.full(len(examples), ids[site.name]),
                        "example_id": examples,
                        "part": np.zeros(len(examples), np.int64),
                        "activation": list(reading.activations[site.name]),
                    }
                ),
            )
        dataset_id = a.value("select dataset_id from datasets where name = $1", [dataset])
        _insert(
            a,
            "runs",
            [
                {
                    "run_id": run_id,
                    "name": f"run{run_id}",
                    "network_id": network_id,
                    "dataset_id": dataset_id,
                    "plan": "{}",
                    "plan_digest": "",
                    "n_examples": len(rows),
                    "n_bad": 0,
                }
            ],
        )
        digests.seal(a, run_id=run_id)
    refresh(a)


def _add_network(a: Atlas, network) -> int:
    info = network.info
    known = a.value("select network_id from networks where name = $1", [info.name])
    if known is not None:
        return known
    number = _next_id(a, "networks", "network_id")
    _insert(
        a,
        "networks",
        [
            {
                "network_id": number,
                "name": info.name,
                "architecture": info.architecture,
                "kind": info.kind,
                "source": info.source,
                "weights": info.weights,
                "weights_digest": info.weights_digest,
                "reading": json.dumps(info.reading),
            }
        ],
    )
    first = _next_id(a, "sites", "site_id")
    _insert(
        a,
        "sites",
        [
            {
                "site_id": first + i,
                "network_id": number,
                "name": site.name,
                "ordinal": site.ordinal,
                "scope": site.scope,
                "n_units": site.n_units,
                "n_gates": site.n_gates,
                "nonlinearity": site.nonlinearity,
                "exact": site.exact,
                "unit_shape": list(site.unit_shape),
                "layout": json.dumps([asdict(gates) for gates in site.layout]),
            }
            for i, site in enumerate(network.sites)
        ],
    )
    return number


def _add_inputs(a: Atlas, dataset: str, inputs: list[dict], run_id: int) -> dict[str, int]:
    """Input id by content hash; content that is known already is not stored again."""
    known = dict(a.rows("select content_hash, input_id from inputs"))
    new, number = [], _next_id(a, "inputs", "input_id")
    for row in inputs:
        if row["content_hash"] not in known:
            known[row["content_hash"]] = number
            new.append({name: row[name] for name in ("kind", "content_hash", "text", "thumbnail", "width", "height")})
            new[-1] |= {"input_id": number, "run_id": run_id}
            number += 1
    _insert(a, "inputs", new)
    dataset_id = a.value("select dataset_id from datasets where name = $1", [dataset])
    if dataset_id is None:
        dataset_id = _next_id(a, "datasets", "dataset_id")
        _insert(
            a,
            "datasets",
            [
                {
                    "dataset_id": dataset_id,
                    "name": dataset,
                    "kind": inputs[0]["kind"],
                    "source": "tests",
                    "fingerprint": "",
                    "n_inputs": 0,
                }
            ],
        )
    start = a.value("select count(*) from dataset_inputs where dataset_id = $1", [dataset_id])
    _insert(
        a,
        "dataset_inputs",
        [
            {
                "dataset_id": dataset_id,
                "ordinal": start + i,
                "input_id": known[row["content_hash"]],
                "key": row["key"],
                "label": row["label"],
                "run_id": run_id,
            }
            for i, row in enumerate(inputs)
        ],
    )
    a.execute("update datasets set n_inputs = $2 where dataset_id = $1", [dataset_id, start + len(inputs)])
    return known


def refresh(a: Atlas) -> None:
    """Bring the counts and digests of all sites up to date."""
    with a.transaction():
        for site in a.catalog.sites:
            n_codes, codes_digest = digests.codes_digest(a, site)
            n_activations, activations_digest = digests.activations_digest(a, site)
            a.execute(
                "update sites set n_codes = $2, codes_digest = $3, n_activations = $4, activations_digest = $5 "
                "where site_id = $1",
                [site.site_id, n_codes, codes_digest, n_activations, activations_digest],
            )
        digests.seal(a, "networks", "sites", "datasets")


def add_index(a: Atlas, target: str, network: str) -> None:
    """Build the index of a site or span."""
    found = a.catalog.target(site=target, network=network)
    ids, codes = a.codes(found.sites)
    file = f"{found.network.network_id}.{len(a.rows('from indexes'))}.faiss"
    (a.path / "indexes").mkdir(exist_ok=True)
    HammingIndex.write(a.path / "indexes" / file, [(ids, codes.packed)], codes.parts, found.digest)
    a.execute(
        "insert or replace into indexes values ($1, $2, 'flat', $3, $4, $5, null, null, null)",
        [found.network.network_id, found.name, file, len(ids), found.digest],
    )
    digests.seal(a, "indexes")


def add_indexes(a: Atlas) -> None:
    """Build the index of every site with codes and of every named span."""
    for site in a.catalog.sites:
        if site.n_codes:
            add_index(a, site.name, site.network)
    for network, span in a.catalog.spans:
        add_index(a, span, network)


def add_span(a: Atlas, span: str, network: str) -> None:
    """Name a span, so that it gets an index."""
    with a.transaction():
        number = _next_id(a, "spans", "span_id")
        a.execute("insert into spans values ($1, $2, $3)", [number, a.catalog.network(network).network_id, span])
        digests.seal(a, "spans")


def add_clustering(
    a: Atlas, target: str, network: str, *, space: str = "codes", metric: str = "hamming", min_cluster_size: int = 5
) -> int:
    """Cluster and store; returns the clustering's id."""
    found = a.catalog.target(site=target, network=network)
    if space == "codes":
        ids, points = a.codes(found.sites)
        hierarchy = cluster_codes(points, metric=metric, min_cluster_size=min_cluster_size)
        digest = found.digest
    else:
        ids, points = a.activations(found.sites[0])
        hierarchy = cluster_activations(points, min_cluster_size=min_cluster_size)
        digest = found.sites[0].activations_digest
    labels = dict(a.rows("select example_id, label from examples"))
    number = _next_id(a, "clusterings", "clustering_id")
    rows = []
    for cluster, medoid in enumerate(medoids(points, hierarchy.labels, metric=hierarchy.metric)):
        inside = [labels[example] for example in ids[hierarchy.labels == cluster] if labels[example] is not None]
        top = min(set(inside), key=lambda label: (-inside.count(label), label)) if inside else None
        rows.append(
            {
                "clustering_id": number,
                "label": cluster,
                "size": int((hierarchy.labels == cluster).sum()),
                "medoid": int(ids[medoid]),
                "persistence": float(hierarchy.persistence[cluster]),
                "purity": inside.count(top) / len(inside) if inside else None,
                "top_label": top,
                "entropy": None,
                "node": int(hierarchy.nodes[cluster]),
            }
        )
    _insert(
        a,
        "clusterings",
        [
            {
                "clustering_id": number,
                "network_id": found.network.network_id,
                "target": found.name,
                "space": space,
                "metric": hierarchy.metric,
                "min_cluster_size": hierarchy.min_cluster_size,
                "min_samples": hierarchy.min_samples,
                "selection": hierarchy.selection,
                "ties": hierarchy.ties,
                "algorithm": "HDBSCAN",
                "exact": True,
                "proven": 1.0,
                "n_examples": len(ids),
                "n_clusters": len(rows),
                "n_noise": int((hierarchy.labels < 0).sum()),
                "purity": None,
                "data_digest": digest,
            }
        ],
    )
    _insert(a, "clusters", rows)
    a.insert(
        "cluster_labels",
        pa.table(
            {
                "clustering_id": np.full(len(ids), number),
                "example_id": ids,
                "label": hierarchy.labels,
                "probability": hierarchy.probabilities,
                "core_distance": hierarchy.core_distances,
                "prediction_core_distance": hierarchy.prediction_cores,
            }
        ),
    )
    tree = hierarchy.tree
    a.insert(
        "condensed_trees",
        pa.table(
            {
                "clustering_id": np.full(len(tree.parent), number),
                "parent": tree.parent,
                "child": tree.child,
                "lambda_value": tree.lambda_value,
                "child_size": tree.child_size,
            }
        ),
    )
    digests.seal(a, clustering_id=number)
    return number


def build(path: Path) -> Path:
    """An atlas of all three networks, with indexes and clusterings: 360 tokens, 11 points, 12 images."""
    with atlas.create(path) as a:
        points = [
            (f"{point}.txt", "even" if i % 2 == 0 else "odd", point)
            for i, point in enumerate(REGIONS)
            if point != "nan:1"
        ]
        add_texts(a, plane_network(), points, dataset="points")
        add_texts(a, word_network(), word_texts())
        add_images(a, PixelNetwork(), pixel_images())
        add_span(a, "blocks.0.mlp->", "words")
        add_indexes(a)
        add_clustering(a, "blocks.1.mlp", "words", space="activations")
        add_clustering(a, "blocks.3.mlp", "words")
        add_clustering(a, "blocks.3.mlp", "words", metric="euclidean")
        add_clustering(a, "blocks.3.mlp", "words", space="activations")
        add_clustering(a, "blocks.1.mlp->", "words")
        add_clustering(a, "conv1:full", "pixels", min_cluster_size=2)
    return path


def _next_id(a: Atlas, table: str, column: str) -> int:
    return 1 + a.value(f'select coalesce(max("{column}"), 0) from "{table}"')


def _insert(a: Atlas, table: str, rows: list[dict]) -> None:
    if rows:
        a.insert(table, pa.Table.from_pylist(rows))
