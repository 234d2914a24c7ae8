"""Networks small enough to make for every run: random weights, a byte-level tokenizer, the real architectures."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.networks.googlenet import build_googlenet, preprocess

END = "<|endoftext|>"
VOCABULARY = 300
CONTEXT = 64
IMAGE_SIZE = 64
LAB = Path(__file__).parents[3] / "shared" / "lab"


@pytest.fixture(scope="session")
def lab() -> Path:
    """Real trained networks; they lie beside the repository, not in it."""
    if not LAB.is_dir():
        pytest.skip(f"no trained networks at {LAB}")
    return LAB


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an architecture to a folder with a random model of it, as `save_pretrained` writes."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def folder(architecture: str) -> Path:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(architecture))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Ten times the usual spread: preactivations far enough from zero for their signs to be beyond
                # float error, and next-token distributions that differ between tokens.
                if parameter.ndim > 1:
                    parameter.mul_(10)
                elif name.endswith("bias"):
                    parameter.normal_(std=0.1)
        path = root / architecture
        model.save_pretrained(path)
        _tokenizer().save_pretrained(path)
        return path

    return folder


def _config(architecture: str) -> Any:
    import transformers as hf

    gpt2_like: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    llama_like: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    made = {
        "gpt2": lambda: hf.GPT2Config(**gpt2_like),
        "llama": lambda: hf.LlamaConfig(**llama_like, num_key_value_heads=2),
        "qwen2": lambda: hf.Qwen2Config(**llama_like, num_key_value_heads=2),
        "gpt_neox": lambda: hf.GPTNeoXConfig(**llama_like),
        "phi3": lambda: hf.Phi3Config(**llama_like, num_key_value_heads=2),
        "mixtral": lambda: hf.MixtralConfig(**llama_like, num_key_value_heads=2, num_local_experts=4),
        "mamba": lambda: hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2),
        "tanh": lambda: hf.GPT2Config(**gpt2_like, activation_function="tanh"),
    }
    return made[architecture]()


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, and the dog sat on the log"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, model_max_length=CONTEXT)


@pytest.fixture(scope="session")
def noise() -> list[Image.Image]:
    """Images of coarse coloured noise, of a size that needs resizing."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (9, 12, 16, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((96, 72)) for image in pixels]


@pytest.fixture(scope="session")
def narrow_inception(tmp_path_factory: pytest.TempPathFactory, noise: list[Image.Image]) -> Path:
    """A GoogLeNet a quarter as wide, 10 classes, with auxiliary classifiers and lively batch norms."""
    torch.manual_seed(0)
    model = build_googlenet(10, width=0.25, aux_logits=True).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, mean=1, std=0.2)
            torch.nn.init.normal_(module.bias, std=0.5)
            module.momentum = None
    torch.nn.init.normal_(model.fc.weight)
    with torch.no_grad():
        model(preprocess(noise, IMAGE_SIZE, (0.5,) * 3, (0.25,) * 3))
    path = tmp_path_factory.mktemp("inception") / "narrow.pt"
    torch.save(model.state_dict(), path)
    return path
