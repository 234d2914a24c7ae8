"""What a run will do, decided before it starts: which inputs, sites and tokens, cut into shards with exact bounds.

A plan is a JSON document. It determines every byte of the result, but for what devices round differently (SCIENCE,
bits near zero), so two machines that hold the same plan can share its shards, and a run that was killed can go on. A
command whose plan differs from that of the unfinished run of the same name is refused, with the difference named.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from atlas.errors import BadInput, EmptyDataset, SequenceTooShort, UnknownName, UsageError
from atlas.network import FULL_SUFFIX, Network, NetworkInfo, Site, Span

from ..datasets.base import BadItem, Dataset, Item
from .kinds import feeding_of
from .sampling import ImageSampling, TokenSampling

SHARD_BYTES = 32 << 20
"""A shard's codes and activations, or its texts: so small that a kill loses little, so large that files are few."""

SHARD_EXAMPLES = 4096
"""More would only make resuming coarser where codes are small."""

AUTOMATIC_ACTIVATIONS = 1_000_000
"""Activations of more examples are stored only where they are asked for: of 12 sites of 3,072 units they take
0.15 TB, fifteen times the codes."""

LEAST_EXAMPLES = 8
"""Fewer would make batches so small that to begin one costs a tenth of it (GoogLeNet with all full activations, of
which 32 MB hold two images)."""

CONTENT_DIGITS = 16
"""Of a content hash by which contents are told apart here, of 4 bits each: of 10^7 inputs two are alike by chance in
one run of 400,000."""

SHOWN_BAD = 10
"""Unusable inputs named in an error; the count is always exact."""


@dataclass(frozen=True)
class Choices:
    """What the user chose, besides the network and the data."""

    sites: tuple[str, ...] | None = None
    """Sites to read; None: every position site."""

    full: tuple[str, ...] = ()
    """Sites of an image network to read at all positions as well; ``("all",)``: every one."""

    spans: tuple[str, ...] = ()
    """Spans to index, ``AFTER->TO`` or ``AFTER->``."""

    store_activations: bool | None = None
    """Whether to store activations beside the codes; None: of up to `AUTOMATIC_ACTIVATIONS` examples."""

    bfloat16: bool = False
    """Whether to round activations to bfloat16, which halves what is staged and, in segments, what is stored."""

    limit: int | None = None
    """This many inputs, drawn at random; None: all."""

    batch_size: int | None = None
    """Sequences, images or vectors a forward pass; None: 8, 32 or 256."""

    shard_examples: int | None = None
    """Examples of a shard; None: as many as 32 MB hold."""

    seed: int = 0
    """Of everything drawn at random."""

    tokens: TokenSampling = field(default_factory=TokenSampling)
    """Which tokens of a text become examples."""

    view: ImageSampling = field(default_factory=ImageSampling)
    """Which place of an image its position codes are read at."""

    skip_bad: bool = False
    """Whether to leave out, and list, inputs that can't be used; else they stop the run."""


@dataclass(frozen=True)
class Shard:
    """Inputs [start, stop) of the run, in order; ``n_examples`` is an upper bound for images, else exact."""

    number: int
    start: int
    stop: int
    n_examples: int

    @property
    def size(self) -> int:
        """What progress counts."""
        return self.n_examples


@dataclass(frozen=True)
class Plan:
    """A run: ``document`` is what is compared and stored, the rest is derived from it or from the network."""

    document: dict[str, Any]
    sites: tuple[Site, ...]
    bad: tuple[BadItem, ...]
    content_bytes: int
    """Bytes of all texts or numbers; 0 where inputs were not read before the run."""

    n_repeated: int | None = None
    """Inputs with the content of an earlier one, which is stored once; None where inputs were not read before."""

    left_out: bool = False
    """Activations are not stored because there are many examples, and nobody asked for them."""

    @property
    def shards(self) -> list[Shard]:
        return [Shard(number, *bounds) for number, bounds in enumerate(self.document["shards"])]

    @property
    def n_examples(self) -> int:
        return sum(shard.n_examples for shard in self.shards)

    @property
    def n_inputs(self) -> int:
        return int(self.document["data"]["n_inputs"])

    @property
    def stored_activations(self) -> tuple[Site, ...]:
        return self.sites if self.document["store_activations"] else ()

    @property
    def bfloat16(self) -> bool:
        """Whether activations are rounded to bfloat16."""
        return bool(self.document.get("bfloat16"))

    @property
    def digest(self) -> str:
        return hashlib.sha256(_canonical(_identity(self.document))).hexdigest()

    @property
    def bits_per_example(self) -> int:
        return sum(site.n_gates for site in self.sites)


def make_plan(
    network: Network,
    dataset: Dataset,
    choices: Choices,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Decide a run. Texts and vectors are read once, so that their examples are counted exactly and unreadable or too
    short ones are named before any work is done; images are listed only.

    Raises `EmptyDataset`, `BadInput` or `SequenceTooShort` (unless ``skip_bad``), `UnknownName`, `UsageError`.
    """
    if not network.info.reading.get("activations", True):  # codes from elsewhere may come without
        choices = replace(choices, store_activations=False)
    sites = choose_sites(network, choices)
    for span in choices.spans:
        missing = [site.name for site in Span.parse(span).resolve(network.sites) if site not in sites]
        if missing:
            raise UsageError(f"span {span} needs the codes of {', '.join(missing)}; add them to --sites or --full")
    chosen = choose_inputs(dataset, choices)
    feeding = feeding_of(network.info)
    sampling = getattr(choices, feeding.chosen) if feeding.chosen else feeding.sampling()
    batch_size = feeding.batch if choices.batch_size is None else choices.batch_size
    if batch_size <= 0:
        raise UsageError(f"--batch-size is {batch_size}; it must be at least 1")
    per_shard = _per_shard(sites, choices)
    if feeding.count is None:
        scanned = _list_inputs(len(chosen), per_shard)
    else:
        count = partial(feeding.count, network, sampling)
        scanned = _scan_inputs(count, dataset, chosen, choices.skip_bad, per_shard, progress)
    if not scanned.shards:
        raise no_example(dataset.source, [(item.key, item.reason) for item in scanned.bad], len(chosen))
    n_examples = sum(examples for *_, examples in scanned.shards)
    left_out = choices.store_activations is None and n_examples > AUTOMATIC_ACTIVATIONS
    stored = False if left_out else choices.store_activations is not False
    document = {
        "network": asdict(network.info),
        "data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "source": dataset.source,
            "fingerprint": scanned.fingerprint or dataset.fingerprint,
            "n_inputs": len(chosen),
        },
        "sites": [site.name for site in sites],
        "spans": [str(Span.parse(span)) for span in choices.spans],
        "store_activations": stored,
        **({"bfloat16": True} if choices.bfloat16 and stored else {}),
        "sampling": asdict(sampling),
        "limit": choices.limit,
        "seed": choices.seed,
        "batch_size": batch_size,
        "shard_examples": per_shard,
        "shards": scanned.shards,
    }
    found = sites, scanned.bad, scanned.content_bytes, scanned.n_repeated
    return Plan(json.loads(json.dumps(document)), *found, left_out)


def planned_choices(document: dict[str, Any]) -> Choices:
    """The choices that make the same plan of another network of the same sites; unusable inputs are left out."""
    feeding = feeding_of(NetworkInfo(**document["network"]))
    sampling: Any = {feeding.chosen: feeding.sampling(**document["sampling"])} if feeding.chosen else {}
    full = tuple(name.removesuffix(FULL_SUFFIX) for name in document["sites"] if name.endswith(FULL_SUFFIX))
    return Choices(
        sites=tuple(name for name in document["sites"] if not name.endswith(FULL_SUFFIX)),
        full=full,
        limit=document["limit"],
        seed=document["seed"],
        batch_size=document["batch_size"],
        skip_bad=True,
        store_activations=document["store_activations"],
        bfloat16=document.get("bfloat16", False),
        **sampling,
    )


def choose_sites(network: Network, choices: Choices) -> tuple[Site, ...]:
    """The sites to read: those of ``choices.sites`` (default: every position site), and ``choices.full``."""
    by_name = {site.name: site for site in network.sites}
    position = [site.name for site in network.sites if site.scope == "position"]
    full = [site.name.removesuffix(FULL_SUFFIX) for site in network.sites if site.scope == "full"]
    if choices.full and not full:
        raise UsageError(f"--full is for image networks; {network.info.name} has token sites only")
    wanted_full = (
        full if tuple(choices.full) == ("all",) else [name.removesuffix(FULL_SUFFIX) for name in choices.full]
    )
    names = [*(position if choices.sites is None else choices.sites), *(name + FULL_SUFFIX for name in wanted_full)]
    for name in names:
        if name not in by_name:
            shown = name.removesuffix(FULL_SUFFIX)
            raise UnknownName(f"no site {shown!r} in network {network.info.name}; it has {', '.join(position)}")
    if not names:
        raise UsageError(f"no site was chosen; network {network.info.name} has {', '.join(position)}")
    return tuple(site for site in network.sites if site.name in set(names))


def choose_inputs(dataset: Dataset, choices: Choices) -> np.ndarray:
    """Ordinals of the inputs to read, ascending: all, or a random ``limit`` of them (the head of a folder that is
    sorted by label would be one label)."""
    if len(dataset) == 0:
        raise EmptyDataset(f"{dataset.source} holds no {dataset.kind}")
    if choices.limit is None or choices.limit >= len(dataset):
        return np.arange(len(dataset))
    if choices.limit <= 0:
        raise UsageError(f"--limit is {choices.limit}; it must be at least 1")
    drawn = np.random.default_rng(choices.seed).choice(len(dataset), size=choices.limit, replace=False)
    return np.sort(drawn)


def read_inputs(dataset: Dataset, ordinals: np.ndarray) -> Iterator[Item | BadItem]:
    """The inputs of ascending ordinals; runs of consecutive ones are read in one go."""
    if len(ordinals) == 0:
        return
    breaks = np.flatnonzero(np.diff(ordinals) != 1) + 1
    for run in np.split(ordinals, breaks):
        yield from dataset.items(int(run[0]), int(run[-1]) + 1)


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two plans, in words: ``seed: 0 → 1``. Empty if they are the same run."""
    found = _differences(_identity(old), _identity(new))
    # A change of the inputs moves the bounds of shards; naming the cause is enough.
    causes = [entry for entry in found if entry[0] != "shards"] or found
    return [f"{name}: {_short(before)} → {_short(after)}" for name, before, after in causes]


@dataclass(frozen=True)
class _Scanned:
    """What looking at the inputs gave: bounds of shards, unusable inputs, bytes to store, fingerprint, doubles."""

    shards: list[tuple[int, int, int]]
    bad: tuple[BadItem, ...] = ()
    content_bytes: int = 0
    fingerprint: str | None = None
    n_repeated: int | None = None


def _per_shard(sites: Sequence[Site], choices: Choices) -> int:
    if choices.shard_examples is not None:
        if choices.shard_examples <= 0:
            raise UsageError(f"shard_examples is {choices.shard_examples}; it must be at least 1")
        return choices.shard_examples
    number = 0 if choices.store_activations is False else 2 if choices.bfloat16 else 4
    per_example = sum(site.n_bytes + number * site.n_units for site in sites)
    return int(np.clip(SHARD_BYTES // per_example, LEAST_EXAMPLES, SHARD_EXAMPLES))


def _list_inputs(count: int, per_shard: int) -> _Scanned:
    """One example an input, so the bounds follow from the count; no file is opened."""
    starts = range(0, count, per_shard)
    return _Scanned([(start, min(start + per_shard, count), min(per_shard, count - start)) for start in starts])


def _scan_inputs(
    count: Callable[[Item], int | BadItem],
    dataset: Dataset,
    ordinals: np.ndarray,
    skip_bad: bool,
    per_shard: int,
    progress: Callable[[int, int], None],
) -> _Scanned:
    shards: list[tuple[int, int, int]] = []
    bad: list[BadItem] = []
    fingerprint, content_bytes, start, examples, held = hashlib.sha256(), 0, 0, 0, 0
    contents = array("Q")
    for place, item in enumerate(read_inputs(dataset, ordinals)):
        progress(place, len(ordinals))
        found = item if isinstance(item, BadItem) else count(item)
        if isinstance(found, BadItem):
            bad.append(found)
            fingerprint.update(f"{found.key}\0bad\n".encode())
            continue
        assert isinstance(item, Item)  # what can't be read came back as a BadItem
        fingerprint.update(f"{item.key}\0{item.label}\0{item.content_hash}\n".encode())
        contents.append(int(item.content_hash[:CONTENT_DIGITS], 16))
        content_bytes += _n_bytes(item.content)
        examples += found
        held += _n_bytes(item.content) + len(item.label or "")
        if examples >= per_shard or held >= SHARD_BYTES:
            shards.append((start, place + 1, examples))
            start, examples, held = place + 1, 0, 0
    progress(len(ordinals), len(ordinals))
    if examples:
        shards.append((start, len(ordinals), examples))
    elif shards:  # unusable inputs at the end belong to a shard too: it lists them
        shards[-1] = (shards[-1][0], len(ordinals), shards[-1][2])
    if bad and not skip_bad:
        raise _refusal(bad, len(ordinals))
    n_repeated = len(contents) - len(np.unique(np.array(contents)))
    return _Scanned(shards, tuple(bad), content_bytes, fingerprint.hexdigest(), n_repeated)


def _n_bytes(content: object) -> int:
    if isinstance(content, np.ndarray):
        return content.nbytes
    return len(content.encode()) if isinstance(content, str) else 0  # of an image a thumbnail is kept


def _refusal(bad: Sequence[BadItem], n_inputs: int) -> BadInput | SequenceTooShort:
    """One message that counts the unusable inputs and names the first ones."""
    kind = SequenceTooShort if all("sampling needs at least" in item.reason for item in bad) else BadInput
    mend = "lower --skip-first" if kind is SequenceTooShort else "mend or remove them"
    return kind(
        f"{len(bad)} of {n_inputs} inputs can't be used; nothing was ingested. Either {mend}, or pass --skip-bad to "
        "leave them out (they are then listed at the end):\n"
        f"{_listed([(item.key, item.reason) for item in bad])}"
    )


def no_example(source: str, bad: Sequence[tuple[str, str]], n_inputs: int) -> EmptyDataset:
    """The error for a run that would be empty; ``bad`` are keys and reasons."""
    return EmptyDataset(
        f"{source} gives no example: {len(bad)} of {n_inputs} inputs are unusable, nothing was ingested. "
        f"Mend them, or give other data:\n{_listed(bad)}"
    )


def _listed(bad: Sequence[tuple[str, str]]) -> str:
    more = [f"  … and {len(bad) - SHOWN_BAD} more"] if len(bad) > SHOWN_BAD else []
    return "\n".join([*(f"  {key} {reason}" for key, reason in bad[:SHOWN_BAD]), *more])


def _identity(document: dict[str, Any]) -> dict[str, Any]:
    """The plan without what may differ between machines that share a run: paths."""
    network = {key: value for key, value in document["network"].items() if key not in {"source", "weights"}}
    data = {key: value for key, value in document["data"].items() if key != "source"}
    return {**document, "network": network, "data": data}


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key in sorted({*old, *new})
            for found in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [(name, old, new)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
