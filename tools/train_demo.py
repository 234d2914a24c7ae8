"""Trains the two networks that ship with the package, and writes them where the package looks for them.

    python tools/train_demo.py [gpt2|inceptionv1|all] [--minutes M]

Both learn from data that every installation carries (`ingest.datasets.builtin`), need no accelerator, and are judged
on the held-out part, as the written half-precision file makes them. On two cores the digits take about two minutes
and the text about a quarter of an hour. Seeds are fixed; what differs from run to run is the order of floating-point
sums, and the text is that of the running Python.
"""

import argparse
import math
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample
from torch.nn.utils.rnn import pad_sequence
from torchvision.transforms.v2.functional import normalize
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from ingest.datasets.builtin import BuiltinImage, digit_images, python_texts
from ingest.networks.demo import GPT2_DIR, INCEPTIONV1_WEIGHTS
from ingest.networks.googlenet import build_googlenet
from ingest.networks.image_inputs import preprocess

SEED = 0
THREADS = 2
REPORT_EVERY = 100  # steps
WARMUP = 0.03  # the part of a training run during which the learning rate climbs
CLIP = 1.0  # largest gradient norm, as in GPT-3's training (Brown et al. 2020, appendix B)

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 2048
CONTEXT = 256
TEXT_BATCH = 16  # windows of CONTEXT tokens
TEXT_STEPS = 3800  # what two cores do in about 17 minutes
TEXT_RATE = 2e-3  # GPT-3's 6e-4 at width 768, grown as 1/width to 3.6e-3, with a margin

DIGIT_WIDTH = 0.25
DIGIT_SIZE = 64
DIGIT_CLASSES = [str(digit) for digit in range(10)]
DIGIT_BATCH = 64
DIGIT_STEPS = 900  # about 48 passes over 1,198 images
DIGIT_RATE = 3e-3
IMAGENET_MEAN = [0.485, 0.456, 0.406]  # as in torchvision's presets for ImageNet weights
IMAGENET_STD = [0.229, 0.224, 0.225]


def train_gpt2(folder: Path, minutes: float | None = None) -> None:
    """Trains tokenizer and network on the standard library's text and writes them in Hugging Face's format."""
    torch.manual_seed(SEED)
    texts = defaultdict(list)
    for item in python_texts("train"):
        texts[item.label].append(item.text)
    tokenizer = _train_tokenizer(text for kind in texts.values() for text in kind)
    # One stream of tokens a kind, each text opened by the token that also ends the one before.
    end = tokenizer.token_to_id(END_OF_TEXT)
    streams = [
        torch.tensor([token for encoding in tokenizer.encode_batch(kind) for token in (end, *encoding.ids)])
        for kind in texts.values()
    ]
    print("training tokens:", {kind: len(stream) for kind, stream in zip(texts, streams, strict=True)})

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=128,
        n_layer=4,
        n_head=4,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        use_cache=False,
        architectures=["GPT2LMHeadModel"],
        dtype="float32",
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(_decayed(model, weight_decay=0.1), lr=TEXT_RATE, betas=(0.9, 0.95))
    # Source code is three quarters of the text; the square root leaves prose and tables their share.
    weights = torch.tensor([len(stream) for stream in streams]).sqrt()
    for step, done in _progress(TEXT_STEPS, minutes):
        windows = _sample_windows(streams, weights)
        with torch.autocast("cpu", torch.bfloat16):  # half as fast again as float32 where the processor knows it
            logits = model(windows[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())
        _update(model, optimizer, loss, _rate(TEXT_RATE, done))
        if step % REPORT_EVERY == 0:
            print(f"gpt2 step {step}: {loss.item():.3f} nats/token", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    # Half precision on disk; the configuration keeps float32, so that it is computed with in full.
    weights_on_disk = {name: tensor.half() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    metadata = {"format": "pt", "trained_on": _python()}
    (folder / "model.safetensors").write_bytes(save(weights_on_disk, metadata))
    config.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=CONTEXT
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)  # the same on one line: less than half the size


def report_gpt2(folder: Path) -> None:
    """Prints the loss of the network in `folder` on held-out text, for each kind and over all."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    counts: dict[str, Tensor] = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))
    for item in python_texts("heldout"):
        tokens = torch.tensor([tokenizer.bos_token_id, *tokenizer.encode(item.text, verbose=False)])
        figures = [text_nats(model, tokens), len(tokens) - 1, len(item.text.encode())]
        for kind in (item.label, "all"):
            counts[kind] += torch.tensor(figures, dtype=torch.float64)
    for kind in sorted(counts):
        nats, n_tokens, n_bytes = counts[kind].tolist()
        bits_per_byte = nats / math.log(2) / n_bytes
        print(f"gpt2 held-out {kind}: {nats / n_tokens:.3f} nats/token, {bits_per_byte:.3f} bits/byte,", end=" ")
        print(f"{n_tokens:.0f} tokens")


@torch.inference_mode()
def text_nats(model: nn.Module, tokens: Int[Tensor, " tokens"]) -> float:
    """Minus the log likelihood of all tokens but the first, each from those before it in its window of 256."""
    ignored = -100  # what `cross_entropy` leaves out: the last window may be shorter
    inputs = pad_sequence(tokens[:-1].split(CONTEXT), batch_first=True)
    targets = pad_sequence(tokens[1:].split(CONTEXT), batch_first=True, padding_value=ignored)
    nats = 0.0
    for window, target in zip(inputs.split(TEXT_BATCH), targets.split(TEXT_BATCH), strict=True):
        logits = model(window).logits
        nats += cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=ignored, reduction="sum").item()
    return nats


def train_inceptionv1(file: Path, minutes: float | None = None) -> None:
    """Trains a narrow GoogLeNet on the digits and writes its state dict, with how to feed it as metadata."""
    torch.manual_seed(SEED)
    pixels, labels = _digits(list(digit_images("train")))
    model = build_googlenet(len(DIGIT_CLASSES), width=DIGIT_WIDTH).train()
    optimizer = torch.optim.AdamW(_decayed(model, weight_decay=0.05), lr=DIGIT_RATE)
    for step, done in _progress(DIGIT_STEPS, minutes):
        chosen = torch.randint(len(pixels), (DIGIT_BATCH,))
        images = normalize(_jiggled(pixels[chosen]), IMAGENET_MEAN, IMAGENET_STD)
        loss = cross_entropy(model(images), labels[chosen], label_smoothing=0.1)
        _update(model, optimizer, loss, _rate(DIGIT_RATE, done))
        if step % REPORT_EVERY == 0:
            print(f"inceptionv1 step {step}: {loss.item():.3f} nats", flush=True)

    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    metadata = {
        "format": "pt",
        "classes": " ".join(DIGIT_CLASSES),
        "size": str(DIGIT_SIZE),
        "mean": " ".join(map(str, IMAGENET_MEAN)),
        "std": " ".join(map(str, IMAGENET_STD)),
    }
    file.write_bytes(save(weights, metadata))


def report_inceptionv1(file: Path) -> None:
    """Prints the accuracy of the network in `file` on held-out digits."""
    print(f"inceptionv1 held-out accuracy: {digit_accuracy(file):.2%}")


@torch.inference_mode()
def digit_accuracy(file: Path) -> float:
    """The share of held-out digits that the weights in `file`, read back to float32, name correctly."""
    model = build_googlenet(len(DIGIT_CLASSES), width=DIGIT_WIDTH).eval()
    model.load_state_dict(load_file(file))  # copies into float32
    pixels, labels = _digits(list(digit_images("heldout")))
    predicted = model(normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)).argmax(dim=1)
    return (predicted == labels).float().mean().item()


def _train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE as GPT-2's, of 2,048 tokens; any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _sample_windows(
    streams: list[Int[Tensor, " _"]], weights: Float[Tensor, " streams"]
) -> Int[Tensor, "batch window"]:
    """Windows of CONTEXT + 1 tokens at random places of streams drawn by weight."""
    chosen = [streams[int(kind)] for kind in torch.multinomial(weights, TEXT_BATCH, replacement=True)]
    starts = [int(torch.randint(len(stream) - CONTEXT, ())) for stream in chosen]
    return torch.stack([stream[start : start + CONTEXT + 1] for stream, start in zip(chosen, starts, strict=True)])


def _digits(items: list[BuiltinImage]) -> tuple[Float[Tensor, "images 3 size size"], Int[Tensor, " images"]]:
    """Pixels in 0..1, not yet normalised, and classes."""
    pixels = preprocess([item.image for item in items], DIGIT_SIZE, mean=[0.0] * 3, std=[1.0] * 3)
    return pixels, torch.tensor([DIGIT_CLASSES.index(item.label) for item in items])


def _jiggled(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
    """Each image turned by up to 12 degrees, scaled by up to 10 %, moved by up to an eighth; black moves in."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * math.radians(12)
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2, 1) * 2 - 1) * 0.25  # in half sides, as `affine_grid` counts
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    grid = affine_grid(torch.cat([turn, shift], dim=2), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups of an optimizer: matrices and kernels decay, biases and normalisations do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _progress(steps: int, minutes: float | None) -> Iterator[tuple[int, float]]:
    """Numbers of steps with how much of the run is done, 0..1, by steps or by the clock if that is further on."""
    started = time.monotonic()
    for step in range(steps):
        done = step / steps
        if minutes is not None:
            done = max(done, (time.monotonic() - started) / (60 * minutes))
        if done >= 1:
            return
        yield step, done


def _rate(peak: float, done: float) -> float:
    """A learning rate that climbs in a line to its peak, then falls along a cosine to nothing."""
    if done < WARMUP:
        return peak * (done + 1e-3) / WARMUP  # never nothing, so that the first step counts
    return peak * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()


def _python() -> str:
    return f"the standard library of {platform.python_implementation()} {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Retrain the networks that ship with the package, in place.")
    parser.add_argument("network", nargs="?", choices=["gpt2", "inceptionv1", "all"], default="all")
    parser.add_argument("--minutes", type=float, help="let no network train longer; its schedule is cut to fit")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.network in ("inceptionv1", "all"):
        train_inceptionv1(INCEPTIONV1_WEIGHTS, arguments.minutes)
        report_inceptionv1(INCEPTIONV1_WEIGHTS)
    if arguments.network in ("gpt2", "all"):
        train_gpt2(GPT2_DIR, arguments.minutes)
        report_gpt2(GPT2_DIR)


if __name__ == "__main__":
    main()
