"""Networks by name: torchvision's, timm's, and those that a function of the user's own builds."""

import sys

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

import atlas
import ingest
import query
from atlas.errors import HubUnavailable, UnknownName, UsageError, WeightsError
from ingest.networks import load_control, load_network, moons, network_kind, reload_network
from ingest.networks.registry import is_calibrated

FACTORIES = """
import torch
from torch import nn

def points():
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))

class Marked(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.linear = nn.Parameter(torch.randn(3)), nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x + self.token).relu()

def broken():
    raise ValueError("no such file")

def number():
    return 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """The name of a module in the working directory with functions that build networks."""
    (tmp_path / "own_networks.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_torchvision_network_of_any_outputs(tmp_path):
    """Weights of a file, with as many classes as they have; the same again from what an atlas records."""
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(num_classes=7).eval()
    save_file(state_of(model), tmp_path / "w.safetensors")
    network = load_network("torchvision:squeezenet1_1", weights=str(tmp_path / "w.safetensors"), image_size=32)
    assert (network.info.name, network.info.kind, len(network.classes)) == ("squeezenet1_1", "image", 7)
    assert network.info.reading["mean"] == [0.485, 0.456, 0.406]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.model(x), model(x))
    assert reload_network(network.info).info == network.info
    with pytest.raises(WeightsError, match="don't fit torchvision:alexnet"):
        load_network("torchvision:alexnet", weights=str(tmp_path / "w.safetensors"))


def test_untrained_controls_of_torchvision(noise):
    """Both controls are drawn by their seed alone; one's batch norms are calibrated on the images."""
    options = {"image_size": 32, "outputs": 3, "device": "cpu"}
    raw = load_network("torchvision:mnasnet0_5", weights="random-raw:4", **options)
    assert raw.info.name == "mnasnet0_5-random-raw-4" and len(raw.classes) == 3
    torch.manual_seed(4)
    expected = torchvision.models.mnasnet0_5(num_classes=3)
    assert all(torch.equal(a, b) for a, b in zip(raw.model.parameters(), expected.parameters(), strict=True))
    control = load_control(raw, "random:4", calibration=noise)
    assert [s.n_gates for s in control.sites] == [s.n_gates for s in raw.sites]
    assert torch.equal(control.model.layers[0].weight, raw.model.layers[0].weight)
    conv, norm = control.model.layers[:2]
    with torch.no_grad():
        seen = conv(control.prepare([ingest_view(image) for image in noise]))
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="need inputs to calibrate"):
        load_network("torchvision:mnasnet0_5", weights="random:0", **options)


def ingest_view(image):
    from atlas.network import ImageView

    return ImageView(image)


def test_names_that_no_library_has(monkeypatch, tmp_path):
    """A name that is none is told the nearest; weights that can't be fetched where to put them."""
    with pytest.raises(UnknownName, match="no such name; the nearest are resnet18"):
        load_network("torchvision:resnet81")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("ingest.networks.hub.why_unreachable", lambda url: OSError("no connection"))
    with pytest.raises(HubUnavailable, match=r"download .*alexnet.*, or pass its path as the weights"):
        load_network("torchvision:alexnet")
    for given in ({"source": "net.pt2"}, {"source": "torchvision:alexnet", "weights": "net.pt2"}):
        with pytest.raises(WeightsError, match=r"exported program, and `torch\.export\.load` may unpickle code"):
            load_network(**given)


@pytest.mark.slow
def test_timm_network_is_fed_as_it_says():
    """A network of timm, fed as its configuration says; weights of it as a file."""
    timm = pytest.importorskip("timm")
    network = load_network("timm:resnet10t", weights="random-raw:0", image_size=32, outputs=4)
    assert network.info.reading["std"] == list(timm.get_pretrained_cfg("resnet10t").std)
    assert len(network.classes) == 4 and all(site.exact for site in network.sites if site.scope == "full")
    with pytest.raises(UnknownName, match="the nearest are"):
        load_network("timm:resnet10x")
    transformer = load_network("timm:test_vit", weights="random-raw:0", outputs=4)
    assert len(transformer.classes) == 4 and {site.nonlinearity for site in transformer.sites} == {"gelu"}
    assert all("norm" in site.broken_by for site in transformer.sites)


def test_a_function_of_the_users_own(factories, tmp_path):
    """A function in the working directory builds a network of vectors: from a file of weights to an answer."""
    source = f"{factories}:points"
    assert network_kind(source) == "vector" and network_kind(f"{factories}:grey") == "image"
    torch.manual_seed(3)
    built = load_network(source, device="cpu").model
    torch.save(state_of(built), tmp_path / "w.pth")
    network = load_network(source, weights=str(tmp_path / "w.pth"), name="moons", classes=["up", "down"])
    assert network.classes == ("up", "down") and network.n_inputs == 2 and is_calibrated(network.info)
    points = ingest.open_dataset("builtin:two-moons-heldout", kind="vector")
    ingest.ingest(tmp_path / "m.atlas", network, points, ingest.Choices(limit=20), cluster=False)
    with atlas.open(tmp_path / "m.atlas") as a:
        record = a.catalog.network("moons")
        reader = reload_network(record)
        assert query.nearest(a, vector=[0.1, 0.2], site="2", reader=reader, k=3).attrs["subject"] == "the vector"
    points = [np.zeros(2, np.float32), np.ones(2, np.float32)]
    control = load_control(network, "random:1", calibration=points)
    z = control.model[0](torch.from_numpy(np.stack(points)))
    torch.testing.assert_close(control.model[1].running_mean, z.mean(0))
    grey = load_network(f"{factories}:grey", image_size=8, sites_at=["1"])
    assert grey.info.reading["mean"] == [0.0] and [s.name for s in grey.sites] == ["1", "1:full"]


def test_code_runs_only_where_it_is_named(factories, monkeypatch):
    """A function that an atlas names is not called unless the user names it too."""
    network = load_network(f"{factories}:points")
    monkeypatch.setattr("ingest.networks.module_sources._named", set())
    with pytest.raises(UsageError, match=r"code that the atlas names and you have not: .* POLYTOPE_FACTORIES=own_ne"):
        reload_network(network.info)
    monkeypatch.setenv("POLYTOPE_FACTORIES", f"a:b,{factories}:points")
    assert reload_network(network.info).info == network.info


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere_at_all:make", UnknownName, "nowhere_at_all can't be imported"),
        ("{}:other", UnknownName, "has no function other; it has points, grey, Marked, broken, number"),
        ("{}:broken", UsageError, "raised ValueError: no such file"),
        ("{}:number", UsageError, r"returned a int; expected a torch\.nn\.Module"),
        ("{}:grey", UsageError, r"can't be run on 2 inputs of shape \(1, 224, 224\): .*Give the size that it takes"),
    ],
)
def test_functions_that_build_no_network(factories, source, error, message):
    """What is wrong with a function is said with its name."""
    with pytest.raises(error, match=message):
        load_network(source.format(factories))


def test_control_of_a_module_handed_over(factories):
    """A module from Python has controls by its modules' own reset; one that nobody can reset is told why."""
    network = ingest.network(torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU()), name="mine")
    control = load_control(network, "random-raw:2")
    torch.manual_seed(2)
    fresh = torch.nn.Linear(3, 5)
    assert torch.equal(control.model[0].weight, fresh.weight) and control.info.name == "mine-random-raw-2"
    assert not is_calibrated(network.info) and load_control(network, "random:2").info.weights == "random:2"
    with pytest.raises(UsageError, match=r"token belongs to a module without `reset_parameters`"):
        load_network(f"{factories}:Marked", weights="random-raw:0")


def test_demo_perceptron_is_always_the_same(tmp_path):
    """The network of the demo is trained to the same weights each time, knows the moons, and its plane is a span."""
    network = load_network("demo:two-moons", device="cpu")
    moons.trained_moons.cache_clear()
    assert load_network("demo:two-moons", device="cpu").info == network.info
    points = ingest.open_dataset("builtin:two-moons-heldout", kind="vector")
    ingest.ingest(tmp_path / "m.atlas", network, points, ingest.Choices(spans=("input->",)), cluster=False)
    with atlas.open(tmp_path / "m.atlas") as a:
        assert a.value("select avg((prediction = label)::int) from examples") > 0.95
        target = a.catalog.target(span="input->")
        assert [site.name for site in target.sites] == ["first", "second"] and target.before is None
        nearest = query.nearest(a, example=1, span="input->", k=5)
        _, codes = a.codes(target.sites)
        apart = np.count_nonzero(codes.unpack() != codes.unpack()[0], axis=1)
        np.testing.assert_array_equal(nearest["distance"], np.sort(np.delete(apart, 0))[:5])
        assert query.verify(a)["ok"].all()
