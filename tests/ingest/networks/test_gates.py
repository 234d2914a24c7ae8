"""What the adapters show of gates beyond their signs, and gates that are set: against plain forward passes."""

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from atlas.codes import SplineCodes
from atlas.errors import UnknownName, UsageError, WidthError
from atlas.network import GatedNetwork, ImageView, NormedNetwork, TokenWindow
from atlas.tails import GateSettings, SettableTail
from ingest.networks import load_network
from ingest.networks.inceptionv1 import modules_of

ARCHITECTURES = ("gpt2", "llama", "phi3", "gpt_neox", "opt", "xglm", "mpt", "bloom")
EPSILON = 0.01


@pytest.fixture(scope="module")
def network(tiny_model):
    return load_network(str(tiny_model("gpt2")), device="cpu")


@pytest.fixture(scope="module")
def inception(narrow_inception):
    options = {"image_size": 64, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    return load_network("inceptionv1", weights=str(narrow_inception), device="cpu", **options)


def window(length, positions, seed=0):
    return TokenWindow(np.random.default_rng(seed).integers(1, 300, length), np.asarray(positions, dtype=np.int64))


def site_of(network, name):
    return next(site for site in network.sites if site.name == name)


WINDOWS = [window(20, [3, 19], 1), window(9, [8], 2)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_preactivations_have_code_signs(tiny_model, architecture):
    """Preactivations of a language model have the signs of its codes."""
    network = load_network(str(tiny_model(architecture)), device="cpu")
    assert isinstance(network, GatedNetwork)
    found = network.preactivations(WINDOWS, network.sites)
    reading = network.read(WINDOWS, network.sites, [])
    for site in network.sites:
        assert found[site.name].shape == (3, site.n_gates) and found[site.name].dtype == np.float32
        assert (SplineCodes(reading.codes[site.name], (site.n_gates,)).unpack() == (found[site.name] > 0)).all()


def test_gpt2_preactivations_and_activations(network):
    """Preactivations of gpt2 become its activations."""
    site = network.sites[1]
    z = network.preactivations(WINDOWS, [site])[site.name]
    hidden = network.read(WINDOWS, [], [site]).activations[site.name]
    np.testing.assert_allclose(ACT2FN[site.nonlinearity](torch.from_numpy(z)), hidden, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["conv2", "inception4c", "inception4c:full", "inception5b:full"])
def test_inceptionv1_batch_norms_give_them(inception, noise, name):
    """Preactivations of inceptionv1 are what its batch norms give."""
    site, views = site_of(inception, name), [ImageView(image, 0.4, 0.6) for image in noise[:3]]
    found = inception.preactivations(views, [site])[name]
    reading = inception.read(views, [site], [])
    assert (SplineCodes(reading.codes[name], (site.n_gates,)).unpack() == (found > 0)).all()
    block, taken = name.removesuffix(":full"), []
    for module in modules_of(block):
        norm = inception.model.get_submodule(f"{module}.bn")
        taken.append(norm.register_forward_hook(lambda _m, _i, out: values.append(out.clone())))
    values = []
    with torch.inference_mode():
        inception.model(inception.prepare(views))
    for handle in taken:
        handle.remove()
    if site.scope == "position":
        size = values[0].shape[2]
        values = [value[:, :, int(0.4 * size), int(0.6 * size)] for value in values]
    expected = torch.cat([value.flatten(1) for value in values], dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_foreign_site_has_no_preactivations(network, inception, noise):
    """Preactivations of a foreign site are refused."""
    with pytest.raises(UnknownName, match="has no site"):
        network.preactivations(WINDOWS, [inception.sites[0]])
    with pytest.raises(UnknownName, match="has no site"):
        inception.preactivations([ImageView(noise[0])], [network.sites[0]])


# --- the normalisation before an MLP -----------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gates_follow_from_residual_stream(tiny_model, architecture):
    """Gates follow from the residual stream before the norm."""
    network = load_network(str(tiny_model(architecture)), device="cpu")
    assert isinstance(network, NormedNetwork)
    residual = network.before_norm(WINDOWS, network.sites)
    whole = network.preactivations(WINDOWS, network.sites)
    for site in network.sites:
        normalised, found = network.after_norm(site, residual[site.name])
        np.testing.assert_allclose(found, whole[site.name], atol=1e-4 * np.abs(found).max())
        assert normalised.shape == residual[site.name].shape == (3, 32)


def test_the_norm_of_gpt2_is_layernorm(network):
    site = network.sites[1]
    x = network.before_norm(WINDOWS, [site])[site.name]
    module = network.bridge.original_model.transformer.h[1].ln_2
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + module.eps)
    expected = scaled * module.weight.detach().numpy() + module.bias.detach().numpy()
    np.testing.assert_allclose(network.after_norm(site, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_an_image_network_has_no_such_norm(inception):
    assert not isinstance(inception, NormedNetwork)


# --- gates that are set --------------------------------------------------------------------------------------------


def settings(site, points, *, on=(), off=()):
    wanted = np.zeros((points, site.n_gates), np.int8)
    wanted[:, list(on)], wanted[:, list(off)] = 1, -1
    return GateSettings(site, wanted, EPSILON)


def test_gpt2_gates_set_by_activations(network):
    """In an MLP without a gate the hidden vector is act(z): set z, or put act(z) into the next tail by hand."""
    work, (first, second, third) = window(20, [12], 1), network.sites
    start = torch.from_numpy(network.read([work], [], [first]).activations[first.name])
    tail = network.tail(first, work)
    assert isinstance(tail, SettableTail)
    _, seen = tail.preactivations(start, [second])
    z = seen[second.name].detach().clone()[0]
    on, off = [0, 5, 77], [1, 30, 127]
    found = tail.read_set(start, [second, third], settings(second, 1, on=on, off=off))
    z[[j for j in on if z[j] <= 0]] = EPSILON
    z[[j for j in off if z[j] > 0]] = -EPSILON
    expected = network.tail(second, work).read(ACT2FN[second.nonlinearity](z)[None], [third])
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-3, atol=1e-4 * np.abs(found.logits).max())
    assert np.bitwise_count(found.codes[third.name] ^ expected.codes[third.name]).sum() <= 1
    assert (SplineCodes(found.codes[second.name], (second.n_gates,)).unpack()[0] == (z > 0).numpy()).all()


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_gates_read_as_they_were_set(tiny_model, architecture):
    """Gates set in other architectures read as set."""
    network = load_network(str(tiny_model(architecture)), device="cpu")
    work, (first, second) = window(20, [12], 1), network.sites
    start = torch.from_numpy(network.read([work], [], [first]).activations[first.name])
    tail = network.tail(first, work)
    found = tail.read_set(start, [second], settings(second, 1, on=range(10), off=range(10, 20)))
    bits = SplineCodes(found.codes[second.name], (second.n_gates,)).unpack()[0]
    assert bits[:10].all() and not bits[10:20].any()
    assert not np.allclose(found.logits, tail.read(start, []).logits)


def test_inceptionv1_gates_set_as_in_a_pass(inception, noise):
    """Setting gates of inceptionv1 is moving them in a plain pass."""
    before, site = site_of(inception, "inception5a:full"), site_of(inception, "inception5b:full")
    views = [ImageView(image) for image in noise[:2]]
    start = torch.from_numpy(inception.read(views, [], [before]).activations[before.name])
    rng = np.random.default_rng(0)
    wanted = rng.integers(-1, 2, (2, site.n_gates)).astype(np.int8)
    found = inception.tail(before).read_set(start, [site], GateSettings(site, wanted, EPSILON))
    bits = SplineCodes(found.codes[site.name], (site.n_gates,)).unpack()
    assert bits[wanted > 0].all() and not bits[wanted < 0].any()

    def moved(gates):
        def hook(_module, _inputs, out):
            want = torch.from_numpy(wanted[:, gates.start : gates.start + gates.count]).reshape(out.shape)
            wrong = (want != 0) & ((want > 0) != (out > 0))
            return torch.where(wrong, EPSILON * want, out)

        return inception.model.get_submodule(f"{gates.module}.bn").register_forward_hook(hook)

    handles = [moved(gates) for gates in site.layout]
    with torch.inference_mode():
        logits = inception.model(inception.prepare(views))
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(found.logits, logits.numpy(), rtol=1e-3, atol=1e-4)


def test_gates_as_wanted_change_nothing(inception, noise):
    """Gates that are already as wanted change nothing."""
    before, site = site_of(inception, "inception5a:full"), site_of(inception, "inception5b:full")
    start = torch.from_numpy(inception.read([ImageView(noise[0])], [], [before]).activations[before.name])
    tail = inception.tail(before)
    plain = tail.read(start, [site])
    bits = SplineCodes(plain.codes[site.name], (site.n_gates,)).unpack()
    same = tail.read_set(start, [site], GateSettings(site, np.where(bits, 1, -1).astype(np.int8), EPSILON))
    np.testing.assert_array_equal(same.logits, plain.logits)
    np.testing.assert_array_equal(same.codes[site.name], plain.codes[site.name])


def test_unfitting_settings_are_refused(network, inception):
    """Settings that do not fit are refused."""
    work, (first, second, _) = window(20, [12], 1), network.sites
    tail, start = network.tail(first, work), torch.zeros(1, first.n_units)
    with pytest.raises(WidthError, match=r"shape \(2, 128\); 1 points of its 128 gates need \(1, 128\)"):
        tail.read_set(start, [], settings(second, 2))
    with pytest.raises(UnknownName, match=r"no codes of blocks\.0\.mlp after blocks\.0\.mlp"):
        tail.read_set(start, [], settings(first, 1))
    after = inception.tail(site_of(inception, "inception5a:full"))
    points = torch.zeros(1, after.site.n_units)
    with pytest.raises(UnknownName, match="no codes of inception4e:full"):
        after.read_set(points, [], settings(site_of(inception, "inception4e:full"), 1))
    with pytest.raises(WidthError, match="gates need"):
        after.read_set(points, [], settings(after.later[0], 3))
    with pytest.raises(UsageError, match="within a sequence; give the TokenWindow"):
        network.tail(first)
