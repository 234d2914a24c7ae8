"""Tails: run on from a site's true activation, they must give what the whole network gives."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from atlas.codes import SplineCodes
from atlas.errors import UnknownName, UsageError, WidthError
from atlas.network import ImageView, Span, TokenWindow
from atlas.tails import PiecewiseLinearTail, TailedNetwork
from ingest.networks import load_network
from ingest.networks.inceptionv1 import BLOCKS
from ingest.networks.tails import Pooling
from tests.networks import shipped

NEAR_ZERO = 1e-5
"""Preactivations this small, relative to the largest of their site, may have either sign: a batch of another size
sums in another order."""

GOOGLENET_224 = {
    "conv1": (112, 64),
    "conv2": (56, 64),
    "conv3": (56, 192),
    "inception3a": (28, 368),
    "inception3b": (28, 640),
    "inception4a": (14, 624),
    "inception4b": (14, 648),
    "inception4c": (14, 664),
    "inception4d": (14, 704),
    "inception4e": (14, 1024),
    "inception5a": (7, 1024),
    "inception5b": (7, 1264),
}
"""Side of the grid and gates at each position (Szegedy et al. 2014, table 1, reduce columns included)."""


@pytest.fixture(scope="module")
def network(narrow_inception):
    options = {"image_size": 64, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    return load_network("inceptionv1", weights=str(narrow_inception), device="cpu", **options)


@pytest.fixture(scope="module")
def reading(network, noise):
    full = [site for site in network.sites if site.scope == "full"]
    return network.read([ImageView(image) for image in noise[:4]], full, full)


def site_of(network, name):
    return next(site for site in network.sites if site.name == name)


def assert_same_codes(tail, activations, site, packed, expected):
    """Equal bit for bit, but where the preactivation is as good as zero."""
    differ = SplineCodes(packed ^ expected, (site.n_gates,)).unpack()
    _, preactivations = tail.preactivations(activations, [site])
    size = preactivations[site.name].detach().abs().numpy()
    assert (size[differ] <= NEAR_ZERO * size.max()).all()
    assert differ.mean() < 1e-3


@pytest.mark.parametrize("block", BLOCKS)
def test_inceptionv1_tail_gives_whole_net(network, reading, block):
    """Inceptionv1 run on from a block gives the codes and logits of the whole network."""
    site = site_of(network, f"{block}:full")
    tail = network.tail(site)
    activations = torch.from_numpy(reading.activations[site.name])
    found = tail.read(activations, tail.later)
    assert [later.name for later in tail.later] == [f"{b}:full" for b in BLOCKS[BLOCKS.index(block) + 1 :]]
    for later in tail.later:
        assert_same_codes(tail, activations, later, found.codes[later.name], reading.codes[later.name])
    shares = torch.from_numpy(found.logits).softmax(1).max(1)
    np.testing.assert_allclose(shares.values, reading.probability, rtol=1e-4)
    assert [tail.output_name(int(output)) for output in shares.indices] == reading.prediction
    assert found.switches is None


@pytest.mark.parametrize("block", ["conv2", "inception4e", "inception5a"])
def test_blocks_are_what_stages_multiply(network, block):
    """Of each stage they make up its preactivations but for the offsets, each gate in one of them."""
    tail = network.tail(site_of(network, f"{block}:full")).precise()
    state = tail.enter(torch.rand(2, tail.site.n_units, dtype=torch.float64))
    for stage in tail.stages:
        values = stage.preactivations(state)
        entries = torch.cat([part.flatten(1) for part in state], dim=1)
        found = torch.zeros_like(values)
        seen = np.zeros(values.shape[1], int)
        for part in stage.blocks(state):
            found[:, part.outputs] = entries[:, part.inputs] @ part.weight[part.rows]
            seen[part.outputs] += 1
        offsets = stage.preactivations(tuple(torch.zeros_like(part) for part in state))
        torch.testing.assert_close(found, values - offsets, rtol=1e-9, atol=1e-9)
        assert (seen == 1).all()
        state = stage.advance(state, values)


@pytest.mark.parametrize("block", BLOCKS)
def test_switches_say_which_input_is_pooled(network, reading, block):
    """Switches say which input each pooling window takes."""
    site = site_of(network, f"{block}:full")
    tail = network.tail(site)
    activations = torch.from_numpy(reading.activations[site.name])[:2]
    stored = torch.from_numpy(tail.read(activations, [], switches=True).switches)
    state, start = tail.enter(activations), 0
    for stage in tail.stages:
        windows = stage.windows(state)
        here = stored[:, start : start + windows.shape[1]].long()
        start += windows.shape[1]
        taken = windows.gather(2, here[..., None])[..., 0]
        assert torch.equal(taken, windows.amax(2))
        state = stage.advance(state, stage.preactivations(state))
    assert start == stored.shape[1] == expected_windows(network, block)


@pytest.mark.parametrize("last", BLOCKS[1:])
def test_switches_of_a_span_end_with_it(network, reading, last):
    """Switches of a span are those before its last gate."""
    site = site_of(network, "conv1:full")
    tail = network.tail(site)
    activations = torch.from_numpy(reading.activations[site.name])[:2]
    bounded = tail.read(activations, [site_of(network, f"{last}:full")], switches=True).switches
    assert bounded.shape[1] == expected_windows(network, "conv1", last)
    everything = tail.read(activations, tail.later, switches=True).switches
    np.testing.assert_array_equal(bounded, everything[:, : bounded.shape[1]])


def expected_windows(network, block, last=BLOCKS[-1]):
    """Windows of the pooling in every later inception block, as many as its input, and of the layers between."""
    shapes = {site.name.removesuffix(":full"): site.unit_shape for site in network.sites if site.scope == "full"}
    after = BLOCKS[BLOCKS.index(block) : BLOCKS.index(last) + 1]
    between = {"conv1": "conv2", "conv3": "inception3a", "inception3b": "inception4a", "inception4e": "inception5a"}
    count = 0
    for here, later in pairwise(after):
        channels, grid = shapes[here][0], shapes[later][1:]
        windows = channels * grid[0] * grid[1]
        count += windows * ((here in between) + later.startswith("inception"))
    return count


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"), [(3, 2, 0, True), (3, 1, 1, True), ((2, 1), (1, 2), (1, 0), False)]
)
@pytest.mark.parametrize("grid", [(2, 2), (4, 4), (5, 7), (8, 3)])
def test_pool_windows_hold_what_torch_pools(kernel, stride, padding, ceil, grid):
    """Pooling windows hold what torch pools."""
    pool = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    values = torch.randn(3, 2, *grid, generator=torch.Generator().manual_seed(0))
    pooled = pool(values)
    pooling = Pooling.of(pool)
    assert pooled.shape[2:] == pooling.size(grid)
    windows = pooling.windows(values)
    assert torch.equal(windows.amax(2), pooled.flatten(1))
    taken = windows.gather(2, pooling.switches(values).long()[..., None])[..., 0]
    assert torch.equal(taken, pooled.flatten(1))


def test_gates_after_each_site_are_known():
    """Gates after each site are those of the architecture."""
    network = load_network("inceptionv1", weights="random-raw:0", device="cpu")
    assert {site.name: site.n_gates for site in network.sites if site.scope == "full"} == {
        f"{block}:full": side * side * gates for block, (side, gates) in GOOGLENET_224.items()
    }
    for block in BLOCKS[:-1]:
        tail = network.tail(site_of(network, f"{block}:full"))
        after = [side * side * gates for later, (side, gates) in GOOGLENET_224.items()][BLOCKS.index(block) + 1 :]
        assert [site.n_gates for site in tail.later] == after
        assert tail.later == Span(block, None, "full").resolve(network.sites)
        # Each gate belongs to one stage, once.
        counted = {}
        for stage in tail.stages:
            for name, gates in stage.gates:
                counted.setdefault(name, []).append(range(gates.start, gates.start + gates.count))
        for site in tail.later:
            covered = sorted(gate for gates in counted[site.name] for gate in gates)
            assert covered == list(range(site.n_gates))


def test_autograd_gives_slope_of_logits(network, reading):
    """Autograd gives the slope of the logits."""
    tail = network.tail(site_of(network, "inception4e:full")).precise()
    start = torch.from_numpy(reading.activations["inception4e:full"][:1]).double()
    point = start.clone().requires_grad_()
    tail.logits(point)[0, 3].backward()
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-7
    # Units that are off stay off: pooling windows in which all are off would take another one at the least change.
    step = noise * (start > 0)
    slope = (tail.logits(start + step) - tail.logits(start - step))[0, 3] / 2
    assert (point.grad * step).sum().item() == pytest.approx(slope.item(), rel=1e-6)


def test_double_precision_agrees_with_single(network, reading):
    tail = network.tail(site_of(network, "inception3a:full"))
    activations = torch.from_numpy(reading.activations["inception3a:full"])
    precise = tail.precise()
    assert precise.dtype == torch.float64 and next(network.model.parameters()).dtype == torch.float32
    torch.testing.assert_close(precise.logits(activations).float(), tail.logits(activations), rtol=1e-3, atol=1e-4)


def test_tail_of_position_site_is_refused(network, reading):
    """A tail is refused where the activation does not fix what follows."""
    with pytest.raises(UsageError, match="start at inception4c:full"):
        network.tail(site_of(network, "inception4c"))
    tail = network.tail(site_of(network, "inception4c:full"))
    with pytest.raises(UnknownName, match="no codes of inception4b:full after inception4c:full"):
        tail.read(torch.zeros(1, tail.site.n_units), [site_of(network, "inception4b:full")])
    with pytest.raises(WidthError, match="rows of 2048 numbers"):
        tail.logits(torch.zeros(1, 3))


def test_both_networks_can_be_run_on(network):
    language = shipped("demo:gpt2")
    assert isinstance(network, TailedNetwork) and isinstance(language, TailedNetwork)
    tail = language.tail(language.sites[0], TokenWindow(np.array([5, 6, 7]), np.array([2])))
    assert isinstance(network.tail(site_of(network, "conv1:full")), PiecewiseLinearTail)
    assert not isinstance(tail, PiecewiseLinearTail) and not tail.exact


# --- language models -------------------------------------------------------------------------------------------


def assert_runs_on(network, window):
    reading = network.read([window], network.sites, network.sites)
    for site in network.sites:
        tail = network.tail(site, window)
        true = torch.from_numpy(reading.activations[site.name])
        noise = torch.randn(3, site.n_units, generator=torch.Generator().manual_seed(0))
        found = tail.read(torch.cat([noise, true]), tail.later)
        for later in tail.later:
            packed = found.codes[later.name][3:]
            assert_same_codes(tail, true, later, packed, reading.codes[later.name])
        share = torch.from_numpy(found.logits[3]).softmax(0).max(0)
        assert float(share.values) == pytest.approx(float(reading.probability[0]), rel=1e-3)
        assert tail.output_name(int(share.indices)) == reading.prediction[0]


@pytest.mark.parametrize("place", [0, 1, 17, 39])
def test_gpt2_tail_gives_whole_sequence(tiny_model, place):
    """Beside other versions of the same token, which must not be seen by it."""
    network = load_network(str(tiny_model("gpt2")), device="cpu")
    ids = np.random.default_rng(0).integers(1, 300, 40)
    assert_runs_on(network, TokenWindow(ids, np.array([place])))


def test_the_demo_gpt2_runs_on():
    network = shipped("demo:gpt2")
    tokens = network.tokenize("def main():\n    return sum(range(10))\n" * 8)
    assert_runs_on(network, TokenWindow(tokens.ids[:100], np.array([60])))


def test_later_tokens_do_not_matter(tiny_model):
    """Attention is causal: what follows the token reaches neither its codes nor its logits."""
    network = load_network(str(tiny_model("gpt2")), device="cpu")
    ids = np.random.default_rng(0).integers(1, 300, 20)
    other = np.concatenate([ids[:9], np.random.default_rng(1).integers(1, 300, 11)])
    point = torch.randn(1, network.sites[0].n_units, generator=torch.Generator().manual_seed(0))
    a, b = (network.tail(network.sites[0], TokenWindow(i, np.array([8]))).logits(point) for i in (ids, other))
    assert torch.equal(a, b)


def test_autograd_through_language_model(tiny_model):
    """Autograd works through a language model."""
    network = load_network(str(tiny_model("gpt2")), device="cpu")
    tail = network.tail(network.sites[1], TokenWindow(np.arange(1, 20), np.array([11])))
    start = torch.randn(1, tail.site.n_units, generator=torch.Generator().manual_seed(0))
    step = torch.randn(1, tail.site.n_units, generator=torch.Generator().manual_seed(1)) * 1e-2
    point = start.clone().requires_grad_()
    tail.logits(point)[0, 5].backward()
    slope = (tail.logits(start + step) - tail.logits(start - step))[0, 5] / 2
    assert (point.grad * step).sum().item() == pytest.approx(slope.item(), rel=2e-2)


def test_language_tail_needs_one_token(tiny_model):
    """A language model needs one token of a sequence."""
    network = load_network(str(tiny_model("gpt2")), device="cpu")
    ids = np.arange(1, 10)
    with pytest.raises(UsageError, match="give the TokenWindow"):
        network.tail(network.sites[0])
    with pytest.raises(UsageError, match="one token, got 2 positions"):
        network.tail(network.sites[0], TokenWindow(ids, np.array([1, 2])))
    tail = network.tail(network.sites[1], TokenWindow(ids, np.array([3])))
    with pytest.raises(UnknownName, match=r"no codes of blocks\.0\.mlp after blocks\.1\.mlp"):
        tail.read(torch.zeros(1, tail.site.n_units), [network.sites[0]])
    with pytest.raises(WidthError, match="rows of 128 numbers"):
        tail.logits(torch.zeros(1, 3))


# --- the real thing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["inception3b", "inception4c", "inception5a"])
def test_the_lab_inceptionv1_runs_on(lab, block):
    from PIL import Image

    classes = lab / "inceptionv1-lab.classes.txt"
    weights = str(lab / "inceptionv1-lab.pt")
    network = load_network("inceptionv1", weights=weights, classes=classes, image_size=64, device="cpu")
    folders = sorted((lab / "images").iterdir())[:3]
    views = [ImageView(Image.open(next(folder.glob("val_*")))) for folder in folders]
    site = site_of(network, f"{block}:full")
    tail = network.tail(site)
    reading = network.read(views, tail.later, [site])
    activations = torch.from_numpy(reading.activations[site.name])
    found = tail.read(activations, tail.later)
    for later in tail.later:
        assert_same_codes(tail, activations, later, found.codes[later.name], reading.codes[later.name])


def test_the_lab_gpt2_runs_on(lab):
    network = load_network(str(lab / "gpt2-lab"), device="cpu")
    text = next((lab / "texts").glob("*/*.txt")).read_text(encoding="utf-8")
    assert_runs_on(network, TokenWindow(network.tokenize(text).ids[:200], np.array([150])))
