"""One token of a language model run onward, against plain passes of transformers' own model, without the bridge.

Points lie away from the activation. There are more of them than positions in a sequence, and more tokens before than
the windows of sliding attention.
"""

import re

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from atlas.codes import SplineCodes
from atlas.errors import UnsupportedNetwork
from atlas.network import TokenWindow
from ingest.networks import load_network

GATES_AND_OUT = {
    "gpt2": ("c_fc", "c_proj"),
    "gpt_bigcode": ("c_fc", "c_proj"),
    "gptj": ("fc_in", "fc_out"),
    "codegen": ("fc_in", "fc_out"),
    "gpt_neo": ("c_fc", "c_proj"),
    "gpt_neox": ("dense_h_to_4h", "dense_4h_to_h"),
    "opt": ("fc1", "fc2"),
    "xglm": ("fc1", "fc2"),
    "bloom": ("dense_h_to_4h", "dense_4h_to_h"),
    "mpt": ("up_proj", "down_proj"),
    "falcon": ("dense_h_to_4h", "dense_4h_to_h"),
    "falcon_alibi": ("dense_h_to_4h", "dense_4h_to_h"),
    "llama": ("gate_proj", "down_proj"),
    "mistral": ("gate_proj", "down_proj"),
    "qwen2": ("gate_proj", "down_proj"),
    "qwen3": ("gate_proj", "down_proj"),
    "phi": ("fc1", "fc2"),
    "phi3": ("gate_up_proj", "down_proj"),
    "gemma": ("gate_proj", "down_proj"),
    "gemma2": ("gate_proj", "down_proj"),
    "gemma3": ("gate_proj", "down_proj"),
    "stablelm": ("gate_proj", "down_proj"),
    "olmo2": ("gate_proj", "down_proj"),
    "cohere2": ("gate_proj", "down_proj"),
    "starcoder2": ("c_fc", "c_proj"),
    "glm": ("gate_up_proj", "down_proj"),
    "nemotron": ("up_proj", "down_proj"),
}
"""What transformers calls the layer that makes an MLP's gates, and the one that its hidden vector enters."""

POINTS = 70
IDS = np.random.default_rng(1).integers(2, 300, 24)


def plain_passes(folder, names, tokens, points):
    """Logits of the last token, and preactivations of each block; the first MLP's hidden vector is replaced there."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    gates, out = names
    layers = {
        (int(found[1]), found[2]): module
        for name, module in model.named_modules()
        if (found := re.search(rf"\.(\d+)\.(?:mlp\.|ffn\.)?({gates}|{out})$", name))
    }
    seen = {}

    def replace(_module, inputs):
        hidden = inputs[0].reshape(len(points), -1, points.shape[1]).clone()
        hidden[:, -1] = points
        return (hidden.reshape(inputs[0].shape),)

    def keep(block):
        def hook(_module, _inputs, z):
            seen[block] = z.reshape(len(points), -1, z.shape[-1])[:, -1, : points.shape[1]]

        return hook

    layers[0, out].register_forward_pre_hook(replace)
    for block, name in layers:
        if name == gates:
            layers[block, name].register_forward_hook(keep(block))
    with torch.no_grad():
        logits = model(torch.tensor([tokens] * len(points)), use_cache=False).logits[:, -1]
    return logits, seen


@pytest.mark.parametrize("architecture", GATES_AND_OUT)
def test_tails_agree_with_plain_passes(tiny_model, architecture):
    folder = tiny_model(architecture)
    network = load_network(str(folder), device="cpu", prepend_bos=False)
    for place in (0, 20):
        tail = network.tail(network.sites[0], TokenWindow(IDS, np.array([place])))
        points = 3 * torch.randn(POINTS, tail.site.n_units, generator=torch.Generator().manual_seed(place))
        reading = tail.read(points, tail.later)
        logits, seen = plain_passes(folder, GATES_AND_OUT[architecture], IDS[: place + 1].tolist(), points)
        torch.testing.assert_close(torch.from_numpy(reading.logits), logits, rtol=1e-3, atol=1e-4)
        _, found = tail.preactivations(points, tail.later)
        for site in tail.later:
            z = seen[site.ordinal]
            torch.testing.assert_close(found[site.name].detach(), z, rtol=1e-3, atol=1e-4 * float(z.abs().max()))
            differ = SplineCodes(reading.codes[site.name], (site.n_gates,)).unpack() != (z > 0).numpy()
            assert (z.abs().numpy()[differ] <= 1e-5 * float(z.abs().max())).all()


def test_a_model_without_cache_is_refused(tiny_model):
    network = load_network(str(tiny_model("openai_gpt")), device="cpu")
    with pytest.raises(UnsupportedNetwork, match=r"OpenAIGPTLMHeadModel.*from blocks\.0\.mlp.*stores no keys"):
        network.tail(network.sites[0], TokenWindow(IDS, np.array([7])))


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neo"])
def test_a_tail_that_would_be_wrong_fails(tiny_model, architecture):
    """Stored values that are off stop nothing, but the whole sequence tells."""
    network = load_network(str(tiny_model(architecture)), device="cpu")
    keys = network.keys_of(torch.tensor([[0, *IDS[:5].tolist()]]))
    for layer in keys.layers:
        layer.values = layer.values * 1.5
    with pytest.raises(UnsupportedNetwork, match=r"blocks\.1\.mlp differ by up to .* of their size"):
        network.tail(network.sites[0], TokenWindow(IDS, np.array([5])))
