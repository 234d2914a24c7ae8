"""Language models: what the adapter reads against a plain Hugging Face forward pass with plain hooks."""

import copy
import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.activations import ACT2FN

from atlas.codes import SplineCodes
from atlas.errors import BadInput, UnknownName, UnsupportedNetwork, UsageError
from atlas.network import Site, TextNetwork, TokenWindow
from ingest.datasets.sources import open_dataset
from ingest.networks import load_network
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling

# Two ways to add up one dot product differ by less than this; a sign means nothing below.
NOISE = 1e-4


@pytest.fixture(scope="module")
def network(tiny_model):
    return load_network(str(tiny_model("gpt2")), device="cpu")


def window(length, positions, seed=0, following=7):
    ids = np.random.default_rng(seed).integers(1, 300, length)
    return TokenWindow(ids, np.asarray(positions, dtype=np.int64), following)


def plain_pass(folder, windows, gate_module, hidden_module, bos):
    """Preactivations, hidden vectors and logits at the windows' positions, one window at a time, without our code."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    taken = {}
    for name, module in model.named_modules():
        if name.endswith(gate_module):
            module.register_forward_hook(lambda _m, _i, out, name=name: taken.__setitem__((name, "z"), out[0]))
        if name.endswith(hidden_module):
            module.register_forward_pre_hook(lambda _m, args, name=name: taken.__setitem__((name, "a"), args[0][0]))
    columns, logits = {}, []
    for item in windows:
        shift = int(bos)
        ids = torch.tensor([[0] * shift + item.ids.tolist()])
        with torch.inference_mode():
            logits.append(model(ids, use_cache=False).logits[0, item.positions + shift])
        for key, values in taken.items():
            columns.setdefault(key, []).append(values[item.positions + shift])
    columns = {key: torch.cat(parts).numpy() for key, parts in columns.items()}
    gates = [values for (_, kind), values in columns.items() if kind == "z"]
    hidden = [values for (_, kind), values in columns.items() if kind == "a"]
    return gates, hidden, torch.cat(logits)


def assert_same_gates(packed, preactivations):
    gates = SplineCodes(packed, (preactivations.shape[1],)).unpack()
    clear = np.abs(preactivations) > NOISE
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(gates[clear], (preactivations > 0)[clear])


WINDOWS = [window(40, [0, 3, 39], 1), window(17, [16], 2, None), window(63, [5, 62], 3)]
MODULES = {
    "gpt2": ("mlp.c_fc", "mlp.c_proj", True),
    "llama": ("mlp.gate_proj", "mlp.down_proj", True),
    "qwen2": ("mlp.gate_proj", "mlp.down_proj", False),
    "gpt_neox": ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", False),
}


@pytest.mark.parametrize("architecture", MODULES)
def test_reads_what_a_plain_pass_computes(tiny_model, architecture):
    """Reads what a plain forward pass computes."""
    gate_module, hidden_module, bos = MODULES[architecture]
    folder = tiny_model(architecture)
    network = load_network(str(folder), device="cpu")
    assert network.info.reading["prepend_bos"] is bos
    reading = network.read(WINDOWS, network.sites, network.sites)
    gates, hidden, logits = plain_pass(folder, WINDOWS, gate_module, hidden_module, bos)
    assert len(gates) == len(hidden) == len(network.sites)
    for site, preactivations, activations in zip(network.sites, gates, hidden, strict=True):
        assert site.n_gates == site.n_units == preactivations.shape[1]
        assert_same_gates(reading.codes[site.name], preactivations)
        np.testing.assert_allclose(reading.activations[site.name], activations, rtol=1e-3, atol=1e-4)
        assert reading.activations[site.name].dtype == np.float32
        assert reading.finite[site.name].all()
    probability = logits.softmax(1)
    np.testing.assert_allclose(reading.probability, probability.max(1).values, rtol=1e-3)
    assert reading.prediction == [network.token_text(int(token)) for token in probability.argmax(1)]
    targets = [WINDOWS[0].ids[1], WINDOWS[0].ids[4], 7, None, WINDOWS[2].ids[6], 7]
    for row, target in enumerate(targets):
        if target is None:
            assert np.isnan(reading.loss[row])
        else:
            assert reading.loss[row] == pytest.approx(-float(probability[row, target].log()), rel=1e-3)


def test_phi3_splits_its_fused_gate(tiny_model):
    folder = tiny_model("phi3")
    network = load_network(str(folder), device="cpu")
    reading = network.read(WINDOWS, network.sites, network.sites)
    fused, hidden, _ = plain_pass(folder, WINDOWS, "mlp.gate_up_proj", "mlp.down_proj", True)
    for site, both, activations in zip(network.sites, fused, hidden, strict=True):
        gate, up = np.split(both, 2, axis=1)
        assert_same_gates(reading.codes[site.name], gate)
        expected = (ACT2FN["silu"](torch.from_numpy(gate)) * torch.from_numpy(up)).numpy()
        np.testing.assert_allclose(activations, expected, rtol=1e-3, atol=1e-4)


def test_padding_changes_nothing(network):
    together = network.read(WINDOWS, network.sites, network.sites)
    alone = [network.read([item], network.sites, network.sites) for item in WINDOWS]
    assert together.prediction == [token for reading in alone for token in reading.prediction]
    for site in network.sites:
        activations = np.concatenate([reading.activations[site.name] for reading in alone])
        np.testing.assert_allclose(together.activations[site.name], activations, rtol=1e-3, atol=1e-4)
        parts = [SplineCodes(reading.codes[site.name], (site.n_gates,)) for reading in alone]
        single = np.concatenate([part.unpack() for part in parts])
        padded = SplineCodes(together.codes[site.name], (site.n_gates,)).unpack()
        # GELU is flat in its left tail, so an activation near 0 does not tell that z is: count instead.
        assert (single != padded).mean() < 1e-3


def test_only_the_requested_sites_are_read(network):
    first, second, _ = network.sites
    reading = network.read(WINDOWS, [first], [second])
    assert set(reading.codes) == {first.name}
    assert set(reading.activations) == {second.name}
    assert set(reading.finite) == {first.name, second.name}


def test_no_hook_stays_behind(network):
    network.read(WINDOWS, network.sites, network.sites)
    assert not any(hook.has_hooks() for hook in network.bridge.hook_dict.values())


def test_sites_say_what_they_are(network):
    assert isinstance(network, TextNetwork)
    assert [site.name for site in network.sites] == [f"blocks.{i}.mlp" for i in range(3)]
    for ordinal, site in enumerate(network.sites):
        assert (site.ordinal, site.n_units, site.n_gates, site.unit_shape) == (ordinal, 128, 128, (128,))
        assert (site.nonlinearity, site.exact, site.scope) == ("gelu_new", False, "position")
        assert [(part.module, part.start, part.count) for part in site.layout] == [
            (f"blocks.{ordinal}.mlp.in", 0, 128)
        ]


def test_empty_batches_have_the_right_widths(network):
    for batch in ([], [window(5, [])]):
        reading = network.read(batch, network.sites, network.sites)
        assert reading.codes["blocks.0.mlp"].shape == (0, 16)
        assert reading.activations["blocks.0.mlp"].shape == (0, 128)
        assert reading.prediction == [] and reading.loss.shape == (0,)


def test_tokens_and_their_characters(network):
    text = "the cat naïvely sat ✓"
    tokens = network.tokenize(text)
    assert len(tokens.ids) == len(tokens.starts) == len(tokens.ends)
    spelled = "".join(network.token_text(int(token)) for token in tokens.ids if network.token_text(int(token)) != "�")
    assert spelled.startswith("the cat na")
    for token, start, end in zip(tokens.ids, tokens.starts, tokens.ends, strict=True):
        if "�" not in network.token_text(int(token)):
            assert text[start:end] == network.token_text(int(token))
    assert 0 not in tokens.ids  # no beginning-of-sequence token
    assert len(network.tokenize("").ids) == 0


def test_trimmed_tokens_keep_their_spaces(network, tiny_model, tmp_path):
    """A tokenizer that is set to cut spaces off what it says of a token: the network saw them."""
    folder = shutil.copytree(tiny_model("gpt2"), tmp_path / "trimming")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    text = "the cat  sat\n\non é mat "
    trimming, plain = load_network(str(folder), device="cpu").tokenize(text), network.tokenize(text)
    for ours, theirs in ((trimming.ids, plain.ids), (trimming.starts, plain.starts), (trimming.ends, plain.ends)):
        np.testing.assert_array_equal(ours, theirs)
    assert " cat" in [text[a:b] for a, b in zip(trimming.starts, trimming.ends, strict=True)]


def test_tokens_without_embedding_are_bad(tiny_model, tmp_path):
    """Of a tokenizer that was added to: the input is named, and can be left out."""
    folder = shutil.copytree(tiny_model("gpt2"), tmp_path / "added")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra {number}>" for number in range(40)])
    tokenizer.save_pretrained(folder)
    network = load_network(str(folder), device="cpu")
    assert network.tokenize("the cat <extra 1>").ids.max() < 300
    with pytest.raises(BadInput, match=r"<extra 39>.* has rows for tokens below 300"):
        network.tokenize("the cat <extra 39>")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "good.txt").write_text("the cat sat on the mat", encoding="utf-8")
    (tmp_path / "texts" / "past.txt").write_text("the cat <extra 39> sat on the mat", encoding="utf-8")
    texts = open_dataset(str(tmp_path / "texts"), kind="text")
    choices = Choices(tokens=TokenSampling(per_sequence=2, skip_first=0))
    with pytest.raises(BadInput, match=r"past\.txt"):
        ingest(tmp_path / "a", network, texts, choices, cluster=False)
    done = ingest(tmp_path / "a", network, texts, replace(choices, skip_bad=True), cluster=False)
    assert [key for key, _ in done.bad] == ["past.txt"] and done.n_examples == 2


def test_precision_and_shards_change_no_name(tiny_model, tmp_path):
    """Half precision is read as the float32 of the same values, and shards as one file."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model("gpt2"))
    digests = {}
    for name, dtype, size in (
        ("bf16", torch.bfloat16, "1GB"),
        ("rounded", None, "1GB"),
        ("whole", torch.float32, "1GB"),
        ("shards", torch.float32, "50KB"),
    ):
        folder = tmp_path / name
        written = copy.deepcopy(model)
        written = written.bfloat16().float() if dtype is None else written.to(dtype)
        written.save_pretrained(folder, max_shard_size=size)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_model("gpt2") / file, folder / file)
        digests[name] = load_network(str(folder), device="cpu").info.weights_digest
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert digests["bf16"] == digests["rounded"] != digests["whole"] == digests["shards"]


def test_long_texts_are_not_cut(network):
    """Long texts are neither cut nor warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(network.tokenize("the cat " * 500).ids) > 500


def test_windows_leave_room_for_bos(network, tiny_model):
    """Windows leave room for the beginning."""
    assert network.windows(130) == [range(0, 63), range(63, 126), range(126, 130)]
    assert network.windows(126)[-1] == range(63, 126)
    assert network.windows(0) == []
    bare = load_network(str(tiny_model("gpt2")), device="cpu", prepend_bos=False, max_length=10)
    assert bare.windows(12) == [range(0, 10), range(10, 12)]
    assert bare.info.reading == {"prepend_bos": False, "max_length": 10, "processed_weights": False}


def test_bos_changes_the_reading(network, tiny_model):
    """Beginning of sequence changes the reading."""
    bare = load_network(str(tiny_model("gpt2")), device="cpu", prepend_bos=False)
    codes = [net.read(WINDOWS, [net.sites[-1]], []).codes["blocks.2.mlp"] for net in (network, bare)]
    assert (codes[0] != codes[1]).any()


def test_a_left_padder_reads_the_same(network, tiny_model, tmp_path):
    """A tokenizer that pads on the left, as those made for generating do: windows are padded by us."""
    folder = shutil.copytree(tiny_model("gpt2"), tmp_path / "left")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"padding_side": "left"}), encoding="utf-8")
    left = load_network(str(folder), device="cpu")
    readings = [net.read(WINDOWS, net.sites, net.sites) for net in (network, left)]
    for site in network.sites:
        for kept in ("codes", "activations"):
            one, other = (getattr(reading, kept)[site.name] for reading in readings)
            np.testing.assert_array_equal(one, other)


def test_a_written_bos_is_an_example(network, tiny_model):
    """Where a text spells it out it is a token of the text; what follows is read as if it had been put in front."""
    bare = load_network(str(tiny_model("gpt2")), device="cpu", prepend_bos=False)
    tokens = bare.tokenize("<|endoftext|>the cat sat")
    assert tokens.ids[0] == 0 and (tokens.starts[0], tokens.ends[0]) == (0, len("<|endoftext|>"))
    written = bare.read([TokenWindow(tokens.ids, np.arange(1, len(tokens.ids)))], bare.sites, [])
    put = network.read([TokenWindow(tokens.ids[1:], np.arange(len(tokens.ids) - 1))], network.sites, [])
    for site in network.sites:
        np.testing.assert_array_equal(written.codes[site.name], put.codes[site.name])
    assert bare.read([TokenWindow(tokens.ids, np.array([0]))], bare.sites, []).codes["blocks.0.mlp"].shape == (1, 16)


def test_impossible_windows_are_refused(network):
    with pytest.raises(UsageError, match=r"64 tokens.*at most 63"):
        network.read([window(64, [0])], network.sites, [])
    with pytest.raises(UsageError, match=r"positions 5 to 5.*0 to 4"):
        network.read([window(5, [5])], network.sites, [])
    with pytest.raises(UsageError, match="knows 0 to 299"):
        network.read([TokenWindow(np.array([300]), np.array([0]))], network.sites, [])
    with pytest.raises(UnknownName, match=r"blocks\.9\.mlp.*blocks\.0\.mlp"):
        network.read(WINDOWS, [Site("blocks.9.mlp", 9, 1, 1, "relu", False)], [])


@pytest.mark.parametrize("max_length", [0, 1, 65])
def test_impossible_lengths_are_refused(tiny_model, max_length):
    with pytest.raises(UsageError, match="expected 2 to 64"):
        load_network(str(tiny_model("gpt2")), device="cpu", max_length=max_length)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("mixtral", "4 experts"), ("mamba", "no MLP"), ("tanh", "says tanh.*expected one of gelu")],
)
def test_networks_without_a_code_are_refused(tiny_model, architecture, reason):
    with pytest.raises(UnsupportedNetwork, match=reason) as caught:
        load_network(str(tiny_model(architecture)), device="cpu")
    assert architecture in str(caught.value)


def test_nan_shows_from_its_block_on(tiny_model, tmp_path):
    """Nan weights show from their block on."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model("gpt2"))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 5] = float("nan")
    torch.save(model.state_dict(), tmp_path / "nan.pt")
    network = load_network(str(tiny_model("gpt2")), weights=str(tmp_path / "nan.pt"), device="cpu")
    reading = network.read(WINDOWS, network.sites, network.sites)
    assert [bool(reading.finite[site.name].any()) for site in network.sites] == [True, False, False]
    assert reading.finite["blocks.0.mlp"].all()
    # The one unit that is no number is off; its neighbours are read as ever.
    assert not SplineCodes(reading.codes["blocks.1.mlp"], (128,)).unpack()[:, 5].any()


def test_lab_network_can_be_read(lab):
    network = load_network(str(lab / "gpt2-lab"), device="cpu")
    assert network.info.reading == {"prepend_bos": True, "max_length": 256, "processed_weights": False}
    text = next(path for path in sorted((lab / "texts").glob("*/*.txt")) if path.stat().st_size > 4000).read_text()
    tokens = network.tokenize(text)
    windows = [
        TokenWindow(tokens.ids[part.start : part.stop], np.array([0, 100, part.stop - part.start - 1]))
        for part in network.windows(min(len(tokens.ids), 700))
    ]
    reading = network.read(windows, network.sites, network.sites)
    gates, hidden, _ = plain_pass(lab / "gpt2-lab", windows, "mlp.c_fc", "mlp.c_proj", True)
    for site, preactivations, activations in zip(network.sites, gates, hidden, strict=True):
        assert_same_gates(reading.codes[site.name], preactivations)
        np.testing.assert_allclose(reading.activations[site.name], activations, rtol=1e-3, atol=1e-4)
    on = [
        SplineCodes(reading.codes[site.name], (site.n_gates,)).n_active().mean() / site.n_gates
        for site in network.sites
    ]
    assert np.mean(on) < 0.25  # its codes are sparse


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_reads_as_the_cpu_does(tiny_model, network):
    on_cuda = load_network(str(tiny_model("gpt2")), device="cuda")
    assert on_cuda.info == network.info
    readings = [net.read(WINDOWS, net.sites, net.sites) for net in (network, on_cuda)]
    for site in network.sites:
        np.testing.assert_allclose(*(reading.activations[site.name] for reading in readings), rtol=1e-3, atol=1e-3)
        differing = np.bitwise_count(readings[0].codes[site.name] ^ readings[1].codes[site.name]).sum()
        assert differing <= 1e-3 * 6 * site.n_gates
