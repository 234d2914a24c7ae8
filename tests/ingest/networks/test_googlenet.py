"""The scalable GoogLeNet against torchvision's, preprocessing, and the two shipped networks."""

import json
import math
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torchvision.models import GoogLeNet, googlenet
from torchvision.transforms.v2.functional import normalize
from transformers import AutoModelForCausalLM, AutoTokenizer

from ingest.datasets.builtin import digit_images, python_texts
from ingest.networks.demo import GPT2_DIR, INCEPTIONV1_WEIGHTS
from ingest.networks.googlenet import build_googlenet, width_of
from ingest.networks.image_inputs import preprocess


@pytest.mark.parametrize("aux_logits", [False, True])
def test_width_1_draws_like_torchvision(aux_logits):
    """Width 1 is torchvisions network to the last random number."""
    torch.manual_seed(0)
    ours = build_googlenet(7, aux_logits=aux_logits).state_dict()
    torch.manual_seed(0)
    theirs = googlenet(weights=None, init_weights=True, num_classes=7, aux_logits=aux_logits).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_width_1_computes_like_torchvision():
    """Width 1 computes what torchvisions network computes."""
    ours = build_googlenet(5, transform_input=True).eval()
    theirs = GoogLeNet(5, aux_logits=False, transform_input=True, init_weights=False).eval()
    # As drawn, activations die out on their way: larger weights let the logits depend on the image.
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = ours(images)
        assert torch.equal(logits, theirs(images))
        assert not torch.allclose(logits[0], logits[1])
        ours.transform_input = False
        assert not torch.allclose(ours(images), logits)


@pytest.mark.parametrize("width", [0.125, 0.25])
def test_every_inner_channel_count_is_scaled(width):
    """Every channel count is scaled but the image and the classes."""
    narrow = build_googlenet(10, width=width, aux_logits=True)
    with torch.device("meta"):  # only its shapes are needed
        wide = GoogLeNet(10, aux_logits=True, init_weights=False).state_dict()
    fixed = {(3, 1): 3, (10, 0): 10}  # (channels, axis) of the image's channels and of the classes
    for name, tensor in narrow.state_dict().items():
        channels = wide[name].shape[:2]
        assert [*tensor.shape[:2]] == [fixed.get((n, axis), n * width) for axis, n in enumerate(channels)], name
        assert tensor.shape[2:] == wide[name].shape[2:], name
    assert width_of(narrow.state_dict()) == width
    outputs = narrow.train()(torch.randn(2, 3, 64, 64))
    assert outputs.logits.shape == outputs.aux_logits1.shape == (2, 10)


def test_a_seed_fixes_the_weights():
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([tensor.flatten() for tensor in build_googlenet(3, width=0.125).parameters()])

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("width", [0.1, 0.0, -1.0])
def test_width_of_part_channels_is_refused(width):
    """Widths without whole channels are refused."""
    with pytest.raises(ValueError, match="expected a whole number above 0"):
        build_googlenet(10, width=width)


def test_width_of_refuses_another_network():
    with pytest.raises(ValueError, match=r"conv1\.conv\.weight"):
        width_of({"fc.weight": torch.zeros(2, 2)})


def test_preprocess_normalises_plain_colour():
    """Preprocess normalises a plain colour."""
    (pixels,) = preprocess([Image.new("RGB", (7, 5), (255, 0, 51))], 4, mean=[0.5, 0.25, 0.2], std=[0.5, 0.25, 1.0])
    expected = torch.tensor([1.0, -1.0, 0.0])
    assert torch.allclose(pixels, expected[:, None, None].expand(3, 4, 4), atol=1e-6)


def test_preprocess_squeezes_the_whole_image():
    """Preprocess squeezes all of the image into the square."""
    wide = np.zeros((8, 32), dtype=np.uint8)
    wide[:, 24:] = 255  # the last quarter of the width; a crop to the centre would lose it
    (pixels,) = preprocess([Image.fromarray(wide)], 8, mean=[0.0] * 3, std=[1.0] * 3)
    assert pixels.shape == (3, 8, 8)
    assert pixels[:, :, 7].min() > 0.9 and pixels[:, :, :5].max() < 0.1
    assert torch.equal(pixels[0], pixels[2])


def test_preprocess_of_nothing_is_empty():
    """Preprocess of nothing is an empty batch."""
    assert preprocess([], 8, mean=[0.0] * 3, std=[1.0] * 3).shape == (0, 3, 8, 8)


def test_shipped_net_reads_heldout_digits():
    """The shipped digit network reads digits it was not trained on."""
    with safe_open(INCEPTIONV1_WEIGHTS, "pt") as file:
        metadata = file.metadata()
    weights = load_file(INCEPTIONV1_WEIGHTS)
    classes = metadata["classes"].split()
    model = build_googlenet(len(classes), width=width_of(weights)).eval()
    model.load_state_dict(weights)
    heldout = list(digit_images("heldout"))[::2]
    mean, std = ([float(number) for number in metadata[name].split()] for name in ("mean", "std"))
    with torch.inference_mode():
        logits = model(preprocess([item.image for item in heldout], int(metadata["size"]), mean, std))
    named = [classes[index] for index in logits.argmax(dim=1).tolist()]
    right = sum(name == item.label for name, item in zip(named, heldout, strict=True))
    assert right / len(heldout) >= 0.95


def test_preprocess_as_in_the_training():
    """Preprocess is what the digits were normalised with."""
    images = [item.image for item in islice(digit_images("train"), 3)]
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    plain = preprocess(images, 64, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.allclose(preprocess(images, 64, mean, std), normalize(plain, mean, std))


def test_shipped_gpt2_predicts_heldout_text():
    """The shipped gpt2 has learnt to predict text it was not trained on."""
    tokenizer = AutoTokenizer.from_pretrained(GPT2_DIR)
    model = AutoModelForCausalLM.from_pretrained(GPT2_DIR).eval()
    assert model.dtype == torch.float32
    sample = [item.text for item in islice(python_texts("heldout"), 12)]
    windows = [[tokenizer.bos_token_id, *tokenizer.encode(text)][:256] for text in sample]
    tokens = torch.tensor([window for window in windows if len(window) == 256])
    assert len(tokens) > 8
    with torch.inference_mode():
        logits = model(tokens[:, :-1]).logits
    loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert loss < math.log(len(tokenizer)) / 2  # half of what a guess among all tokens costs


def test_shipped_gpt2_is_a_whole_folder():
    """The shipped gpt2 is a complete folder."""
    config = json.loads((GPT2_DIR / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(GPT2_DIR)
    assert (config["n_layer"], config["n_embd"], config["n_positions"]) == (4, 128, 256)
    assert config["vocab_size"] == len(tokenizer) == 2048
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    assert config["bos_token_id"] == config["eos_token_id"] == tokenizer.bos_token_id
    text = "def f(x):\n\treturn 'naïve – 日本'\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_shipped_networks_are_small():
    """The shipped networks fit their budget."""
    files = [INCEPTIONV1_WEIGHTS, *GPT2_DIR.iterdir()]
    assert sum(file.stat().st_size for file in files) < 3.6 * 2**20
