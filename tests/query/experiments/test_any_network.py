"""Questions to modules of torch: a ResNet in small against its own parts, run by hand; an autoencoder."""

import numpy as np
import pytest
import torch
from torch import nn

import atlas as store
import ingest
import query
from ingest.derived.clusters import cluster
from query.experiments.registry import run
from tests.atlases import add_images
from tests.ingest.networks.test_module_tail import SIZE, small_resnet
from tests.query.experiments.tailed import digits

SITE = "layer2.0"


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """An atlas of digits read by a ResNet of two blocks; cluster 0 of the second by hand: where a gate is on."""
    torch.manual_seed(0)
    model = small_resnet().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)  # without offsets, scaling would cross nothing
    network = ingest.network(model, name="residual", image_size=SIZE)
    path = tmp_path_factory.mktemp("residual") / "r.atlas"
    add_images(path, network, digits(40))
    number = cluster(path, site=f"{SITE}:full", min_cluster_size=3)
    with store.open(path, writable=True) as a:
        ids, codes = a.codes(a.catalog.target(site=f"{SITE}:full").sites)
        bits = codes.unpack()
        a.execute(
            "update cluster_labels set label = cast(not list_contains($2::uinteger[], example_id) as integer) "
            "where clustering_id = $1",
            [number, ids[bits[:, np.abs(bits.mean(axis=0) - 0.5).argmin()]].tolist()],
        )
    return path, network, model


def before(a, example):
    """What the second block reads: the stored activation of the first."""
    [site] = a.catalog.target(site="layer1.0:full").sites
    return torch.from_numpy(a.activations(site, [example])[1]).reshape(-1, *site.unit_shape)


def by_hand(model, x, wanted=None, epsilon=0.01):
    """Probabilities, and the bits of the second block, with preactivations moved to where gates are wanted."""
    block = model.layer2[0]

    def moved(z, aims):
        wrong = (aims != 0) & ((z > 0) != (aims > 0))
        return torch.where(wrong, epsilon * aims, z)

    with torch.no_grad():
        z1 = block.bn1(block.conv1(x))
        half = z1[0].numel()
        aims = torch.zeros(2 * half) if wanted is None else wanted
        z1 = moved(z1, aims[:half].reshape(z1[:1].shape))
        z2 = block.bn2(block.conv2(z1.relu())) + block.downsample(x)
        z2 = moved(z2, aims[half:].reshape(z2[:1].shape))
        logits = model.fc(model.avgpool(z2.relu()).flatten(1))
        return logits.softmax(1).numpy(), torch.cat([z1.flatten(1), z2.flatten(1)], dim=1).numpy() > 0


def test_gates_of_a_residual_block_are_set(residual):
    """What comes out after a cluster's gates are set is what the block's own parts make of moved preactivations."""
    path, network, model = residual
    with store.open(path) as a:
        found = run(a, "intervene", reader=network, site=SITE, cluster=0, examples=3, gates=8, n_random=3)
        x = before(a, found.parameters["shown"])
        [site] = a.catalog.target(site=f"{SITE}:full").sites
        _, codes = a.codes([site], [found.parameters["shown"]])
    gates = found.tables["gates"].query("set")
    wanted = np.zeros(site.n_gates, np.float32)
    wanted[gates["gate"]] = np.where(gates["on"], 1, -1)
    plain, bits = by_hand(model, x)
    assert (bits == codes.unpack()).all()
    changed, _ = by_hand(model, x, torch.from_numpy(wanted))
    outputs = found.tables["outputs"]
    places = [network.classes.index(name) for name in outputs["output"]]
    np.testing.assert_allclose(outputs["before"], plain[0, places], rtol=1e-4)
    np.testing.assert_allclose(outputs["after"], changed[0, places], rtol=1e-4)
    assert (found.tables["examples"]["flipped"] > 0).all() and (changed != plain).any()


def test_a_residual_block_is_scaled(residual):
    """Classes and crossings of a scaled activation are those of the block's own parts at many factors."""
    path, network, model = residual
    alphas = [0.25, 0.5, 1.0, 2.0]
    with store.open(path) as a:
        found = run(a, "scale", reader=network, span="layer1.0->:full", example=5, alphas=alphas)
        x = before(a, 5)
    classes = found.tables["classes"].query("kind == 'activation'")
    expected, _ = by_hand(model, torch.cat([alpha * x for alpha in alphas]))
    assert classes["prediction"].tolist() == [network.classes[place] for place in expected.argmax(1)]
    np.testing.assert_allclose(classes["probability"], expected.max(1), rtol=1e-4)
    [row] = found.tables["examples"].query("kind == 'activation'").to_dict("records")
    _, bits = by_hand(model, torch.cat([alpha * x for alpha in np.linspace(0.25, 2, 1000, dtype=np.float32)]))
    sampled = int((bits[1:] != bits[:-1]).sum())
    assert 0 < sampled <= row["crossings"] <= sampled + 4  # what flips back between two factors is not sampled


def test_an_autoencoder_is_asked(tmp_path):
    """A module without classes: its rows are ingested and searched by a new one, as brute force does."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)).eval()
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows[1:])
    network = ingest.network(model, inputs="vector", name="auto")
    data = ingest.open_dataset(str(tmp_path / "rows.npy"), kind="vector")
    ingest.ingest(tmp_path / "x.atlas", network, data, cluster=False)
    [site] = network.sites
    with torch.no_grad():
        bits = (model[0](torch.from_numpy(rows)) > 0).numpy()
    apart = (bits[1:] != bits[0]).sum(axis=1)
    with store.open(tmp_path / "x.atlas") as a:
        near = query.nearest(a, vector=rows[0], site=site.name, reader=network, k=6)
        predicted = a.value("select count(*) from examples where prediction <> '' or not isnan(probability)")
    assert network.classes == () and predicted == 0
    assert near["distance"].tolist() == np.sort(apart)[:6].tolist()
    assert (apart[near["example_id"] - 1] == near["distance"]).all()
