"""Any module of torch: its gates found where they run, against hooks placed by hand and preactivations by NumPy."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import atlas as store
import ingest
import query
from atlas import SplineCodes
from atlas.errors import UnknownName, UnsupportedNetwork, UsageError
from atlas.network import ImageView, VectorView
from ingest.networks.inceptionv1 import InceptionV1


class Twisted(nn.Module):
    """Functional, in-place and reused gates, one of each of the piecewise affine nonlinearities, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3, self.fc4 = (nn.Linear(6, 6) for _ in range(4))
        self.relu, self.prelu, self.last = nn.ReLU(inplace=True), nn.PReLU(6), nn.Linear(6, 3)

    def forward(self, x):
        z = {"fc1": self.fc1(x)}
        x = nn.functional.relu_(z["fc1"].clone())
        z["fc2"] = self.fc2(x)
        x = x + self.relu(z["fc2"].clone())
        z["fc3"] = self.fc3(x)
        x = self.relu(z["fc3"].clone())
        z["fc4"] = self.fc4(x)
        x = nn.functional.leaky_relu(z["fc4"], 0.2) + x
        z["prelu"] = x
        x = self.prelu(x)
        self.seen = z
        return self.last(x)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def vectors(n, width, seed=0):
    return [VectorView(row) for row in np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)]


def bits(network, reading, site):
    return SplineCodes(reading.codes[site.name], (site.n_gates,)).unpack()


def test_functional_and_reused_gates():
    """Gates that are functional, in place, or one module used twice: each a site named for what it reads."""
    model = Twisted().eval()
    network = ingest.network(model, inputs="vector")
    assert [site.name for site in network.sites] == ["fc1", "fc2", "fc3", "fc4", "prelu"]
    assert all(site.exact and site.scope == "position" for site in network.sites)
    assert [site.bypassed_by for site in network.sites] == ["", "add in the network itself"] * 2 + [""]
    batch = vectors(50, 6)
    reading = network.read(batch, network.sites, network.sites)
    for site in network.sites:
        assert (bits(network, reading, site) == (model.seen[site.name] > 0).numpy()).all()
    with torch.no_grad():
        logits = model(torch.from_numpy(np.stack([view.numbers for view in batch])))
    assert reading.prediction == [f"class {number}" for number in logits.argmax(1)]
    np.testing.assert_allclose(reading.probability, logits.softmax(1).amax(1), rtol=1e-6)
    np.testing.assert_array_equal(reading.activations["fc1"], model.seen["fc1"].relu())
    found = network.preactivations(batch, network.sites)
    np.testing.assert_array_equal(found["fc3"], model.seen["fc3"])


@pytest.mark.parametrize(
    ("activation", "thresholds", "exact"),
    [
        (nn.ReLU6(), (0, 6), True),
        (nn.Hardtanh(-0.5, 2.0), (-0.5, 2.0), True),
        (partial(torch.clamp, min=0.25), (0.25,), True),
        (lambda z: torch.maximum(z, torch.zeros(5)), (0,), True),
        (torch.abs, (0,), True),
        (nn.Hardsigmoid(), (-3, 3), True),
        (nn.Hardswish(), (-3, 3), False),
        (nn.Softshrink(0.5), (-0.5, 0.5), True),
        (nn.GELU(), (0,), False),
        (nn.SiLU(), (0,), False),
        (nn.Tanh(), (0,), False),
        (lambda z: z * (z > 0.75), (0.75,), True),
        (lambda z: torch.where(z > 0, z, 0.1 * z), (0,), True),
        (lambda z: torch.sigmoid(z) * z, (0,), False),
    ],
)
def test_a_bit_for_each_threshold(activation, thresholds, exact):
    """Each threshold of a nonlinearity gives a unit one bit; what is affine between thresholds is exact."""
    linear = nn.Linear(4, 5)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.out = linear, nn.Linear(5, 2)

        def forward(self, x):
            return self.out(activation(self.linear(x)))

    network = ingest.network(Model(), inputs="vector")
    [site] = network.sites
    assert (site.n_gates, site.exact, site.name) == (5 * len(thresholds), exact, "linear")
    batch = vectors(64, 4)
    batch = [VectorView(20 * view.numbers) for view in batch]
    z = linear(torch.from_numpy(np.stack([view.numbers for view in batch])))
    expected = torch.cat([z > threshold for threshold in thresholds], dim=1)
    reading = network.read(batch, [site], [site])
    assert (bits(network, reading, site) == expected.numpy()).all()
    assert expected.any(0).all() and not expected.all()
    np.testing.assert_array_equal(reading.activations[site.name], activation(z).detach())


ACTIVATIONS = nn.ReLU6 | nn.Hardswish | nn.Hardsigmoid | nn.SiLU | nn.Sigmoid | nn.GELU
THRESHOLDS = {nn.ReLU6: (0, 6), nn.Hardswish: (-3, 3), nn.Hardsigmoid: (-3, 3)}
BUILT = {"inception_v3": {"init_weights": False, "aux_logits": False}}
NARROW_VIT = {"patch_size": 16, "num_layers": 12, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
"""A vit_b_16 but for its widths: to draw 86 million weights takes a second."""

CHANNELS_LAST = {"convnext_tiny", "swin_t", "vit_b_16"}

FAMILIES = {
    "resnet18": (32, ["relu", "layer1.0", "layer4.1"], 9),
    "alexnet": (63, ["features.1", "features.4", "classifier.5"], 7),
    "resnet50": (32, ["relu", "layer1.0", "layer4.2"], 17),
    "densenet121": (32, ["features.relu0", "features.denseblock1", "features.norm5"], 9),
    "inception_v3": (75, ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Mixed_7c"], 16),
    "shufflenet_v2_x0_5": (32, ["conv1", "stage2.0", "conv5"], 18),
    "mnasnet0_5": (32, ["layers.2", "layers.5", "layers.16"], 19),
    "mobilenet_v2": (32, ["features.0", "features.1", "features.18"], 19),
    "mobilenet_v3_small": (32, ["features.0", "features.1", "classifier"], 14),
    "squeezenet1_1": (32, ["features.1", "features.3", "classifier"], 10),
    "efficientnet_b0": (32, ["features.0", "features.1.0", "features.8"], 18),
    "regnet_y_400mf": (32, ["stem", "trunk_output.block1.block1-0", "trunk_output.block4.block4-5"], 17),
    "convnext_tiny": (32, ["features.1.0", "features.1.1", "features.7.2"], 18),
    "swin_t": (32, ["features.1.0.mlp", "features.1.1.mlp", "features.7.1.mlp"], 12),
    "vit_b_16": (32, ["encoder.layers.encoder_layer_0.mlp", "encoder.layers.encoder_layer_1.mlp"], 12),
}
"""By name: pixels a side, the first two sites and the last (or one in between), how many."""


def noise(n, size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return [ImageView(Image.fromarray(image), 0.3, 0.7) for image in pixels]


@pytest.mark.parametrize("name", FAMILIES)
def test_codes_are_signs_that_hooks_see(name, monkeypatch):
    """Codes of torchvision's networks are, bit for bit, what hooks on their activation modules see and what reaches
    `F.relu`, at all places and at one."""
    size, names, count = FAMILIES[name]
    if name == "vit_b_16":
        model = torchvision.models.VisionTransformer(image_size=size, **NARROW_VIT).eval()
    else:
        model = torchvision.models.get_model(name, weights=None, **BUILT.get(name, {})).eval()
    network = ingest.network(model, image_size=size)
    position, full = ([s for s in network.sites if s.scope == scope] for scope in ("position", "full"))
    assert len(position) == len(full) == count
    assert [site.name for site in (*position[:2], position[-1])][: len(names)] == names
    batch, seen = noise(2, size), []

    def see(module, inputs):
        z = inputs[0].clone()
        z = z.movedim(-1, 1) if name in CHANNELS_LAST else z
        seen.extend(z > threshold for threshold in THRESHOLDS.get(type(module), (0,)))

    def relu(z, inplace=False):
        see(nn.ReLU(), [z])
        return torch.relu(z)

    monkeypatch.setattr(nn.functional, "relu", relu)
    handles = [m.register_forward_pre_hook(see) for m in model.modules() if isinstance(m, ACTIVATIONS)]
    with torch.inference_mode():
        logits = model(network.prepare(batch))
    for handle in handles:
        handle.remove()
    monkeypatch.undo()
    reading = network.read(batch, network.sites, [])
    codes = np.concatenate([bits(network, reading, site) for site in full], axis=1)
    np.testing.assert_array_equal(codes, torch.cat([z.flatten(1) for z in seen], dim=1))
    codes = np.concatenate([bits(network, reading, site) for site in position], axis=1)
    np.testing.assert_array_equal(codes, torch.cat([at_place(z, 0.3, 0.7) for z in seen], dim=1))
    np.testing.assert_allclose(reading.probability, logits.softmax(1).amax(1), rtol=1e-4)


def at_place(z, row, column):
    """One place of a grid; of patches behind a class token, the patch."""
    if z.ndim == 2:
        return z
    if z.ndim == 3:
        side = math.isqrt(z.shape[2] - 1)
        return z[:, :, 1 + int(row * side) * side + int(column * side)]
    return z[:, :, int(row * z.shape[2]), int(column * z.shape[3])]


def test_googlenet_read_generically():
    """GoogLeNet has the same sites, codes and activations as through its own adapter."""
    shipped = ingest.load_network("demo:inceptionv1", device="cpu")
    assert isinstance(shipped, InceptionV1)
    reading = shipped.info.reading
    network = ingest.network(
        shipped.model, classes=shipped.classes, **{key: reading[key] for key in ("image_size", "mean", "std")}
    )
    assert [(s.name, s.n_gates, s.unit_shape, s.exact) for s in network.sites] == [
        (s.name, s.n_gates, s.unit_shape, s.exact) for s in shipped.sites
    ]
    assert [s.layout for s in network.sites] == [s.layout for s in shipped.sites]
    theirs, ours = (n.read(noise(3, 8), n.sites, n.sites) for n in (shipped, network))
    for site in network.sites:
        np.testing.assert_array_equal(ours.codes[site.name], theirs.codes[site.name])
        np.testing.assert_array_equal(ours.activations[site.name], theirs.activations[site.name])
    assert ours.prediction == theirs.prediction


def test_three_lines_from_module_to_answer(tmp_path):
    """The three lines of the README: a module, images, the nearest to a new image, which is its own neighbour."""
    for number, view in enumerate(noise(6, 20)):
        path = tmp_path / "images" / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        view.image.save(path)
    model = torchvision.models.resnet18(num_classes=3)
    net = ingest.network(model, inputs="image", name="resnet18", classes=["a", "b", "class 2"], image_size=32)
    images = ingest.open_dataset(str(tmp_path / "images"), kind="image")
    ingest.ingest(tmp_path / "r.atlas", net, images, ingest.Choices(full=("layer3.1", "layer4.0", "layer4.1")))
    with store.open(tmp_path / "r.atlas") as a:
        found = query.nearest(a, image=path, site="layer3.1", reader=net)
        assert found["distance"][0] == 0 and found["label"][0] == "class 2"
        between = query.density(a, 1, 2, span="layer3.1->:full")
        assert between.exact and between.hamming > 0
        assert query.density(a, 1, 2, span="layer3.1->:full").note.startswith("equal codes, with equal max-pooling")


class Lists(nn.Module):
    """Blocks in a list, and inputs that are normalised by their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))
        self.ends = nn.ModuleDict({"last": nn.Linear(4, 4)})

    def forward(self, x):
        for block in self.blocks:
            x = block(nn.functional.normalize(x, dim=1))
        return self.ends["last"](x).relu()


def test_modules_in_lists_are_blocks():
    """What a list of modules holds are the blocks; a length that is kept from 0 is no gate."""
    network = ingest.network(Lists().eval(), inputs="vector")
    assert [site.name for site in network.sites] == ["blocks.0", "blocks.1", "blocks.2", "ends.last"]
    assert [site.n_gates for site in network.sites] == [4] * 4
    assert network.sites[1].broken_by.startswith("linalg vector norm in")
    assert network.classes == ()  # as many outputs as inputs


def test_what_is_made_once_is_no_course():
    """Positions that a network makes at its first pass and keeps are no other course than its next passes take."""

    def forward(module, x):
        if module.kept is None:
            module.kept = torch.arange(4.0).relu() / 4
        return module.linear(x + module.kept).relu()

    [site] = ingest.network(wrapped(forward, linear=nn.Linear(4, 4), kept=None), inputs="vector").sites
    assert site.exact and site.n_gates == 4


def test_lenet_reads_digits_it_has_learned():
    """A LeNet that is trained here for a second knows digits, and its classes are the labels of the data."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    train, heldout = (
        list(ingest.open_dataset(f"builtin:digits-{split}", kind="image").items()) for split in ("train", "heldout")
    )
    network = ingest.network(model.eval(), image_size=8, mean=[0.0], std=[1.0], classes=list("0123456789"))
    x = network.prepare([ImageView(item.content) for item in train])
    y = torch.tensor([int(item.label) for item in train])
    optimizer, epochs = torch.optim.Adam(model.parameters()), 14
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs=epochs, steps_per_epoch=-(-len(x) // 64))
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            shifts = tuple(torch.randint(-1, 2, (2,)).tolist())
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows].roll(shifts, (2, 3))), y[rows]).backward()
            optimizer.step()
            rates.step()
    model.eval()
    reading = network.read([ImageView(item.content, label=item.label) for item in heldout], [], [])
    right = np.array(reading.prediction) == np.array([item.label for item in heldout])
    assert right.mean() >= 0.95 and reading.loss[right].max() < 3
    assert all(site.exact for site in network.sites if site.scope == "full")


def wrapped(forward, **parts):
    """A module of a function of its parts, as ``self``."""
    module = type("Wrapped", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        setattr(module, name, part)
    return module.eval()


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: m.a(x), r"no gates: none of the operations that ran \(linear\)"),
        (lambda m, x: torch.sin(m.a(x)), r"\(linear, sin\) is an element-wise nonlinearity with"),
        (lambda m, x: m.a(x).relu() if x.sum() > 0 else x, "reads values of a tensor"),
        (lambda m, x: m.a(x).relu()[: len(x) - 1], "the number of its inputs: slice in the net"),
        (lambda m, x: m.lstm(m.a(x).relu())[0], "lstm runs a recurrent network as one operation"),
    ],
)
def test_network_without_a_code_is_refused(forward, message):
    """A network whose gates can't be read is refused with the reason."""
    model = wrapped(forward, a=nn.Linear(4, 4), lstm=nn.LSTM(4, 4))
    with pytest.raises(UnsupportedNetwork, match=message):
        ingest.network(model, inputs="vector")


def test_another_course_is_noticed():
    """Gates that run elsewhere than they were found to are no code: each read checks where they run."""
    model = wrapped(lambda m, x: (m.b if m.swapped else m.a)(x), a=nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    model.b, model.swapped = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), False
    network = ingest.network(model, inputs="vector")
    model.swapped = True
    with pytest.raises(UnsupportedNetwork, match=r"relu ran in the network, expected it in a\.1"):
        network.read(vectors(2, 3), network.sites, [])


def test_weights_that_are_not_read_refused():
    """Half precision, several devices and another number of class names are refused with what to do."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval()
    with pytest.raises(UsageError, match=r"0\.weight is torch\.float16; .* pass model\.float\(\)"):
        ingest.network(nn.Sequential(nn.Linear(3, 3).half(), nn.ReLU()), inputs="vector")
    with pytest.raises(UsageError, match=r"on several devices \(cpu, meta\)"):
        ingest.network(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta")), inputs="vector")
    with pytest.raises(UsageError, match="2 class names for an output of"):
        ingest.network(model, inputs="vector", classes=["a", "b"])
    with pytest.warns(UserWarning, match="it is read in evaluation mode"):
        assert not ingest.network(model.train(), inputs="vector").model.training


def test_sites_where_a_person_says():
    """Sites at modules that are named; a name that holds no gate, or none at all, is told what there is."""
    model = torchvision.models.resnet18(num_classes=2).eval()
    network = ingest.network(model, image_size=32, sites_at=["layer1", "layer4.1"])
    assert [(site.name, len(site.layout)) for site in network.sites[:2]] == [("layer1", 4), ("layer4.1", 2)]
    assert network.sites[2].broken_by == "relu, which no site reads, in relu"
    with pytest.raises(UnknownName, match=r"no module 'layer9' to read a site at; the sites are relu, layer1\.0"):
        ingest.network(model, image_size=32, sites_at=["layer9"])
    with pytest.raises(UsageError, match="module fc runs no gate"):
        ingest.network(model, image_size=32, sites_at=["fc"])
    with pytest.raises(UsageError, match="share gates"):
        ingest.network(model, image_size=32, sites_at=["layer1", "layer1.0"])
