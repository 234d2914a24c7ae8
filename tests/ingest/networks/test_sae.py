"""Sparse autoencoders over a site: features against the formulas written out, and what an atlas holds of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import atlas
import ingest
import query
from atlas.errors import UnknownName, UnsupportedNetwork, UsageError, WeightsError
from atlas.network import TextNetwork, TokenWindow
from ingest.networks import load_network, reload_network
from tests.atlases import add_texts
from tests.networks import shipped, word_network, word_texts

SITE, UNITS, FEATURES = "blocks.1.mlp", 20, 37


def saved(folder: Path, units: int = UNITS, drop: str = "", **config: Any) -> Path:
    """A small autoencoder in SAELens's files."""
    rng = np.random.default_rng(0)
    state = {
        "W_enc": rng.standard_normal((units, FEATURES)),
        "b_enc": 0.3 * rng.standard_normal(FEATURES),
        "W_dec": rng.standard_normal((FEATURES, units)),
        "b_dec": 0.1 * rng.standard_normal(units),
        "threshold": rng.random(FEATURES),
    }
    if config.get("architecture") != "jumprelu" and not config.pop("stray", False):
        del state["threshold"]
    folder.mkdir(exist_ok=True)
    tensors = {name: torch.from_numpy(array).float() for name, array in state.items() if name != drop}
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": units, "d_sae": FEATURES} | config))
    return folder


def features(folder: Path, x: np.ndarray, **config: Any) -> np.ndarray:
    """What the formulas give, in double precision."""
    from safetensors.numpy import load_file

    state = {name: array.astype(np.float64) for name, array in load_file(folder / "sae_weights.safetensors").items()}
    z = (x - state["b_dec"] * config.get("apply_b_dec_to_input", True)) @ state["W_enc"] + state["b_enc"]
    if config.get("architecture") == "jumprelu":
        return np.where((z > 0) & (z > state["threshold"]), z, 0)
    if config.get("k"):
        scale = np.linalg.norm(state["W_dec"], axis=1) if config.get("rescale_acts_by_decoder_norm") else 1
        last = np.sort(z * scale, axis=1)[:, -config["k"]][:, None]
        return np.where((z * scale >= last) & (z > 0), z * scale, 0)
    return np.maximum(z, 0)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architecture": "standard", "apply_b_dec_to_input": False},
        {"architecture": "jumprelu"},
        {"architecture": "topk", "k": 5},
        {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True},
    ],
)
def test_features_are_those_of_the_formulas(tmp_path: Path, config: dict[str, Any]):
    reader = word_network()
    network = ingest.sparse_autoencoder(saved(tmp_path / "sae", **config), reader, site=SITE)
    batch = [TokenWindow(np.arange(5, dtype=np.int64), np.arange(5, dtype=np.int64))]
    read = network.read(batch, network.sites, network.sites)
    [site] = [site for site in reader.sites if site.name == SITE]
    own = reader.read(batch, [site], [site])
    expected = features(tmp_path / "sae", own.activations[SITE], **config)
    assert np.allclose(read.activations["features"], expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(np.unpackbits(read.codes["features"], axis=1, count=FEATURES), expected > 0)
    assert np.array_equal(read.codes[SITE], own.codes[SITE]) and read.prediction == own.prediction
    assert 0 < (expected > 0).mean() < (0.2 if "k" in config else 0.8)


def test_old_files_of_topk_are_read(tmp_path: Path):
    """SAELens wrote k among the arguments of an activation function once."""
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}
    network = ingest.sparse_autoencoder(saved(tmp_path / "sae", **old), word_network(), site=SITE)
    assert (network.encoder.architecture, network.encoder.k) == ("topk", 4)


def test_features_lie_beside_their_layer(tmp_path: Path):
    """Of the same examples, so that they are asked about together: by shared features, by density, in SQL."""
    network = ingest.sparse_autoencoder(saved(tmp_path / "sae"), word_network(), site=SITE, name="features")
    add_texts(tmp_path / "x.atlas", network, word_texts(20))
    add_texts(tmp_path / "x.atlas", word_network(), word_texts(20), sites=(SITE,))
    with atlas.open(tmp_path / "x.atlas") as a:
        assert query.verify(a)["ok"].all()
        target = a.catalog.target(site="features")
        assert target.exact and target.before is not None and target.before.name == SITE
        ids, codes = a.codes(target.sites)
        x = a.activations(target.before, ids)[1]
        on = codes.unpack()
        assert np.array_equal(on, features(tmp_path / "sae", x) > 0)
        near = query.nearest(a, example=int(ids[0]), site="features", metric="jaccard", k=5)
        assert near["shared"].tolist() == [(on[0] & on[np.searchsorted(ids, i)]).sum() for i in near["example_id"]]
        assert (near["density"] > 0).equals(near["gates"] > 0) and near["density"].max() > 0
        layers = [a.codes(a.catalog.target(site=SITE, network=name).sites)[1] for name in ("features", "words")]
        assert np.array_equal(layers[0].packed, layers[1].packed)


def test_an_autoencoder_is_loaded_again(tmp_path: Path):
    """With the network that it reads, and the text read live has the code of the stored one."""
    gpt2 = shipped("demo:gpt2")
    [site] = [site for site in gpt2.sites if site.name == "blocks.0.mlp"]
    folder = saved(tmp_path / "sae", units=site.n_units)
    network = load_network(f"sae:{folder}", of="demo:gpt2", site=site.name, device="cpu")
    assert isinstance(network, TextNetwork) and network.info.name == "demo-gpt2-sae"
    again = reload_network(network.info, device="cpu")
    assert again.info == network.info
    saved(folder, units=site.n_units, drop="W_dec")
    with pytest.raises(WeightsError, match="now gives other ones"):
        reload_network(network.info, device="cpu")


def test_other_autoencoders_are_refused(tmp_path: Path):
    reader = word_network()
    for config, error, said in (
        ({"architecture": "gated"}, UnsupportedNetwork, "of architecture 'gated'"),
        ({"normalize_activations": "layer_norm"}, UnsupportedNetwork, "normalised by 'layer_norm'"),
        (
            {"stray": True},
            UnsupportedNetwork,
            "hold a threshold, and .* says architecture 'standard', which has none",
        ),
        ({"architecture": "topk", "k": 99}, WeightsError, "says k = 99 of 37 features"),
        ({"drop": "b_enc"}, WeightsError, "hold no b_enc"),
        ({"architecture": "jumprelu", "drop": "threshold"}, WeightsError, "hold no threshold"),
        ({"units": 9}, WeightsError, "reads 9 numbers, and an activation at blocks.1.mlp of words has 20"),
    ):
        with pytest.raises(error, match=said):
            ingest.sparse_autoencoder(saved(tmp_path / "sae", **config), reader, site=SITE)
    folder = saved(tmp_path / "sae")
    with pytest.raises(UnknownName, match="no site 'conv1' in network words"):
        ingest.sparse_autoencoder(folder, reader, site="conv1")
    with pytest.raises(UsageError, match="say of which network and site"):
        load_network(f"sae:{folder}")
    with pytest.raises(UsageError, match="no untrained control"):
        load_network(f"sae:{folder}", of="demo:gpt2", site=SITE, weights="random:0")
    (folder / "cfg.json").unlink()
    with pytest.raises(WeightsError, match=r"cfg.json can't be read"):
        ingest.sparse_autoencoder(folder, reader, site=SITE)


def test_code_that_an_atlas_names_stays_off(tmp_path: Path):
    """Neither is it run through the network that an autoencoder reads."""
    network = ingest.sparse_autoencoder(saved(tmp_path / "sae"), word_network(), site=SITE)
    network.info.reading["of"] = "somebody.elses:function"
    with pytest.raises(UsageError, match="code that the atlas names and you have not"):
        reload_network(network.info)
