"""One shard of a run: some inputs, read by the network and written as Parquet files, all or nothing.

A shard is two files, ``000007.inputs.parquet`` (one row an input) and ``000007.parquet`` (one row an example), and
``000007.json``, which says of which plan they are and what their bytes must be. Each is written under a temporary
name, flushed to the disk and renamed, the JSON last: where it exists the shard is complete, whatever killed the
process afterwards. The same plan gives the same bytes. Pages of Parquet carry checksums as well.

A code is a binary of its packed bytes, an activation one of its numbers as little-endian float32, or as bfloat16
where the plan says so: Parquet reads and writes lists of numbers at half the speed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.bfloat16 import to_bfloat16
from atlas.errors import BadInput, NonFinite
from atlas.network import ImageView, Network, Reading, Site
from atlas.store.disk import remove_stranger, replacing, sealed, unsealed

from ..datasets.base import BadItem, Dataset, Item
from ..datasets.kinds import SOURCES
from ..networks.registry import RECORDED
from .background import Background, ahead
from .kinds import Place, Unit, feeding_of
from .plan import Plan, Shard, read_inputs

ROW_GROUP_BYTES = 8 << 20
"""Rows are buffered up to this many bytes of codes and activations before they are written."""

BATCH_PIXELS = 32_000_000
"""Pixels of decoded images that a batch holds at most, unless it is one image: two batches are in memory."""

PAGE_BYTES = 1 << 20
DEFAULT_WRITE_BATCH = 1024
"""Parquet closes a page once it has a megabyte, but looks only every 1,024 rows: pages of whole convolutional tensors
would be gigabytes, grown by copying, and take 2.8 times as long to write."""

INPUTS = pa.schema(
    [
        ("ordinal", pa.uint32()),
        ("key", pa.string()),
        ("label", pa.string()),
        ("kind", pa.string()),
        ("content_hash", pa.string()),
        ("text", pa.string()),
        ("thumbnail", pa.binary()),
        ("width", pa.uint32()),
        ("height", pa.uint32()),
        ("vector", pa.list_(pa.float32())),
        ("reason", pa.string()),
    ]
)
"""Columns of the inputs' file; ``reason`` says why an input was skipped, and then only its key is set beside it."""

EXAMPLES = (
    ("ordinal", pa.uint32()),
    ("position", pa.uint32()),
    ("row", pa.float32()),
    ("column", pa.float32()),
    ("token", pa.string()),
    ("context", pa.string()),
    ("context_offset", pa.uint32()),
    ("prediction", pa.string()),
    ("probability", pa.float32()),
    ("loss", pa.float32()),
)
"""Columns of the examples' file before the codes and activations; ``ordinal`` counts the run's inputs."""


def code_column(site: Site) -> str:
    return f"code:{site.name}"


def activation_column(site: Site) -> str:
    return f"activation:{site.name}"


def shard_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.number:06d}.parquet"


def seal_path(folder: Path, shard: Shard) -> Path:
    """The file whose existence says that the shard is complete."""
    return folder / f"{shard.number:06d}.json"


def is_complete(folder: Path, shard: Shard, plan: str) -> bool:
    """Whether a shard of the plan of this digest was written. `is_intact` says whether it is as it was written."""
    return _seal(folder, shard).get("plan") == plan


def read_on(folder: Path, shard: Shard) -> str | None:
    """The device on which a complete shard was read, as `device_of` names it."""
    device: str | None = _seal(folder, shard)["device"]
    return device


def device_of(network: Network) -> str | None:
    """Where a network runs, of a CUDA device its name as well; None where none runs."""
    if network.info.source == RECORDED:
        return None
    device = str(getattr(network, "device", "cpu"))
    if not device.startswith("cuda"):
        return device
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})"


def is_intact(folder: Path, shard: Shard, plan: str) -> bool:
    """Whether a shard of the plan of this digest was written, and no byte of it has changed since."""
    seal = _seal(folder, shard)
    files = {"inputs": inputs_path(folder, shard), "examples": shard_path(folder, shard)}
    if seal.get("plan") != plan or not all(path.is_file() for path in files.values()):
        return False
    return all(_sha256(path) == seal.get(name) for name, path in files.items())


def _seal(folder: Path, shard: Shard) -> dict[str, Any]:
    path = seal_path(folder, shard)
    return unsealed(path.read_bytes()) or {} if path.is_file() else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inputs_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.number:06d}.inputs.parquet"


def write_shard(
    network: Network,
    dataset: Dataset,
    ordinals: np.ndarray,
    plan: Plan,
    shard: Shard,
    folder: Path,
    *,
    skip_bad: bool,
    progress: Callable[[int], None] = lambda examples: None,
) -> None:
    """Run the network over a shard's inputs and write what it did. ``progress`` is told of examples as they are done.

    Raises `BadInput` for an input that can't be read (unless ``skip_bad``, which lists it instead), `NonFinite`,
    `DiskFull`. Whatever is raised, no half a shard is left behind.
    """
    inputs: list[dict[str, Any]] = []
    units = _units(
        network, read_inputs(dataset, ordinals[shard.start : shard.stop]), shard.start, plan, inputs, skip_bad
    )
    batches = _batches(units, int(plan.document["batch_size"]))
    if feeding_of(network.info).ahead:
        batches = ahead(batches)
    for path in (seal_path(folder, shard), inputs_path(folder, shard), shard_path(folder, shard)):
        remove_stranger(path)
    with (
        replacing(shard_path(folder, shard)) as file,
        _parquet(file, _examples_schema(plan)) as writer,  # entered at once: unclosed it fails aloud after Ctrl-C
        closing(batches),
    ):
        rows = _Rows(writer, plan)
        with Background(rows.add) as written:
            for batch in batches:
                reading = network.read([unit.work for unit in batch], plan.sites, plan.stored_activations)
                places = [place for unit in batch for place in unit.places]
                _check_finite(reading, plan.sites, places)
                written.put((reading, places))
                progress(len(places))
        rows.finish()
        _write_inputs(inputs_path(folder, shard), inputs)
    seal = {"inputs": _sha256(inputs_path(folder, shard)), "examples": _sha256(shard_path(folder, shard))}
    with replacing(seal_path(folder, shard)) as file:
        file.write(sealed({"plan": plan.digest, "device": device_of(network), **seal}))


class _Rows:
    """The examples' file: rows are gathered into row groups of `ROW_GROUP_BYTES`."""

    def __init__(self, writer: pq.ParquetWriter, plan: Plan) -> None:
        self._writer, self._plan, self._schema = writer, plan, writer.schema
        self._pending: list[pa.Table] = []
        self._row_bytes = sum(site.n_bytes for site in plan.sites) + _number_bytes(plan) * sum(
            site.n_units for site in plan.stored_activations
        )

    def add(self, read: tuple[Reading, Sequence[Place]]) -> None:
        self._pending.append(_table(*read, self._plan, self._schema))
        if sum(map(len, self._pending)) * self._row_bytes >= ROW_GROUP_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write what is gathered."""
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending))
            self._pending = []


def _units(
    network: Network,
    items: Iterator[Item | BadItem],
    first: int,
    plan: Plan,
    inputs: list[dict[str, Any]],
    skip_bad: bool,
) -> Iterator[Unit]:
    """The work of a shard, input by input; each input's own row is appended to ``inputs`` on the way."""
    known_bad = {item.ordinal: item for item in plan.bad}
    feeding, source = feeding_of(network.info), SOURCES[network.info.kind]
    sampling = feeding.sampling(**plan.document["sampling"])
    for ordinal, item in enumerate(items, start=first):
        if isinstance(item, BadItem) or item.ordinal in known_bad:
            bad = item if isinstance(item, BadItem) else known_bad[item.ordinal]
            if not skip_bad:
                raise BadInput(
                    f"{bad.key} {bad.reason}\nMend or remove it, or pass --skip-bad to leave such inputs out"
                )
            inputs.append({"ordinal": ordinal, "key": bad.key, "reason": bad.reason})
            continue
        known = {"ordinal": ordinal, "key": item.key, "label": item.label, "content_hash": item.content_hash}
        inputs.append({**known, "kind": network.info.kind, **source.kept(item.content)})
        yield from feeding.units(network, ordinal, item, sampling)


def _batches(units: Iterator[Unit], size: int) -> Generator[list[Unit], None, None]:
    batch: list[Unit] = []
    pixels = 0
    for unit in units:
        more = _pixels(unit)
        if batch and (len(batch) == size or pixels + more > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(unit)
        pixels += more
    if batch:
        yield batch


def _pixels(unit: Unit) -> int:
    return unit.work.image.width * unit.work.image.height if isinstance(unit.work, ImageView) else 0


def _check_finite(reading: Reading, sites: Sequence[Site], places: Sequence[Place]) -> None:
    for site in sites:
        broken = np.flatnonzero(~reading.finite[site.name])
        if len(broken):
            raise NonFinite(
                f"NaN or infinity at site {site.name} for {places[broken[0]]} ({len(broken)} of {len(places)} "
                "examples of the batch); a code read from it would mean nothing. Check the weights and the input's "
                "normalisation"
            )


def _table(reading: Reading, places: Sequence[Place], plan: Plan, schema: pa.Schema) -> pa.Table:
    columns: list[Any] = [
        [place.ordinal for place in places],
        [place.position for place in places],
        [place.row for place in places],
        [place.column for place in places],
        [place.token for place in places],
        [place.context for place in places],
        [place.context_offset for place in places],
        reading.prediction,
        reading.probability,
        pa.array(reading.loss, mask=np.isnan(reading.loss)),
    ]
    columns += [_fixed(reading.codes[site.name]) for site in plan.sites]
    columns += [_fixed(_numbers(reading.activations[site.name], plan)) for site in plan.stored_activations]
    arrays = [
        pa.array(column, type=field.type) if not isinstance(column, pa.Array) else column
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _number_bytes(plan: Plan) -> int:
    """Of a number of an activation."""
    return 2 if plan.bfloat16 else 4


def _numbers(activations: np.ndarray, plan: Plan) -> np.ndarray:
    values = activations.astype("<f4", copy=False)
    return to_bfloat16(values) if plan.bfloat16 else values


def _fixed(rows: np.ndarray) -> pa.Array:
    """Rows of equal width as Arrow's binaries, over the same memory."""
    rows = np.ascontiguousarray(rows)
    width = rows.shape[1] * rows.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])


def _examples_schema(plan: Plan) -> pa.Schema:
    codes = [(code_column(site), pa.binary(site.n_bytes)) for site in plan.sites]
    width = _number_bytes(plan)
    activations = [(activation_column(site), pa.binary(width * site.n_units)) for site in plan.stored_activations]
    return pa.schema([*EXAMPLES, *codes, *activations])


def _write_inputs(path: Path, inputs: list[dict[str, Any]]) -> None:
    with replacing(path) as file, _parquet(file, INPUTS) as writer:
        writer.write_table(pa.Table.from_pylist(inputs, schema=INPUTS))


def _parquet(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    widest = max([1, *(field.type.byte_width for field in schema if pa.types.is_fixed_size_binary(field.type))])
    # Codes and activations hardly compress and their statistics are never asked for.
    return pq.ParquetWriter(
        file,
        schema,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        write_batch_size=max(1, min(DEFAULT_WRITE_BATCH, PAGE_BYTES // widest)),
    )
