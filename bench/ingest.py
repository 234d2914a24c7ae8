"""What ingesting costs: the bare forward pass of a model against reading codes and activations beside it, and against
the whole way from texts or image files to published tables.

    python -m bench.ingest [--network gpt2|inceptionv1] [--pairs N] [--threads N]

(As a module: run by its path, this file would hide the package of the same name.)

Random weights (speed does not depend on them), the real sizes: GPT-2 small at its context of 1,024 tokens with the
post's six sampled tokens a sequence, GoogLeNet at 224 pixels. A and B take turns, so that both see the same load; the
ratio of each pair is taken before the median over pairs. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import atlas
from atlas.network import ImageView, TokenWindow
from ingest.builtin import python_texts
from ingest.datasets import open_dataset
from ingest.items import Dataset
from ingest.networks import load_network
from ingest.networks.demo import GPT2_DIR
from ingest.plan import Choices, choose_inputs, make_plan
from ingest.publish import publish
from ingest.shards import write_shard

PAIRS = 7
TEXT_BATCH = 2
IMAGE_BATCH = 16
TEXTS = 8
IMAGES = 128
SAMPLED = 6  # tokens a sequence; none of the first 100 (the post)
SKIPPED = 100


@dataclass(frozen=True)
class Row:
    """Seconds a batch of each side (medians), and how fast B is measured by A's speed: the median of A / B."""

    network: str
    bare: str
    read: str
    bare_seconds: float
    read_seconds: float
    ratio: float
    lowest: float
    highest: float


Side = tuple[str, Callable[[], Any]]
"""One of the two that take turns: what the table calls it, and one batch of it."""


def measure(network: str, bare: Side, read: Side, pairs: int) -> Row:
    """Time both in turns; CPU seconds where there is no accelerator, since other programs take part of the clock."""
    (bare_name, run_bare), (read_name, run_read) = bare, read
    for run in (run_bare, run_read):
        run()
    seconds = [(_seconds(run_bare), _seconds(run_read)) for _ in range(pairs)]
    ratios = [a / b for a, b in seconds]
    return Row(
        network=network,
        bare=bare_name,
        read=read_name,
        bare_seconds=statistics.median(a for a, _ in seconds),
        read_seconds=statistics.median(b for _, b in seconds),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def _seconds(run: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - started
    started = time.process_time()
    run()
    return time.process_time() - started


def published(network: Any, dataset: Dataset, batch_size: int) -> Callable[[], None]:
    """A whole ingestion without its pilot, from files to tables: tokenise or decode, read, write, publish."""
    choices = Choices(batch_size=batch_size)
    plan = make_plan(network, dataset, choices, device=str(network.device))
    ordinals = choose_inputs(dataset, choices)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for shard in plan.shards:
                write_shard(network, dataset, ordinals, plan, shard, Path(folder), skip_bad=False)
            with atlas.create(Path(folder) / "bench.atlas") as a:
                publish(a, network, plan, "bench", Path(folder), datetime.now(UTC))

    return run


def gpt2_rows(pairs: int) -> Iterator[Row]:
    """GPT-2 small: Hugging Face's forward pass, then the bridge's, against reading all twelve sites."""
    with tempfile.TemporaryDirectory() as folder:
        _write_gpt2_small(Path(folder))
        network: Any = load_network(folder, weights="random:0", name="gpt2-small")
        plain: Any = _plain_gpt2(folder).to(network.device)
    generator = np.random.default_rng(0)
    length = network.windows(10**6)[0].stop
    positions = np.linspace(SKIPPED, length - 1, SAMPLED).astype(np.int64)
    batch = [TokenWindow(generator.integers(1, 2000, length), positions, 1) for _ in range(TEXT_BATCH)]
    bos = np.zeros((TEXT_BATCH, 1), dtype=np.int64)
    ids = torch.from_numpy(np.concatenate([bos, np.stack([window.ids for window in batch])], axis=1))
    ids = ids.to(network.device)

    def hugging_face() -> None:
        with torch.inference_mode():
            plain(ids, use_cache=False).logits.argmax(-1).cpu()

    def bridge() -> None:
        with torch.inference_mode():
            network.bridge(ids, use_cache=False).argmax(-1).cpu()

    read = ("read, all sites", lambda: network.read(batch, network.sites, network.sites))
    yield measure("gpt2-small", ("Hugging Face forward, all logits", hugging_face), read, pairs)
    yield measure("gpt2-small", ("bridge forward, all logits", bridge), read, pairs)

    with tempfile.TemporaryDirectory() as folder:
        batches = []
        for number, text in enumerate(_long_texts(network, length, TEXTS)):
            (Path(folder) / f"{number}.txt").write_text(text, encoding="utf-8", newline="")
            batches.append(torch.from_numpy(network.tokenize(text).ids[None, :length]).to(network.device))

        def all_batches() -> None:
            with torch.inference_mode():
                for start in range(0, TEXTS, TEXT_BATCH):
                    tokens = torch.cat(batches[start : start + TEXT_BATCH])
                    plain(tokens, use_cache=False).logits.argmax(-1).cpu()

        whole = ("ingestion, published", published(network, open_dataset(folder, kind="text"), TEXT_BATCH))
        yield measure("gpt2-small", (f"Hugging Face forward, {TEXTS} texts", all_batches), whole, pairs)


def _long_texts(network: Any, length: int, count: int) -> Iterator[str]:
    """Texts of exactly one full sequence, cut out of Python's own sources."""
    texts = (text.text for text in python_texts("heldout"))
    for text in texts:
        tokens = network.tokenize(text)
        if len(tokens.ids) > length and len(network.tokenize(text[: tokens.ends[length - 1]]).ids) == length:
            yield text[: tokens.ends[length - 1]]
            count -= 1
        if count == 0:
            return


def _write_gpt2_small(folder: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config

    GPT2Config().save_pretrained(folder)
    # Any tokenizer of a smaller vocabulary serves: token ids are drawn, not encoded.
    AutoTokenizer.from_pretrained(GPT2_DIR).save_pretrained(folder)


def _plain_gpt2(folder: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()


def inceptionv1_rows(pairs: int) -> Iterator[Row]:
    """GoogLeNet: forward pass with and without resizing the images, against position sites and all sites."""
    network: Any = load_network("inceptionv1", weights="random-raw:0")
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (IMAGE_BATCH, 256, 256, 3), dtype=np.uint8)
    views = [ImageView(Image.fromarray(image)) for image in pixels]
    prepared = network.prepare(views)
    position = [site for site in network.sites if site.scope == "position"]

    def forward() -> None:
        with torch.inference_mode():
            network.model(prepared).argmax(-1).cpu()

    def prepare_and_forward() -> None:
        with torch.inference_mode():
            network.model(network.prepare(views)).argmax(-1).cpu()

    read_position = ("read, position sites", lambda: network.read(views, position, position))
    yield measure("inceptionv1", ("forward", forward), read_position, pairs)
    yield measure("inceptionv1", ("resize and forward", prepare_and_forward), read_position, pairs)
    read_codes = ("read, full codes too", lambda: network.read(views, network.sites, position))
    yield measure("inceptionv1", ("resize and forward", prepare_and_forward), read_codes, pairs)
    read_all = ("read, full activations too", lambda: network.read(views, network.sites, network.sites))
    yield measure("inceptionv1", ("resize and forward", prepare_and_forward), read_all, pairs)

    with tempfile.TemporaryDirectory() as folder:
        for number in range(IMAGES):
            noise = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            noise.resize((256, 256)).save(Path(folder) / f"{number:03d}.jpg")

        def all_batches() -> None:
            with torch.inference_mode():
                for _ in range(IMAGES // IMAGE_BATCH):
                    network.model(prepared).argmax(-1).cpu()

        whole = ("ingestion, published", published(network, open_dataset(folder, kind="image"), IMAGE_BATCH))
        yield measure("inceptionv1", (f"forward, {IMAGES} images", all_batches), whole, pairs)


NETWORKS = {"gpt2": gpt2_rows, "inceptionv1": inceptionv1_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", choices=NETWORKS, help="measure one of them only")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--threads", type=int, help="on a busy machine 1: threads that wait for others burn CPU time")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    clock = "s" if torch.cuda.is_available() else "CPU s"
    print(f"{'network':<12} {'A':<34} {'B':<28} {'A ' + clock:>9} {'B ' + clock:>9} {'A/B':>6}  range")
    rows = []
    for name in [arguments.network] if arguments.network else NETWORKS:
        for row in NETWORKS[name](arguments.pairs):
            rows.append(row)
            print(f"{row.network:<12} {row.bare:<34} {row.read:<28} {row.bare_seconds:9.3f} {row.read_seconds:9.3f} "
                  f"{row.ratio:6.3f}  {row.lowest:.3f}–{row.highest:.3f}", flush=True)  # fmt: skip
    print(json.dumps({"bench": "ingest", "torch": torch.__version__, "threads": torch.get_num_threads(),
                      "cuda": torch.cuda.is_available(), "rows": [asdict(row) for row in rows]}))  # fmt: skip


if __name__ == "__main__":
    main()
