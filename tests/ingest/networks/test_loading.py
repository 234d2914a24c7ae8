"""Loading: the meaning of --weights, what does not fit, controls, reloading, and hubs that do not answer."""

import os
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from atlas.errors import HubUnavailable, UnsupportedNetwork, UsageError, WeightsError
from atlas.network import ImageView, TokenWindow
from ingest.networks import load_network, reload_network
from ingest.networks.image_inputs import MOST_NAME_BYTES, class_names
from ingest.networks.loading import weights_digest
from ingest.networks.registry import ADAPTERS, adapter_of

INCEPTION = {"device": "cpu", "image_size": 64}


def inception(weights, **options):
    return load_network("inceptionv1", weights=str(weights), **INCEPTION | options)


@pytest.fixture
def state(narrow_inception):
    return torch.load(narrow_inception, weights_only=True)


@pytest.fixture
def saved(tmp_path):
    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


# Devices and arguments


def test_absent_device_names_present_ones(tiny_model):
    """An absent device names those that are there."""
    absent = next(name for name in ("mps", "cuda") if not getattr(torch, name).is_available())
    with pytest.raises(UsageError, match=f'device "{absent}" was asked for, and torch finds no'):
        load_network(str(tiny_model("gpt2")), device=absent)
    with pytest.raises(UsageError, match="device is 'tpu'; expected auto, cpu, cuda or mps"):
        load_network("demo:inceptionv1", device="tpu")


def test_options_of_other_kind_are_refused(tiny_model, noise):
    """Options of the other kind are refused."""
    with pytest.raises(UsageError, match="inceptionv1 is an image network; it has no prepend_bos, max_length"):
        load_network("inceptionv1", prepend_bos=True, max_length=4)
    with pytest.raises(UsageError, match="is a text network; it has no image_size, calibration"):
        load_network(str(tiny_model("gpt2")), image_size=64, calibration=noise)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"image_size": 0}, "image_size 0"), ({"mean": [1, 2]}, "mean"), ({"std": [1, 0, 1]}, "above 0")],
)
def test_impossible_image_options_refused(narrow_inception, option, message):
    """Impossible image options are refused."""
    with pytest.raises(UsageError, match=message):
        inception(narrow_inception, **option)


# Weights that do not fit


def test_names_that_do_not_fit_are_listed(state, saved):
    del state["inception4b.branch1.conv.weight"]
    state["stranger"] = torch.zeros(1)
    state["conv2.bn.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError) as caught:
        inception(saved(state))
    message = str(caught.value)
    assert "1 missing (inception4b.branch1.conv.weight)" in message
    assert "1 unexpected (stranger)" in message
    assert "conv2.bn.bias: (7,) for (16,)" in message


def spoilt(state, change):
    return state | {"conv1.conv.weight": change(state["conv1.conv.weight"])}


def quantised(weight):
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:TypedStorage", "ignore:Validating sparse")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, "other things than tensors.*epoch, state_dict"),
        (lambda state: list(state.values()), "hold a list; expected a state dict"),
        (lambda state: torch.nn.Linear(2, 2), "more than tensors"),
        (lambda state: {"layer.weight": torch.zeros(1)}, "no 'conv1.conv.weight'"),
        (lambda state: state | {"conv1.conv.weight": torch.zeros(3, 3, 7, 7)}, "whole number"),
        (lambda state: {k: v for k, v in state.items() if k != "fc.weight"}, "no matrix 'fc.weight'"),
        (lambda state: state | {"fc.weight": torch.tensor(1.0)}, "no matrix 'fc.weight'"),
        (lambda state: state | {"conv1.conv.weight": torch.tensor(1.0)}, "a single number"),
        (lambda state: dict(enumerate(state.values())), "called 0, 1, 10, …, which are no names"),
        (lambda state: spoilt(state, quantised), "conv1.conv.weight is of qint8"),
        (lambda state: spoilt(state, torch.Tensor.char), "conv1.conv.weight is of int8"),
        (lambda state: spoilt(state, torch.Tensor.to_sparse), "of layout sparse_coo"),
        (lambda state: spoilt(state, lambda w: w.to("meta")), "a shape without numbers"),
        (lambda state: spoilt(state, lambda w: w.to(torch.complex64)), "of complex64"),
        (lambda state: spoilt(state, lambda w: torch.zeros(1).expand(1 << 30, 3, 7, 7)), "the file holds 4 bytes"),
    ],
)
def test_files_of_another_kind_are_explained(state, saved, spoil, message):
    with pytest.raises(WeightsError, match=message):
        inception(saved(spoil(state)))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_torchscript_archive_is_explained(tmp_path):
    """A program is not run for its weights: it is said what it is, and what to save."""
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "program.pt")
    with pytest.raises(WeightsError, match=r"program\.pt are a TorchScript archive.* expected what `torch\.save"):
        inception(tmp_path / "program.pt")


def test_unreadable_files_are_explained(tmp_path):
    (tmp_path / "text.pt").write_text("hello, this is text", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"can't be read \(KeyError: 101\)"):
        inception(tmp_path / "text.pt")
    for name, message in [
        ("broken.pt", "can't be read|damaged"),
        ("broken.safetensors", "safetensors"),
        ("weights.h5", "end in '.h5'"),
    ]:
        (tmp_path / name).write_bytes(b"not a file of weights")
        with pytest.raises(WeightsError, match=message):
            inception(tmp_path / name)
    with pytest.raises(WeightsError, match="no such file"):
        inception(tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match="is a folder"):
        inception(tmp_path)
    with pytest.raises(UsageError, match="random:0"):
        inception("random")


def test_class_names_must_match_the_outputs(narrow_inception, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(WeightsError, match="2 class names for 10 outputs"):
        inception(narrow_inception, classes=names)
    names.write_bytes(b"\xef\xbb\xbfcat\ndog\n")  # with a byte-order mark
    assert class_names(names) == ("cat", "dog")
    names.write_text("crane\ndog\ncrane\n")
    assert class_names(names) == ("crane (0)", "dog", "crane (2)")
    names.write_text("cat\ncat\ncat (0)\n")
    with pytest.raises(UsageError, match=r"'cat \(0\)' occurs more than once"):
        inception(narrow_inception, classes=names)
    names.write_bytes(b"x" * (MOST_NAME_BYTES + 1))
    with pytest.raises(UsageError, match=r"has 16,000,001 bytes; at most 16,000,000 are read"):
        class_names(names)
    with pytest.raises(UsageError, match="can't be read"):
        inception(narrow_inception, classes=tmp_path / "absent.txt")


# Weights that do


def test_auxiliary_classifiers_are_dropped(state, saved, narrow_inception):
    assert any(name.startswith("aux1.") for name in state)
    bare = {name: value for name, value in state.items() if not name.startswith("aux")}
    assert inception(saved(bare)).info.weights_digest == inception(narrow_inception).info.weights_digest


def test_batches_need_not_be_counted(state, saved, narrow_inception):
    """Checkpoints from before torch 0.4.1 and of other programs count no batches, which evaluation doesn't use."""
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    counted = {name: value if name in without else torch.zeros_like(value) for name, value in state.items()}
    digests = {inception(saved(one)).info.weights_digest for one in (without, counted)}
    assert len(digests) == 1


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wrappers_prefix_is_taken_off(state, saved, narrow_inception, prefix):
    wrapped = {f"{prefix}{name}": value for name, value in state.items()}
    with pytest.warns(UserWarning, match=f"all names begin with '{prefix}', which is taken off"):
        network = inception(saved(wrapped))
    assert network.info.weights_digest == inception(narrow_inception).info.weights_digest
    with pytest.raises(WeightsError, match=r"no 'conv1\.conv\.weight'"):
        inception(saved(wrapped | {"fc.bias": state["fc.bias"]}))


@pytest.mark.parametrize("size", [1, 8, 14])
def test_images_must_outlast_the_pooling(size):
    with pytest.raises(UsageError, match=f"image_size {size} is impossible .* below 15 pixels"):
        load_network("demo:inceptionv1", image_size=size, device="cpu")
    smallest = load_network("demo:inceptionv1", image_size=15, device="cpu")
    assert {site.unit_shape[1:] for site in smallest.sites if site.name == "inception5b:full"} == {(1, 1)}


def test_formats_give_the_same_digest(state, tmp_path, saved):
    """Formats and precisions give the same digest."""
    rounded = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file(rounded, tmp_path / "half.safetensors")
    single = {name: value.float() if value.is_floating_point() else value for name, value in rounded.items()}
    digests = {inception(path).info.weights_digest for path in (tmp_path / "half.safetensors", saved(single))}
    assert len(digests) == 1


def test_digest_sees_every_part():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1, dtype=torch.int64)}
    others = [
        base | {"a": torch.zeros(3, 2)},
        base | {"a": torch.zeros(2, 3).index_fill(0, torch.tensor([1]), 1e-30)},
        base | {"b": torch.ones(1, dtype=torch.int32)},
        {"a": base["a"], "c": base["b"]},
    ]
    assert len({weights_digest(one) for one in (base, *others)}) == 5
    assert weights_digest(dict(reversed(base.items()))) == weights_digest(base)
    assert weights_digest({"scalar": torch.tensor(1.0)}) == weights_digest({"scalar": torch.tensor(1.0).double()})


def test_metadata_of_shipped_net_is_used(noise):
    """Metadata of the shipped network is honoured."""
    network = load_network("demo:inceptionv1", device="cpu")
    assert network.info.reading["image_size"] == 64
    assert network.classes == tuple("0123456789")
    assert (network.info.name, network.info.weights) == ("demo-inceptionv1", "demo")
    assert load_network("demo:inceptionv1", device="cpu", image_size=96).info.reading["image_size"] == 96
    control = load_network("demo:inceptionv1", device="cpu", weights="random-raw:1")
    assert [site.n_gates for site in control.sites] == [site.n_gates for site in network.sites]


def test_shipped_language_model():
    from ingest.networks.demo import GPT2_DIR

    if not (GPT2_DIR / "model.safetensors").exists():
        pytest.skip("the shipped GPT-2 has not been trained yet")
    network = load_network("demo:gpt2", device="cpu")
    assert (network.info.name, network.info.weights) == ("demo-gpt2", "demo")
    assert reload_network(network.info, device="cpu").info == network.info


def test_language_model_weights_by_path(tiny_model, tmp_path):
    """Language model weights from files and folders."""
    folder = tiny_model("gpt2")
    own = load_network(str(folder), device="cpu").info
    assert own.name == "gpt2" and own.weights == own.source == str(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), tmp_path / "full.pt")
    bare = {name.removeprefix("transformer."): value for name, value in model.transformer.state_dict().items()}
    torch.save(bare, tmp_path / "bare.bin")  # as OpenAI's own upload names them
    for weights in (folder, folder / "model.safetensors", tmp_path / "full.pt", tmp_path / "bare.bin"):
        network = load_network(str(folder), weights=str(weights), device="cpu")
        assert network.info.weights_digest == own.weights_digest
        assert network.info.weights == str(weights)


def test_language_model_misfits_are_listed(tiny_model, tmp_path):
    folder = tiny_model("gpt2")
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    del state["transformer.h.1.mlp.c_fc.weight"]
    state["transformer.h.0.mlp.c_fc.bias"] = torch.zeros(3)
    state["transformer.h.7.stranger"] = torch.zeros(3)
    torch.save(state, tmp_path / "misfit.pt")
    with pytest.raises(WeightsError) as caught:
        load_network(str(folder), weights=str(tmp_path / "misfit.pt"), device="cpu")
    message = str(caught.value)
    assert "missing (transformer.h.1.mlp.c_fc.weight)" in message
    assert "unexpected (transformer.h.7.stranger)" in message
    assert "transformer.h.0.mlp.c_fc.bias: (3,) for (128,)" in message
    with pytest.raises(WeightsError, match=r"don't fit|can't be loaded"):
        load_network(str(folder), weights=str(tiny_model("llama")), device="cpu")


def test_folder_that_is_no_model_explained(tmp_path, tiny_model):
    """Folders that are no model are explained."""
    with pytest.raises(UnsupportedNetwork, match="no configuration"):
        load_network(str(tmp_path), device="cpu")
    (tmp_path / "config.json").write_bytes((tiny_model("gpt2") / "config.json").read_bytes())
    with pytest.raises(UnsupportedNetwork, match="tokenizer"):
        load_network(str(tmp_path), device="cpu")


# Controls


def test_language_controls(tiny_model):
    folder = str(tiny_model("gpt2"))
    infos = {
        weights: load_network(folder, weights=weights, device="cpu").info
        for weights in ("random:0", "random-raw:0", "random:1")
    }
    assert infos["random:0"].name == "gpt2-random-0" and infos["random-raw:0"].name == "gpt2-random-raw-0"
    # Without batch norm the two controls are one.
    assert infos["random:0"].weights_digest == infos["random-raw:0"].weights_digest
    assert infos["random:0"].weights_digest != infos["random:1"].weights_digest
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert load_network(folder, weights="random:0", device="cpu").info == infos["random:0"]
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers are left alone


def narrow_control(weights, calibration=None):
    return load_network("demo:inceptionv1", weights=weights, calibration=calibration, device="cpu")


def test_image_controls_are_drawn(noise):
    raw = [narrow_control(f"random-raw:{seed}").info for seed in (0, 0, 1)]
    assert raw[0] == raw[1] and raw[0].name == "demo-inceptionv1-random-raw-0"
    calibrated = [narrow_control("random:0", images).info for images in (noise, lambda: iter(noise), noise[:4])]
    assert calibrated[0] == calibrated[1] and calibrated[0].name == "demo-inceptionv1-random-0"
    digests = {info.weights_digest for info in (*raw, *calibrated)}
    assert len(digests) == 4
    with pytest.raises(UsageError, match=r"random:0 need inputs to calibrate.*random-raw:0"):
        narrow_control("random:0")
    with pytest.raises(UsageError, match="got 1 inputs"):
        narrow_control("random:0", noise[:1])
    with pytest.raises(UsageError, match="are for random:SEED"):
        narrow_control("random-raw:0", noise)


def test_calibration_takes_image_statistics(noise):
    """Calibration statistics are those of the images."""
    network = narrow_control("random:0", noise)
    pixels = network.prepare([ImageView(image) for image in noise]).double()
    convolved = network.model.conv1.conv.double()(pixels)
    norm = network.model.conv1.bn
    torch.testing.assert_close(norm.running_mean.double(), convolved.mean((0, 2, 3)), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(norm.running_var.double(), convolved.var((0, 2, 3)), rtol=1e-6, atol=1e-9)
    assert not network.model.training


# Reloading


def test_reloading_gives_the_same_network(tiny_model, narrow_inception, noise):
    text = load_network(str(tiny_model("gpt2")), device="cpu", max_length=20, prepend_bos=False, name="mine")
    again = reload_network(text.info, device="cpu")
    assert again.info == text.info and again.windows(30) == text.windows(30)
    window = TokenWindow(np.arange(1, 15), np.arange(14))
    codes = [net.read([window], net.sites, []).codes["blocks.2.mlp"] for net in (text, again)]
    np.testing.assert_array_equal(*codes)
    image = inception(narrow_inception, classes=list("abcdefghij"), mean=[0.1, 0.2, 0.3])
    again = reload_network(image.info, device="cpu")
    assert again.info == image.info and again.classes == image.classes
    control = narrow_control("random:3", noise)
    assert reload_network(control.info, device="cpu", calibration=noise).info == control.info


def test_reloading_refuses_other_weights(tiny_model, narrow_inception, state, saved, tmp_path):
    info = inception(narrow_inception).info
    copied = saved(state, "moved.pt")
    assert reload_network(info, str(copied), device="cpu").info.weights_digest == info.weights_digest
    state["fc.bias"][0] += 1
    changed = saved(state, "changed.pt")
    with pytest.raises(WeightsError) as caught:
        reload_network(info, str(changed), device="cpu")
    message = str(caught.value)
    assert str(narrow_inception) in message and str(changed) in message and info.weights_digest[:12] in message
    gone = replace(info, weights=str(tmp_path / "gone.pt"))
    with pytest.raises(WeightsError, match="no such file"):
        reload_network(gone, device="cpu")
    control = load_network(str(tiny_model("gpt2")), weights="random:0", device="cpu").info
    with pytest.raises(WeightsError, match="was made with weights random:0"):
        reload_network(control, "random:1", device="cpu")


# Hubs


def test_silent_hubs_are_reported(tmp_path, monkeypatch):
    """And a wish to stay offline is respected. A proxy at a port where nothing listens stands for no connection."""
    nowhere = "http://127.0.0.1:9"
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", nowhere)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = []
    for source, offline in (("gpt2", False), ("inceptionv1", False), ("gpt2", True)):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(HubUnavailable) as raised:
            load_network(source)
        told.append(str(raised.value))
    hf, torchvision, offline = told
    assert "'gpt2' is no folder here" in hf and "HF_HUB_OFFLINE" not in hf
    assert "https://download.pytorch.org/models/googlenet-1378be20.pth" in torchvision
    assert "pass its path as the weights" in torchvision
    assert "HF_HUB_OFFLINE is set" in offline
    assert all("hf download gpt2 --local-dir FOLDER" in message for message in (hf, offline))


@pytest.mark.parametrize("source", [*ADAPTERS, "a/folder"])
def test_adapter_has_options_and_load(source):
    """What the registry's adapters must hold: options that all default to None, and a function that loads."""
    module = adapter_of(source).module
    assert callable(module.load)
    assert all(option.default is None for option in fields(module.Options))


def test_names_that_no_hub_could_have(tmp_path):
    with pytest.raises(UsageError, match="neither a folder here nor a name"):
        load_network(str(tmp_path / "no" / "such" / "folder"), device="cpu")
