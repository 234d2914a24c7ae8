"""What ingesting costs: the bare forward pass of a model against reading codes and activations beside it, against
reading and writing shards, and against the whole way from texts or image files to published tables.

    python -m bench.ingest [--size small|full] [--network gpt2|inceptionv1|modules] [--pairs N] [--threads N]

(As a module: run by its path, this file would hide the package of the same name.)

Random weights (speed does not depend on them), the real sizes: GPT-2 small at its context of 1,024 tokens with the
post's six sampled tokens a sequence, GoogLeNet at 224 pixels; ``--size small`` cuts the context to 128 tokens and
takes fewer inputs, so that what a run costs once weighs more. A and B take turns, so that both see the same load; the
ratio A / B of each pair is taken before the median over pairs: 1 means that B costs nothing beside the forward pass.
Seconds on the clock are what a user waits, on a machine that does nothing else; CPU seconds bear other load, with
``--threads 1``. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import atlas
from atlas.network import ImageView, TokenWindow
from bench.report import show
from ingest.datasets.base import Dataset
from ingest.datasets.builtin import python_texts
from ingest.datasets.sources import open_dataset
from ingest.networks import load_network
from ingest.networks.demo import GPT2_DIR
from ingest.run.plan import Choices, Plan, choose_inputs, make_plan
from ingest.run.publish import publish
from ingest.run.shards import write_shard

SAMPLED = 6  # tokens a sequence; none of the first 100 (the post)
SKIPPED = 100


@dataclass(frozen=True)
class Size:
    pairs: int
    context: int
    texts: int
    text_batch: int
    images: int
    image_batch: int


SIZES = {"small": Size(2, 128, 2, 1, 8, 8), "full": Size(7, 1024, 8, 2, 128, 16)}

Side = tuple[str, Callable[[], Any]]
"""One of the two that take turns: what the table calls it, and one batch of it."""


def measure(network: str, bare: Side, read: Side, pairs: int) -> dict[str, Any]:
    """One row of the table: both sides timed in turns."""
    (bare_name, run_bare), (read_name, run_read) = bare, read
    for run in (run_bare, run_read):
        run()
    timed = [(_seconds(run_bare), _seconds(run_read)) for _ in range(pairs)]
    a_clock, a_cpu, b_clock, b_cpu = ([pair[side][kind] for pair in timed] for side in (0, 1) for kind in (0, 1))
    ratios = [a / b for a, b in zip(a_clock, b_clock, strict=True)]
    return {
        "network": network,
        "A": bare_name,
        "B": read_name,
        "A s": statistics.median(a_clock),
        "B s": statistics.median(b_clock),
        "A/B": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "A CPU s": statistics.median(a_cpu),
        "B CPU s": statistics.median(b_cpu),
        "A/B CPU": statistics.median(a / b for a, b in zip(a_cpu, b_cpu, strict=True)),
    }


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """On the clock, and of this process's CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - cpu


def staged(network: Any, dataset: Dataset, batch_size: int, full: tuple[str, ...] = ()) -> Side:
    """From files to shards: tokenise or decode, read, write; all sites, activations too."""
    write, _ = _ingestion(network, dataset, batch_size, full)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))

    return f"files to shards{', all full codes' if full else ''}", run


def published(network: Any, dataset: Dataset, batch_size: int) -> Side:
    """A whole ingestion without its pilot, from files to tables."""
    write, plan = _ingestion(network, dataset, batch_size, ())

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            with atlas.create(Path(folder) / "bench.atlas") as a:
                publish(a, network, plan, "bench", Path(folder), datetime.now(UTC))

    return "files to tables", run


def _ingestion(
    network: Any, dataset: Dataset, batch_size: int, full: tuple[str, ...]
) -> tuple[Callable[[Path], None], Plan]:
    choices = Choices(batch_size=batch_size, full=full)
    plan = make_plan(network, dataset, choices)
    ordinals = choose_inputs(dataset, choices)

    def write(folder: Path) -> None:
        for shard in plan.shards:
            write_shard(network, dataset, ordinals, plan, shard, folder, skip_bad=False)

    return write, plan


def gpt2_rows(size: Size) -> Iterator[dict[str, Any]]:
    """GPT-2 small: Hugging Face's forward pass, then the bridge's, against reading all twelve sites."""
    with tempfile.TemporaryDirectory() as folder:
        _write_gpt2_small(Path(folder))
        network: Any = load_network(folder, weights="random:0", name="gpt2-small", max_length=size.context)
        plain: Any = _plain_gpt2(folder).to(network.device)
    generator = np.random.default_rng(0)
    length = network.windows(10**6)[0].stop
    positions = np.linspace(SKIPPED, length - 1, SAMPLED).astype(np.int64)
    batch = [TokenWindow(generator.integers(1, 2000, length), positions, 1) for _ in range(size.text_batch)]
    bos = np.zeros((size.text_batch, 1), dtype=np.int64)
    ids = torch.from_numpy(np.concatenate([bos, np.stack([window.ids for window in batch])], axis=1))
    ids = ids.to(network.device)

    def hugging_face() -> None:
        with torch.inference_mode():
            plain(ids, use_cache=False).logits.argmax(-1).cpu()

    def bridge() -> None:
        with torch.inference_mode():
            network.bridge(ids, use_cache=False).argmax(-1).cpu()

    read = ("read, all sites", lambda: network.read(batch, network.sites, network.sites))
    yield measure("gpt2-small", ("Hugging Face forward, all logits", hugging_face), read, size.pairs)
    yield measure("gpt2-small", ("bridge forward, all logits", bridge), read, size.pairs)

    with tempfile.TemporaryDirectory() as folder:
        batches = []
        for number, text in enumerate(_long_texts(network, length, size.texts)):
            (Path(folder) / f"{number}.txt").write_text(text, encoding="utf-8", newline="")
            batches.append(torch.from_numpy(network.tokenize(text).ids[None, :length]).to(network.device))

        def all_batches() -> None:
            with torch.inference_mode():
                for start in range(0, size.texts, size.text_batch):
                    tokens = torch.cat(batches[start : start + size.text_batch])
                    plain(tokens, use_cache=False).logits.argmax(-1).cpu()

        dataset = open_dataset(folder, kind="text")
        bare = (f"Hugging Face forward, {size.texts} texts", all_batches)
        for whole in (staged(network, dataset, size.text_batch), published(network, dataset, size.text_batch)):
            yield measure("gpt2-small", bare, whole, size.pairs)


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


def inceptionv1_rows(size: Size) -> Iterator[dict[str, Any]]:
    """GoogLeNet: forward pass with and without resizing the images, against position sites and all sites.

    As torchvision has it, and in the layout in memory that the network is read in: half as long on a processor.
    """
    network: Any = load_network("inceptionv1", weights="random-raw:0")
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (size.image_batch, 256, 256, 3), dtype=np.uint8)
    views = [ImageView(Image.fromarray(image)) for image in pixels]
    prepared = network.prepare(views)
    position = [site for site in network.sites if site.scope == "position"]

    plain = copy.deepcopy(network.model).to(memory_format=torch.contiguous_format)
    plainly_prepared = prepared.clone(memory_format=torch.contiguous_format)

    def torchvision() -> None:
        with torch.inference_mode():
            plain(plainly_prepared).argmax(-1).cpu()

    def forward() -> None:
        with torch.inference_mode():
            network.model(prepared).argmax(-1).cpu()

    def prepare_and_forward() -> None:
        with torch.inference_mode():
            network.model(network.prepare(views)).argmax(-1).cpu()

    resized = ("resize and forward", prepare_and_forward)
    read_position = ("read, position sites", lambda: network.read(views, position, position))
    yield measure("inceptionv1", ("torchvision's forward", torchvision), read_position, size.pairs)
    yield measure("inceptionv1", ("forward", forward), read_position, size.pairs)
    yield measure("inceptionv1", resized, read_position, size.pairs)
    read_codes = ("read, full codes too", lambda: network.read(views, network.sites, position))
    yield measure("inceptionv1", resized, read_codes, size.pairs)
    read_all = ("read, full activations too", lambda: network.read(views, network.sites, network.sites))
    yield measure("inceptionv1", resized, read_all, size.pairs)

    with tempfile.TemporaryDirectory() as folder:
        for number in range(size.images):
            noise = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            noise.resize((256, 256)).save(Path(folder) / f"{number:03d}.jpg")

        def repeated(forward: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(size.images // size.image_batch):
                    forward()

            return run

        dataset = open_dataset(folder, kind="image")
        to_tables = published(network, dataset, size.image_batch)
        bare = (f"torchvision's forward, {size.images} images", repeated(torchvision))
        yield measure("inceptionv1", bare, to_tables, size.pairs)
        bare = (f"forward, {size.images} images", repeated(forward))
        for whole in (
            staged(network, dataset, size.image_batch),
            staged(network, dataset, size.image_batch, full=("all",)),
            to_tables,
        ):
            yield measure("inceptionv1", bare, whole, size.pairs)


def module_rows(size: Size) -> Iterator[dict[str, Any]]:
    """Modules of torchvision as any module is read: forward pass against the full codes of all sites."""
    for name in ("resnet18", "vgg11"):
        network: Any = load_network(f"torchvision:{name}", weights="random-raw:0")
        full = [site for site in network.sites if site.scope == "full"]
        pixels = np.random.default_rng(0).integers(0, 256, (size.image_batch, 224, 224, 3), dtype=np.uint8)
        views = [ImageView(Image.fromarray(image)) for image in pixels]
        prepared = network.prepare(views)

        def forward(network: Any = network, prepared: torch.Tensor = prepared) -> None:
            with torch.inference_mode():
                network.model(prepared).argmax(-1).cpu()

        def read(network: Any = network, views: list[ImageView] = views, full: list[Any] = full) -> None:
            network.read(views, full, [])

        def prepare_and_forward(network: Any = network, views: list[ImageView] = views) -> None:
            with torch.inference_mode():
                network.model(network.prepare(views)).argmax(-1).cpu()

        yield measure(name, ("forward", forward), ("read, full codes of all sites", read), size.pairs)
        yield measure(
            name, ("resize and forward", prepare_and_forward), ("read, full codes of all sites", read), size.pairs
        )


NETWORKS = {"gpt2": gpt2_rows, "inceptionv1": inceptionv1_rows, "modules": module_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--network", choices=NETWORKS, help="measure one of them only")
    parser.add_argument("--pairs", type=int, help="times that A and B take turns")
    parser.add_argument("--threads", type=int, help="on a busy machine 1: threads that wait for others burn CPU time")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    size = SIZES[arguments.size]
    if arguments.pairs:
        size = replace(size, pairs=arguments.pairs)
    names = [arguments.network] if arguments.network else list(NETWORKS)
    rows = [row for name in names for row in NETWORKS[name](size)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    show(f"ingest (torch {torch.__version__}, {device})", rows)


if __name__ == "__main__":
    main()
