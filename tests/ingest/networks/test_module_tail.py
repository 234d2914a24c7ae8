"""Modules run on from a site: against their own forward pass, with the site's tensor put in by a hook."""

from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import ingest
from atlas.codes import SplineCodes
from atlas.errors import UnsupportedNetwork, UsageError
from atlas.network import INPUT, ImageView, Site, VectorView
from atlas.tails import GateSettings, PiecewiseLinearTail, SettableTail
from ingest.networks.module_tail import cut_in_words
from query.experiments.maps import affine_map
from query.polytope.boundaries import described, nearest_boundaries
from query.polytope.crossings import exact_crossings, sampled_crossings
from query.polytope.margins import margins_at

SIZE = 16
NEAR = 1e-6
"""How far from a point, relative to each unit, another is that lies in the same polytope."""


class Small(nn.Module):
    """Convolution, pooling before the ReLU, a concatenation, pooling after it, a functional pool: LeNet's order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(5, 4, 1)
        self.pool, self.fc, self.out = nn.MaxPool2d(2), nn.Linear(8 * 3 * 4, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.pool(self.conv1(x)).relu_()
        x = torch.cat([self.conv2(x), self.conv3(x)], dim=1)
        x = nn.functional.max_pool2d(nn.functional.relu(x), (3, 2), stride=(2, 2), padding=(1, 0), ceil_mode=True)
        return self.out(nn.functional.relu6(self.fc(x[:, :, :3, :4].flatten(1))))


class UNet(nn.Module):
    """Down, up and a skip between them that is concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.last = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        first = self.down(x)
        up = nn.functional.relu_(self.up(self.deep(first)))
        return self.head(self.last(torch.cat([first, up], dim=1)))[:, 0, ::8, ::8].flatten(1)


def small_vgg():
    features = torchvision.models.vgg.make_layers([6, "M", 8, "M"], batch_norm=True)
    model = torchvision.models.VGG(features, num_classes=3)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(nn.Linear(32, 10), nn.ReLU(True), nn.Dropout(), nn.Linear(10, 3))
    return model


def small_resnet():
    model = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)
    model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 3)
    return model


MODELS = {
    "resnet": small_resnet,
    "vgg": small_vgg,
    "densenet": partial(torchvision.models.DenseNet, 4, (2, 1), 8, num_classes=3),
    "small": Small,
    "unet": UNet,
    "shufflenet": partial(torchvision.models.ShuffleNetV2, [2, 2, 2], [8, 8, 8, 16, 16], 3),
}


@pytest.fixture(scope="module")
def networks():
    """The models with lively batch norms, as networks, each made when it is first asked for."""
    made = {}

    def network(name):
        if name not in made:
            torch.manual_seed(1)
            model = MODELS[name]().train()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.normal_(module.weight, mean=1, std=0.2)
                    nn.init.normal_(module.bias, std=0.3)
                    module.momentum = None
            with torch.no_grad():
                model(torch.randn(32, 3, SIZE, SIZE))
            made[name] = ingest.network(model.eval(), image_size=SIZE)
        return made[name]

    return network


def views(n=2):
    pixels = np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    return [ImageView(Image.fromarray(image)) for image in pixels]


def whole_sites(network):
    return [site for site in network.sites if site.scope == "full"] or list(network.sites)


def site_of(network, name):
    return next(site for site in whole_sites(network) if site.name.removesuffix(":full") == name)


def forward_from(network, site, points, work):
    """What the module itself makes of points in the place of a block's output, one at a time."""
    model, block = network.model.double(), network.block(site)
    found = []
    try:
        for point in points:
            shaped = point.reshape(1, *site.unit_shape)
            handle = model.get_submodule(block.module).register_forward_hook(lambda *_, put=shaped: put)
            with torch.no_grad():
                found.append(model(network.prepare([work]).double()))
            handle.remove()
    finally:
        model.float()
    return torch.cat(found)


@pytest.mark.parametrize("name", MODELS)
def test_codes_and_logits_of_the_whole(networks, name):
    """Run on from each site, a network gives the codes and the outputs of its whole forward pass."""
    network, batch = networks(name), views()
    for site in whole_sites(network):
        tail = network.tail(site, batch[0])
        assert isinstance(tail, PiecewiseLinearTail) and isinstance(tail, SettableTail) and tail.exact
        reading = network.read(batch[:1], tail.later, [site])
        found = tail.read(torch.from_numpy(reading.activations[site.name]), tail.later, switches=True)
        for later in tail.later:
            np.testing.assert_array_equal(found.codes[later.name], reading.codes[later.name])
        share = torch.from_numpy(found.logits).softmax(1).max()
        assert float(share) == pytest.approx(float(reading.probability[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("resnet", "layer1.0"),
        ("resnet", "layer2.0"),
        ("vgg", "features.2"),
        ("vgg", "features.6"),
        ("densenet", "features.relu0"),
        ("densenet", "features.denseblock1"),
        ("unet", "deep"),
    ],
)
def test_affine_map_is_the_forward_pass(networks, name, block):
    """A·y + b, from derivatives at x, is what the module itself computes wherever y lies in x's polytope."""
    network, [work, _] = networks(name), views()
    site = site_of(network, block)
    tail = network.tail(site, work).precise()
    x = network.read([work], [], [site]).activations[site.name][0].astype(float)
    slope, offset = affine_map(tail, x)
    noise = np.random.default_rng(1).standard_normal((4, len(x)))
    points = np.stack([x, *(x * (1 + NEAR * noise))])
    codes = tail.read(torch.from_numpy(points), tail.later, switches=True)
    assert (codes.switches == codes.switches[0]).all()
    assert all((code == code[0]).all() for code in codes.codes.values())
    expected = forward_from(network, site, torch.from_numpy(points), work).numpy()
    np.testing.assert_allclose(points @ slope.T + offset, expected, rtol=1e-9, atol=1e-11)
    away = (points - x) @ slope.T
    np.testing.assert_allclose(away, expected - expected[0], rtol=1e-4, atol=1e-4 * np.abs(away).max())


@pytest.mark.parametrize(
    ("name", "block"), [("resnet", "layer1.0"), ("vgg", "features.2"), ("small", "pool"), ("unet", "deep")]
)
def test_exact_crossings_are_all_there_are(networks, name, block):
    """Exact crossings along a segment are those of fine sampling, and between two of them the network is affine."""
    network, batch = networks(name), views()
    site = site_of(network, block)
    start, end = network.read(batch, [], [site]).activations[site.name]
    end = start + (end - start) * np.float32(0.2)
    tail = network.tail(site, batch[0]).precise()
    found = exact_crossings(tail, start, end, tail.later)
    sampled = sampled_crossings(tail, start, end, tail.later, np.array([0.0, 1.0]), tolerance=0.0, most_points=3000)
    assert 10 < sampled.totals[-1] <= len(found.at) <= sampled.totals[-1] * 1.01
    edges = np.unique(np.concatenate([[0, 1], found.at, found.switches]))
    wide = np.argsort(np.diff(edges))[-10:]
    for low, high in zip(edges[wide], edges[wide + 1], strict=True):
        t = np.array([low, (low + high) / 2, high])
        first, middle, last = tail.logits(torch.from_numpy(start + t[:, None] * (end - start))).detach()
        torch.testing.assert_close(middle, (first + last) / 2, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("name", "block"), [("resnet", "layer1.0"), ("small", "pool"), ("shufflenet", "stage4.0")])
def test_nearest_boundaries_are_verified(networks, name, block):
    """The nearest boundaries of a polytope are met where they are said to be: the forward pass confirms each."""
    network, [work, _] = networks(name), views()
    site = site_of(network, block)
    x = network.read([work], [], [site]).activations[site.name][0]
    tail = network.tail(site, work)
    margins = margins_at(tail, tail.later, x)
    table = described(margins, nearest_boundaries(margins, 4))
    assert margins.exact and table["facet"].any() and (np.diff(table["distance"]) >= 0).all()
    assert table["verified"][table["facet"]].all()


def test_a_skip_is_held_for_one_input(networks):
    """Where a skip flows past a site, an input is needed, and what flows past is held as it is for it."""
    network, batch = networks("unet"), views()
    deep, last = site_of(network, "deep"), site_of(network, "last")
    assert (
        cut_in_words(network, deep) == "yes, cat in the network itself held" and cut_in_words(network, last) == "yes"
    )
    with pytest.raises(UsageError, match=r"also reads what was computed before it \(cat in the network itself\)"):
        network.tail(deep)
    x = torch.from_numpy(network.read(batch[:1], [], [deep]).activations[deep.name])
    mine, other = (network.tail(deep, view) for view in batch)
    assert not np.allclose(mine.read(x, []).logits, other.read(x, []).logits, rtol=1e-3)
    assert "cat in the network itself) is held as it is for one input" in mine.remark
    with pytest.raises(UsageError, match="start at deep:full"):
        network.tail(next(site for site in network.sites if site.name == "deep"))


def perceptron(*activations):
    torch.manual_seed(2)
    layers = [nn.Linear(3, 9)]
    for activation in activations:
        layers += [activation, nn.Linear(9, 9)]
    return ingest.network(nn.Sequential(*layers[:-1], nn.Linear(9, 2)).eval(), inputs="vector")


def inputs_of(network):
    return Site(INPUT, -1, network.n_inputs, 0, "none", True, whole_sites(network)[0].scope)


@pytest.mark.parametrize(
    "activation", [nn.ReLU6(), nn.Hardtanh(-0.5, 0.25), nn.LeakyReLU(0.1), nn.PReLU(9), nn.Softshrink(0.3)]
)
def test_every_threshold_is_crossed_exactly(activation):
    """From the inputs on, each threshold of a piecewise linear unit is a boundary that exact crossings find."""
    network = perceptron(nn.ReLU(), activation)
    tail = network.tail(inputs_of(network)).precise()
    start, end = np.array([-19.0, 4, 2]), np.array([18.0, 5, -19])
    found = exact_crossings(tail, start, end, network.sites)
    t = np.linspace(0, 1, 20_001)[:, None]
    points = [VectorView(row) for row in ((1 - t) * start + t * end).astype(np.float32)]
    reading = network.read(points, network.sites, [])
    codes = [SplineCodes(reading.codes[s.name], (s.n_gates,)).unpack() for s in network.sites]
    assert len(found.at) == int((np.diff(np.concatenate(codes, axis=1).astype(int), axis=0) != 0).sum()) > 5


def test_set_gates_are_moved_preactivations():
    """Setting gates is moving preactivations in a plain pass; units of several gates are refused."""
    network = perceptron(nn.ReLU(), nn.LeakyReLU(0.1), nn.ReLU6())
    first, second, third = network.sites
    point = VectorView(np.array([0.5, -1.0, 2.0], np.float32))
    x = torch.from_numpy(network.read([point], [], [first]).activations[first.name])
    wanted = np.array([[1, -1, 0] * 3], np.int8)
    found = network.tail(first).read_set(x, [second, third], GateSettings(second, wanted, 0.01))

    def moved(_module, _inputs, z):
        wrong = (torch.from_numpy(wanted) != 0) & ((z > 0) != torch.from_numpy(wanted > 0))
        return torch.where(wrong, 0.01 * torch.from_numpy(wanted), z)

    handle = network.model[2].register_forward_hook(moved)
    with torch.no_grad():
        expected = network.model(torch.from_numpy(point.numbers[None]))
    handle.remove()
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5)
    bits = SplineCodes(found.codes[second.name], (9,)).unpack()
    assert bits[wanted > 0].all() and not bits[wanted < 0].any()
    with pytest.raises(UsageError, match=r"gates of 5 \(relu6\) can't be set: a unit has several"):
        network.tail(first).read_set(x, [], GateSettings(third, np.zeros((1, 18), np.int8), 0.01))


class Gated(nn.Module):
    """Tokens with attention and a gated MLP past which a skip flows, and a jump at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(2, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GLU(), nn.Linear(8, 8))
        self.jump, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attention(self.norm(x), self.norm(x), self.norm(x))[0]
        x = x + self.mlp(self.norm(x))
        z = self.jump(x.mean(1))
        return self.out(z * (z > 0.1)).softmax(1)


def test_smooth_tail_says_what_breaks_it():
    """A smooth network runs on with its gradients, says what breaks it, and is followed where it is exact."""
    torch.manual_seed(0)
    network = ingest.network(Gated().eval(), inputs="vector", shape=(5, 2))
    mlp, jump = whole_sites(network)
    point = VectorView(np.random.default_rng(0).standard_normal(10).astype(np.float32))
    for site in (inputs_of(network), mlp, jump):
        tail = network.tail(site, point)
        x = point.numbers if site.name == INPUT else network.read([point], [], [site]).activations[site.name][0]
        reading = network.read([point], tail.later, [])
        found = tail.read(torch.from_numpy(x[None]), tail.later, switches=True)
        assert all((found.codes[later.name] == reading.codes[later.name]).all() for later in tail.later)
        assert float(torch.from_numpy(found.logits).softmax(1).max()) == pytest.approx(
            reading.probability[0], rel=1e-5
        )
        assert not isinstance(tail, PiecewiseLinearTail) or site is jump
        point_64 = torch.from_numpy(x[None]).requires_grad_()
        tail.logits(point_64)[0, 0].backward()
        assert point_64.grad.abs().sum() > 0
    start = network.tail(inputs_of(network))
    assert not start.exact and "not piecewise linear (layer norm in norm)" in start.remark
    after = network.tail(mlp, point)
    assert after.exact and "boundaries are found by sampling" in after.remark


class Windows(nn.Module):
    """Halves of an input side by side along the axis of inputs, or those of all inputs between each other."""

    def __init__(self, between: bool = False) -> None:
        super().__init__()
        self.between, self.mlp = between, nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
        self.last, self.out = nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x):
        halves = x.reshape(-1, 2, 4)
        halves = (halves.transpose(0, 1) if self.between else halves).reshape(-1, 4)
        halves = halves + self.mlp(halves)
        halves = halves.reshape(2, -1, 4).transpose(0, 1) if self.between else halves
        return self.out(self.last(halves.reshape(-1, 8)).relu())


def test_parts_that_share_the_inputs_axis():
    """Windows of an input that lie side by side along the axis of inputs are its places; between each other they are
    refused. A skip of such windows is held for the input that it is of."""
    torch.manual_seed(0)
    network = ingest.network(Windows().eval(), inputs="vector", shape=(8,))
    mlp, last = whole_sites(network)
    assert (mlp.name, mlp.n_gates, mlp.unit_shape, last.n_gates) == ("mlp:full", 12, (4, 1, 2), 5)
    points = [VectorView(row) for row in np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)]
    reading = network.read(points, [mlp, last], [mlp])
    halves = torch.from_numpy(np.stack([point.numbers for point in points])).reshape(3, 2, 4)
    z = network.model.mlp[0](halves).movedim(2, 1).flatten(1)
    assert (SplineCodes(reading.codes[mlp.name], (12,)).unpack() == (z > 0).numpy()).all()
    tail = network.tail(mlp, points[1])
    found = tail.read(torch.from_numpy(reading.activations[mlp.name][[0, 1]]), [last])
    np.testing.assert_array_equal(found.codes[last.name][1], reading.codes[last.name][1])
    with torch.no_grad():
        moved = halves[1] + network.model.mlp(halves[0])
        expected = network.model.out(network.model.last(moved.reshape(1, 8)).relu())
    np.testing.assert_allclose(found.logits[:1], expected, rtol=1e-5)
    with pytest.raises(UnsupportedNetwork, match="puts parts of several inputs between each other along one axis"):
        ingest.network(Windows(between=True).eval(), inputs="vector", shape=(8,))
