"""Sparse autoencoders over the activations of a site, as SAELens saves them: a feature is a gate (SCIENCE 15).

    z = (x − b_dec) W_enc + b_enc
    standard: on where z > 0;  jumprelu: where z > threshold as well;  topk: where z > 0 is one of the k largest

`x` is the activation of one site of another network, which is run for it. The atlas holds both sites, `x`'s own codes
and the features, of the same examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from atlas.errors import UnknownName, UnsupportedNetwork, UsageError, WeightsError
from atlas.network import GateRange, Network, NetworkInfo, Reading, Site, Tokens

from .loading import read_state_dict, weights_digest
from .registry import LIVE, SAE, LoadRequest, again_of

FEATURES = "features"
WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
ACTIVATIONS = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}
"""The nonlinearity of each architecture that is read."""


@dataclass(frozen=True)
class Options:
    """``of``: the network whose activations are read, as for `load_network`; ``of_weights`` and ``of_reading``: its
    weights and options; ``site``: the site."""

    of: str | None = None
    of_weights: str | None = None
    of_reading: dict[str, Any] | None = None
    site: str | None = None


@dataclass(frozen=True, eq=False)
class Encoder:
    """What makes features of activations: ``architecture`` standard, jumprelu or topk, of the ``k`` largest.

    ``origin``: is taken off before; ``threshold``: 0 unless jumprelu; ``norms``: of the decoder, where they scale z.
    """

    architecture: str
    weight: Float[Tensor, "units features"]
    bias: Float[Tensor, " features"]
    origin: Float[Tensor, " units"]
    threshold: Float[Tensor, " features"]
    norms: Float[Tensor, " features"] | None = None
    k: int = 0

    def __call__(self, x: Float32[np.ndarray, "examples units"]) -> Float[Tensor, "examples features"]:
        """The features' activations: above 0 where they are on."""
        z = (torch.from_numpy(x) - self.origin) @ self.weight + self.bias
        if self.architecture != "topk":
            return z.relu() * (z > self.threshold)
        largest = (z if self.norms is None else z * self.norms).topk(self.k, dim=1)
        return torch.zeros_like(z).scatter_(1, largest.indices, largest.values.relu())


class SparseAutoencoder:
    """A network of two sites, the one that is read and ``features``, over any other. Made by
    `ingest.sparse_autoencoder` and `ingest.load_network`."""

    def __init__(self, encoder: Encoder, reader: Network, site: Site, info: NetworkInfo) -> None:
        self.encoder, self.reader, self.site, self.info = encoder, reader, site, info
        self.device = getattr(reader, "device", "cpu")
        units, features = encoder.weight.shape
        if site.n_units != units:
            raise WeightsError(
                f"{info.source} reads {units} numbers, and an activation at {site.name} of {reader.info.name} has "
                f"{site.n_units}: it was trained at another site"
            )
        layout = (GateRange(FEATURES, 0, features),)
        nonlinearity = ACTIVATIONS[encoder.architecture]
        self.sites = (
            replace(site, ordinal=0, bypassed_by=""),
            Site(FEATURES, 1, features, features, nonlinearity, True, site.scope, (features,), layout),
        )

    def read(self, batch: Sequence[Any], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """Run the network, then the encoder on what it gives at the site."""
        own = [site for site in codes if site.name == self.site.name]
        read = self.reader.read(batch, [self.site] if own else [], [self.site])
        x, finite = read.activations[self.site.name], read.finite[self.site.name]
        with torch.inference_mode():
            features = self.encoder(np.nan_to_num(x)).numpy()
        packed = read.codes | {FEATURES: np.packbits(features > 0, axis=1)}
        held = {self.site.name: x, FEATURES: features}
        return replace(
            read,
            codes={site.name: packed[site.name] for site in codes},
            activations={site.name: held[site.name] for site in activations},
            finite={site.name: finite & np.isfinite(features).all(axis=1) for site in (*codes, *activations)},
        )

    def elsewhere(self) -> Callable[..., SparseAutoencoder]:
        """The autoencoder and its network."""
        return partial(_again, type(self), self.encoder, again_of(self.reader), self.site, self.info)


def _again(
    kind: type[SparseAutoencoder],
    encoder: Encoder,
    reader: Callable[..., Network],
    site: Site,
    info: NetworkInfo,
    *,
    device: str,
) -> SparseAutoencoder:
    return kind(encoder, reader(device=device), site, info)


class _OfTexts(SparseAutoencoder):
    def tokenize(self, text: str) -> Tokens:
        return self.reader.tokenize(text)  # type: ignore[attr-defined]

    def windows(self, n_tokens: int) -> list[range]:
        return self.reader.windows(n_tokens)  # type: ignore[attr-defined]

    def token_text(self, token: int) -> str:
        return self.reader.token_text(token)  # type: ignore[attr-defined]


class _OfImages(SparseAutoencoder):
    @property
    def classes(self) -> tuple[str, ...]:
        return self.reader.classes  # type: ignore[attr-defined]


class _OfVectors(SparseAutoencoder):
    @property
    def n_inputs(self) -> int:
        return self.reader.n_inputs  # type: ignore[attr-defined]


_KINDS = {"text": _OfTexts, "image": _OfImages, "vector": _OfVectors}


def sparse_autoencoder(path: str | Path, reader: Network, *, site: str, name: str | None = None) -> SparseAutoencoder:
    """A sparse autoencoder over the activations of a site, to ingest and to ask with: its features are gates.

    Args:
        path: SAELens's folder, with ``cfg.json`` and ``sae_weights.safetensors``, or the latter file.
            Architectures: standard (ReLU), jumprelu, topk.
        reader: the network that it was trained on, which is run for its activations.
        site: where; activations of a position, or of a token.
        name: what the atlas calls it; by default network and folder.

    Returns:
        The network: its sites are ``site``, and ``features``.

    Raises:
        WeightsError: files that can't be read or don't fit each other, or activations of another width.
        UnsupportedNetwork: another architecture, or activations that are normalised.
        UnknownName: the network has no such site.
    """
    of = {"of": reader.info.source, "of_weights": reader.info.weights, "of_reading": reader.info.reading}
    return _make(Path(path).expanduser(), f"{SAE}{path}", reader, site, name, of)


def load(request: LoadRequest, options: Options) -> SparseAutoencoder:
    """The autoencoder that ``sae:PATH`` names, over the network that the options name, which is loaded too."""
    from . import load_network, recorded_options

    if options.of is None or options.site is None:
        raise UsageError(
            f"{request.source} reads activations: say of which network and site (--of NETWORK --of-site SITE)"
        )
    if (request.weights or "").startswith("random"):
        raise UsageError(
            f"{request.source} has no untrained control; read the features of an untrained network instead"
        )
    if options.of == LIVE:
        raise UsageError(
            f"{request.name} reads a network that was handed over from Python: hand it over as "
            "`reader=ingest.sparse_autoencoder(path, reader, site=…)`"
        )
    known = recorded_options(options.of, options.of_reading or {})
    reader = load_network(options.of, weights=options.of_weights, device=request.device, **known)
    path = Path(request.weights or request.source.removeprefix(SAE)).expanduser()
    of = {"of": options.of, "of_weights": options.of_weights, "of_reading": options.of_reading}
    return _make(path, request.source, reader, options.site, request.name, of)


def _make(
    path: Path, source: str, reader: Network, site: str, name: str | None, of: dict[str, Any]
) -> SparseAutoencoder:
    at = next((known for known in reader.sites if known.name == site), None)
    if at is None:
        raise UnknownName(
            f"no site {site!r} in network {reader.info.name}; it has {', '.join(s.name for s in reader.sites)}"
        )
    folder = path if path.is_dir() else path.parent
    encoder, digest = read_encoder(folder / WEIGHTS if path.is_dir() else path, folder / CONFIG)
    digest = hashlib.sha256(f"{digest}\n{reader.info.weights_digest}".encode()).hexdigest()
    called = name or f"{reader.info.name}-{(folder if path.name == WEIGHTS or path.is_dir() else path).stem}"
    reading = of | {"site": site}
    info = NetworkInfo(called, "sparse autoencoder", reader.info.kind, source, str(path.resolve()), digest, reading)
    return _KINDS[reader.info.kind](encoder, reader, at, info)


def read_encoder(weights: Path, config: Path) -> tuple[Encoder, str]:
    """The encoder in SAELens's files, and the digest of its weights.

    Raises `WeightsError`, `UnsupportedNetwork`.
    """
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{config} can't be read: {error}; SAELens writes it beside the weights") from error
    state, _ = read_state_dict(weights)
    architecture = said.get("architecture", "standard")
    function = said.get("activation_fn", said.get("activation_fn_str", "relu"))
    if architecture == "standard" and function == "topk":  # as SAELens wrote it before it had a class of its own
        architecture = "topk"
    normalised = said.get("normalize_activations", "none")
    if architecture not in ACTIVATIONS or function not in ("relu", "topk") or normalised not in ("none", None):
        raise UnsupportedNetwork(
            f"{config} is of architecture {architecture!r}, activation {function!r}, activations normalised by "
            f"{normalised!r}; read are {', '.join(ACTIVATIONS)} over activations as they are"
        )
    names = ["W_enc", "b_enc", "b_dec", *(["threshold"] if architecture == "jumprelu" else [])]
    if architecture != "jumprelu" and "threshold" in state:
        raise UnsupportedNetwork(
            f"weights {weights} hold a threshold, and {config} says architecture {architecture!r}, which has none: "
            "features would be on that are off; set it to jumprelu if that is what it is"
        )
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(f"weights {weights} hold no {', '.join(missing)}; expected what SAELens saves")
    tensors = {name: tensor.to(torch.float32) for name, tensor in state.items()}
    units, features = tensors["W_enc"].shape
    shapes = {"b_enc": (features,), "threshold": (features,), "b_dec": (units,), "W_dec": (features, units)}
    wrong = [name for name, shape in shapes.items() if name in tensors and tuple(tensors[name].shape) != shape]
    if wrong:
        raise WeightsError(f"weights {weights}: {', '.join(wrong)} don't fit W_enc of {units} x {features}")
    k = said.get("k", (said.get("activation_fn_kwargs") or {}).get("k", 0))
    if architecture == "topk" and not 0 < int(k) <= features:
        raise WeightsError(f"{config} says k = {k!r} of {features} features")
    origin = tensors["b_dec"] if said.get("apply_b_dec_to_input", True) else torch.zeros(units)
    rescaled = said.get("rescale_acts_by_decoder_norm", False) and architecture == "topk"
    norms = tensors["W_dec"].norm(dim=1) if rescaled and "W_dec" in tensors else None
    threshold = tensors["threshold"] if architecture == "jumprelu" else torch.zeros(features)
    encoder = Encoder(architecture, tensors["W_enc"], tensors["b_enc"], origin, threshold, norms, int(k))
    return encoder, weights_digest(state)
