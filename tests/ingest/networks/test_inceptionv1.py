"""InceptionV1: what the adapter reads against a plain torchvision forward pass with plain hooks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atlas.codes import SplineCodes
from atlas.errors import UnknownName, UsageError
from atlas.network import ImageNetwork, ImageView, Site
from ingest.networks import load_network
from ingest.networks.googlenet import build_googlenet
from ingest.networks.image_inputs import preprocess

BRANCHES = ["branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"]
STEM = ["conv1", "conv2", "conv3"]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PLACES = [(0.0, 0.0), (0.5, 0.5), (0.99, 0.2), (0.3, 0.999999999)]


@pytest.fixture(scope="module")
def network(narrow_inception):
    return load_network("inceptionv1", weights=str(narrow_inception), device="cpu", image_size=64, mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def views(noise):
    return [ImageView(image, row, column) for image, (row, column) in zip(noise, PLACES, strict=False)]


def by_hand(model, pixels):
    """Preactivations of every convolution and outputs of every block, batch norm recomputed out of place."""
    preactivations, outputs = {}, {}
    for name, module in model.named_modules():
        if name.endswith(".conv"):
            norm = model.get_submodule(name.removesuffix("conv") + "bn")

            def after_conv(_m, _i, out, name=name, norm=norm):
                statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
                z = torch.nn.functional.batch_norm(out, *statistics, training=False, eps=norm.eps)
                preactivations[name.removesuffix(".conv")] = z.numpy()

            module.register_forward_hook(after_conv)
        if name in STEM or (name.startswith("inception") and "." not in name):
            module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out.clone().numpy()}))
    with torch.no_grad():
        logits = model(pixels)
    return preactivations, outputs, logits


def truth(path, images, **options):
    model = build_googlenet(10, width=0.25, **options).eval()
    state = {name: tensor for name, tensor in torch.load(path).items() if not name.startswith("aux")}
    model.load_state_dict(state)
    layout = torch.channels_last  # as the network: other layouts take other sums in another order
    return by_hand(model.to(memory_format=layout), preprocess(images, 64, MEAN, STD).to(memory_format=layout))


def modules_of(block):
    return [block] if block in STEM else [f"{block}.{branch}" for branch in BRANCHES]


def cell(view, size):
    return min(int(view.row * size), size - 1), min(int(view.column * size), size - 1)


def assert_same_gates(site, packed, preactivations):
    """The same operations on the same batch: every bit, without tolerance."""
    np.testing.assert_array_equal(SplineCodes(packed, (site.n_gates,)).unpack(), preactivations > 0)


def test_reads_what_a_plain_pass_computes(network, views, narrow_inception):
    """Reads what a plain forward pass computes."""
    reading = network.read(views, network.sites, network.sites)
    preactivations, outputs, logits = truth(narrow_inception, [view.image for view in views])
    for site in network.sites:
        block = site.name.removesuffix(":full")
        modules = [preactivations[name] for name in modules_of(block)]
        if site.scope == "full":
            expected = np.concatenate([z.reshape(len(views), -1) for z in modules], axis=1)
            activations = outputs[block].reshape(len(views), -1)
        else:
            rows = [[z[i][:, *cell(view, z.shape[2])] for z in modules] for i, view in enumerate(views)]
            expected = np.stack([np.concatenate(row) for row in rows])
            output = outputs[block]
            activations = np.stack([output[i][:, *cell(view, output.shape[2])] for i, view in enumerate(views)])
        assert expected.shape == (len(views), site.n_gates)
        assert activations.shape == (len(views), site.n_units)
        assert_same_gates(site, reading.codes[site.name], expected)
        np.testing.assert_allclose(reading.activations[site.name], activations, rtol=1e-4, atol=1e-5)
        assert reading.activations[site.name].dtype == np.float32
        assert reading.finite[site.name].all()
    np.testing.assert_allclose(reading.probability, logits.softmax(1).max(1).values, rtol=1e-4)
    assert reading.prediction == [f"class {index}" for index in logits.argmax(1)]
    assert np.isnan(reading.loss).all()


def test_codes_agree_with_activations(network, views):
    """After ReLU a unit of the output is positive exactly where its gate is on: no tolerance."""
    reading = network.read(views, network.sites, network.sites)
    for site in network.sites:
        gates = SplineCodes(reading.codes[site.name], (site.n_gates,)).unpack()
        shown = [part for part in site.layout if not part.module.endswith((".branch2.0", ".branch3.0"))]
        output = np.concatenate([gates[:, part.start : part.start + part.count] for part in shown], axis=1)
        np.testing.assert_array_equal(output, reading.activations[site.name] > 0)


def test_position_codes_are_full_cells(network, views):
    """Position codes are cells of full codes."""
    reading = network.read(views, network.sites, [])
    sites = {site.name: site for site in network.sites}
    for name in ("conv3", "inception3b", "inception5b"):
        position, full = sites[name], sites[f"{name}:full"]
        small = SplineCodes(reading.codes[name], (position.n_gates,)).unpack()
        large = SplineCodes(reading.codes[f"{name}:full"], (full.n_gates,)).unpack()
        for part, whole in zip(position.layout, full.layout, strict=True):
            assert part.module == whole.module
            grid = large[:, whole.start : whole.start + whole.count].reshape(len(views), part.count, *whole.grid)
            for i, view in enumerate(views):
                row, column = cell(view, whole.grid[0])
                expected = grid[i, :, row, column]
                np.testing.assert_array_equal(small[i, part.start : part.start + part.count], expected)


def test_layout_lists_modules_in_order(network):
    for site in network.sites:
        block = site.name.removesuffix(":full")
        assert [part.module for part in site.layout] == modules_of(block)
        ends = [0, *(part.start + part.count for part in site.layout)]
        assert [part.start for part in site.layout] == ends[:-1] and ends[-1] == site.n_gates
        assert site.nonlinearity == "relu" and site.exact == (site.scope == "full")
        assert site.n_units == np.prod(site.unit_shape)
        for part in site.layout:
            assert (part.grid is None) == (site.scope == "position")


def test_gate_counts_of_the_real_network():
    network = load_network("inceptionv1", weights="random-raw:0", device="cpu")
    sites = {site.name: site for site in network.sites}
    assert list(sites)[:12] == [name.removesuffix(":full") for name in list(sites)[12:]]
    assert [site.ordinal for site in network.sites] == [*range(12), *range(12)]
    assert (sites["inception3b"].n_gates, sites["inception3b"].n_units) == (640, 480)
    assert {part.grid for part in sites["inception3b:full"].layout} == {(28, 28)}
    assert (sites["inception5b"].n_gates, sites["inception5b"].n_units) == (1264, 1024)
    assert {part.grid for part in sites["inception5b:full"].layout} == {(7, 7)}
    assert sites["inception5b:full"].n_gates == 1264 * 49
    assert sites["inception5b:full"].unit_shape == (1024, 7, 7)
    # By the table of Szegedy et al. (2015) with the bug that makes 5x5 branches 3x3: channels times positions.
    channels = {
        "conv1": 64,
        "conv2": 64,
        "conv3": 192,
        "inception3a": 368,
        "inception3b": 640,
        "inception4a": 624,
        "inception4b": 648,
        "inception4c": 664,
        "inception4d": 704,
        "inception4e": 1024,
        "inception5a": 1024,
        "inception5b": 1264,
    }
    sides = {"conv1": 112, "conv2": 56, "conv3": 56, "inception3": 28, "inception4": 14, "inception5": 7}
    assert {name: sites[name].n_gates for name in channels} == channels
    for name, count in channels.items():
        side = sides.get(name) or sides[name[:-1]]
        assert sites[f"{name}:full"].n_gates == count * side**2
    assert len(network.classes) == 1000 and network.classes[7] == "class 7"
    assert isinstance(network, ImageNetwork)


def test_only_the_requested_sites_are_read(network, views):
    sites = {site.name: site for site in network.sites}
    reading = network.read(views, [sites["inception4c"]], [sites["inception5b:full"]])
    assert set(reading.codes) == {"inception4c"}
    assert set(reading.activations) == {"inception5b:full"}
    assert set(reading.finite) == {"inception4c", "inception5b:full"}
    assert not any(module._forward_hooks for module in network.model.modules())


def test_loss_is_against_known_labels(narrow_inception, noise, tmp_path):
    """Loss is measured against known labels."""
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit {i}" for i in range(10)) + "\n")
    network = load_network(
        "inceptionv1", weights=str(narrow_inception), device="cpu", image_size=64, mean=MEAN, std=STD, classes=names
    )
    labels = ["digit 3", None, "no class"]
    views = [ImageView(image, label=label) for image, label in zip(noise, labels, strict=False)]
    reading = network.read(views, [], [])
    _, _, logits = truth(narrow_inception, noise[:3])
    assert reading.loss[0] == pytest.approx(-float(logits.log_softmax(1)[0, 3]), rel=1e-4)
    assert np.isnan(reading.loss[1:]).all()
    assert set(reading.prediction) <= set(network.classes) == {f"digit {i}" for i in range(10)}


def test_transform_input_reaches_the_network(narrow_inception, noise):
    options = {"weights": str(narrow_inception), "device": "cpu", "image_size": 64, "mean": MEAN, "std": STD}
    network = load_network("inceptionv1", transform_input=True, **options)
    assert network.info.reading["transform_input"] is True
    reading = network.read([ImageView(image) for image in noise], [], [])
    _, _, logits = truth(narrow_inception, noise, transform_input=True)
    np.testing.assert_allclose(reading.probability, logits.softmax(1).max(1).values, rtol=1e-4)


def test_empty_batches_have_the_right_widths(network):
    site = network.sites[4]
    reading = network.read([], [site], [site])
    assert reading.codes[site.name].shape == (0, site.n_bytes)
    assert reading.activations[site.name].shape == (0, site.n_units)
    assert reading.prediction == []


def test_impossible_requests_are_refused(network, noise):
    for row, column in [(1.0, 0.5), (-0.1, 0.5), (0.5, float("nan"))]:
        with pytest.raises(UsageError, match="outside the image"):
            network.read([ImageView(noise[0], row, column)], [], [])
    with pytest.raises(UnknownName, match="inception6a"):
        network.read([ImageView(noise[0])], [Site("inception6a", 0, 1, 1, "relu", False)], [])


def test_nan_shows_from_its_block_on(narrow_inception, tmp_path, views):
    """Nan weights show from their block on."""
    state = torch.load(narrow_inception)
    state["inception4a.branch2.1.conv.weight"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    network = load_network("inceptionv1", weights=str(tmp_path / "nan.pt"), device="cpu", image_size=64)
    reading = network.read(views, network.sites, network.sites)
    broken = {site.name for site in network.sites if not reading.finite[site.name].any()}
    blocks = [f"inception{part}" for part in ("4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    assert broken == {*blocks, *(f"{block}:full" for block in blocks)}
    assert all(reading.finite[site.name].all() for site in network.sites if site.name not in broken)


def test_calibrated_control_stays_in_range(noise):
    """Calibrated control stays in range where the raw one vanishes."""
    calibrated = load_network("demo:inceptionv1", weights="random:0", calibration=noise, device="cpu")
    raw = load_network("demo:inceptionv1", weights="random-raw:0", device="cpu")
    views = [ImageView(image) for image in noise]

    def by_depth(network):
        full = [site for site in network.sites if site.scope == "full"]
        reading = network.read(views, [], full)
        return [float(reading.activations[site.name].std()) for site in full]

    assert all(0.1 < spread < 10 for spread in by_depth(calibrated))
    spreads = by_depth(raw)
    assert spreads[-1] < 1e-9 * spreads[0]
    # Half precision has nothing below 6e-8.
    assert spreads[-1] < 6e-8


def test_lab_network_can_be_read(lab: Path):
    network = load_network(
        "inceptionv1",
        weights=str(lab / "inceptionv1-lab.pt"),
        classes=lab / "inceptionv1-lab.classes.txt",
        image_size=64,
        device="cpu",
    )
    files = sorted((lab / "images").glob("*/val_*.JPEG"))[::45]
    views = [ImageView(Image.open(file), label=file.parent.name) for file in files]
    reading = network.read(views, network.sites[:12], network.sites[:12])
    right = np.mean([predicted == view.label for predicted, view in zip(reading.prediction, views, strict=True)])
    assert right > 0.4  # 61 % over all held-out images
    assert reading.loss.mean() < 3  # ln 64 = 4.2 by chance
    model = build_googlenet(64)
    model.load_state_dict(torch.load(lab / "inceptionv1-lab.pt", weights_only=True))
    pixels = preprocess([view.image for view in views], 64, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    preactivations, _, _ = by_hand(model.eval(), pixels)
    for site in network.sites[:12]:
        modules = [preactivations[name] for name in modules_of(site.name)]
        middle = np.concatenate([z[:, :, z.shape[2] // 2, z.shape[3] // 2] for z in modules], axis=1)
        assert_same_gates(site, reading.codes[site.name], middle)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_reads_as_the_cpu_does(network, narrow_inception, views):
    on_cuda = load_network(
        "inceptionv1", weights=str(narrow_inception), device="cuda", image_size=64, mean=MEAN, std=STD
    )
    assert on_cuda.info == network.info
    readings = [net.read(views, net.sites, net.sites) for net in (network, on_cuda)]
    for site in network.sites:
        np.testing.assert_allclose(*(reading.activations[site.name] for reading in readings), rtol=1e-3, atol=1e-3)
        differing = np.bitwise_count(readings[0].codes[site.name] ^ readings[1].codes[site.name]).sum()
        assert differing <= max(2, 1e-3 * len(views) * site.n_gates)
