"""Inputs that come with their codes, which something else computed: a Parquet file, or NumPy's ``.npz``.

A column a site: lists of booleans, a gate each, or packed bytes, gate 0 the most significant bit of the first
(`atlas.codes`). Activations are lists of numbers, in a file of their own, with the same keys in the same order.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from atlas.errors import BadInput, EmptyDataset, UsageError
from atlas.network import GateRange, Kind, NetworkInfo, RecordedView, Site

from ..networks.recorded import RecordedNetwork
from ..networks.registry import RECORDED
from .base import BadItem, Item, Request, ordinals, printable, suffix_of, text_item, with_label
from .code_cells import Decoded, bits_of, holds_codes, holds_numbers, is_packed, numbers_of, plain
from .images import image_cell_item, pixels_hash
from .vectors import BROKEN_NUMPY

KEY, IMAGE = "key", "image"
NPZ = ".npz"

BLOCK_BYTES = 8 << 20
"""Bytes of a file that are decoded at once."""

PLAIN_BYTES = 32 << 10
"""Of a row's text or image, to decode some hundreds at once."""

BROKEN_BY = "codes from elsewhere, of which nothing is known but their bits"


@dataclass(frozen=True)
class CodedItem(Item):
    """An input with what was computed of it."""

    view: RecordedView = field(default_factory=lambda: RecordedView({}, {}))


class _File:
    """Columns of a Parquet or ``.npz`` file. Rows are decoded in blocks, and reading on costs nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, np.ndarray] | None = None
        try:
            if suffix_of(path.name) == NPZ:
                with np.load(path, allow_pickle=False) as opened:
                    self._arrays = dict(opened)
                self.types: dict[str, Any] = {name: (each.dtype, each.ndim) for name, each in self._arrays.items()}
                lengths = {len(each) if each.ndim else 0 for each in self._arrays.values()}
                if len(lengths) > 1:
                    raise BadInput(f"{path} holds arrays of {' and '.join(map(str, sorted(lengths)))} rows")
                self._starts = [0, *lengths]
            else:
                self._file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
                names = self._file.schema_arrow.names
                if doubled := sorted({name for name in names if names.count(name) > 1}):
                    raise BadInput(f"{path} has several columns called {doubled[0]!r}; rename all but one")
                self.types = {column.name: column.type for column in self._file.schema_arrow}
                groups = range(self._file.num_row_groups)
                counts = (self._file.metadata.row_group(number).num_rows for number in groups)
                self._starts = [*accumulate(counts, initial=0)]
        except (pa.ArrowException, *BROKEN_NUMPY) as error:
            raise BadInput(f"{path} can't be read as Parquet or {NPZ}: {error}") from error
        if not len(self):
            raise EmptyDataset(f"{path} holds no row")

    def __reduce__(self) -> tuple[type[_File], tuple[Path]]:
        """Another process opens it anew."""
        return _File, (self.path,)

    def __len__(self) -> int:
        return self._starts[-1]

    def group(self, row: int) -> int:
        """The row group that holds a row; of an ``.npz`` there is one."""
        return bisect_right(self._starts, row) - 1

    def blocks(self, names: Sequence[str], row: int, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """First row and columns of the blocks of the row group that holds a row."""
        first = self._starts[self.group(row)]
        if self._arrays is not None:
            for start in range(first, len(self), size):
                yield start, {name: self._arrays[name][start : start + size] for name in names}
            return
        with self._whole():
            for batch in self._file.iter_batches(size, row_groups=[self.group(row)], columns=[*names]):
                yield first, {name: batch.column(name) for name in names}
                first += len(batch)

    def column(self, name: str) -> list[Any]:
        """All cells of a column, of keys and the like."""
        if self._arrays is not None:
            cells: list[Any] = self._arrays[name].tolist()
            return cells
        with self._whole():
            found: list[Any] = self._file.read(columns=[name]).column(0).to_pylist()
        return found

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{self.path} is damaged, or changed while it was read: {error}") from error


class _Rows:
    """Decoded columns of a file, row by row: ``decoders`` make the cells of a block values, by name."""

    def __init__(self, file: _File, decoders: Mapping[str, Callable[[Any], Decoded]], row_bytes: int) -> None:
        self._file, self._decoders, self._row_bytes = file, decoders, row_bytes
        self._size = max(1, BLOCK_BYTES // max(1, row_bytes))
        self._group, self._first, self._n = -1, 0, 0
        self._rest: Iterator[tuple[int, dict[str, Any]]] = iter(())
        self._block: dict[str, Decoded] = {}

    def __reduce__(self) -> tuple[type[_Rows], tuple[Any, ...]]:
        """In another process nothing is decoded yet."""
        return _Rows, (self._file, self._decoders, self._row_bytes)

    def at(self, row: int) -> dict[str, Any]:
        """The values of a row."""
        if self._file.group(row) != self._group or row < self._first:
            self._group, self._n = self._file.group(row), 0
            self._rest = self._file.blocks([*self._decoders], row, self._size)
            self._first = -1
        while self._first < 0 or row >= self._first + self._n:
            try:
                self._first, cells = next(self._rest)
            except (StopIteration, pa.ArrowException, OSError) as error:
                raise BadInput(
                    f"{self._file.path} is damaged near row {row}, or changed while it was read: {error}"
                ) from error
            self._n = len(next(iter(cells.values())))
            if row < self._first + self._n:
                self._block = {name: decode(cells[name]) for name, decode in self._decoders.items()}
        return {name: values[row - self._first] for name, values in self._block.items()}


class CodedRows:
    """The inputs of a file of codes, in its order. Holds their keys."""

    ignored: Mapping[str, int] = {}

    def __init__(self, file: _File, request: Request, name: str, codes: _Rows, activations: _Rows | None) -> None:
        """Raises `BadInput` for a key that stands twice, and for a label column that is not there."""
        self.name, self.source, self.kind = name, request.source, request.kind
        label = request.choose_label(file.types, request.source)
        content = CONTENTS[request.kind].column(file, request)
        named = {"label": label, "content": content}
        self._named = {what: column for what, column in named.items() if column is not None}
        self._plain = _Rows(file, dict.fromkeys(self._named.values(), plain), PLAIN_BYTES) if self._named else None
        self._keys = _keys(file, file.path.name)
        self._codes, self._activations = codes, activations
        self.fingerprint = hashlib.sha256("\n".join(self._keys).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._keys)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _item(self, ordinal: int) -> Item | BadItem:
        key = self._keys[ordinal]
        cells = self._plain.at(ordinal) if self._plain else {}
        label = cells[self._named["label"]] if "label" in self._named else None
        content = cells[self._named["content"]] if "content" in self._named else key
        item = CONTENTS[self.kind].item(ordinal, key, label, content)
        if isinstance(item, BadItem):
            return item
        codes = self._codes.at(ordinal)
        activations = self._activations.at(ordinal) if self._activations else {}
        for site, value in [*codes.items(), *activations.items()]:
            if isinstance(value, str):
                return BadItem(ordinal, key, f"{value} at site {site}")
        # Rows of equal texts are inputs of their own: each has a code.
        content_hash = hashlib.sha256(f"{key}\0{item.content_hash}".encode()).hexdigest()
        return CodedItem(ordinal, key, item.label, item.content, content_hash, RecordedView(codes, activations))


def open_codes(
    path: str | Path,
    *,
    activations: str | Path | None = None,
    sites: Sequence[str] | None = None,
    gates: Mapping[str, int] | None = None,
    text_column: str = "text",
    label_column: str | None = None,
    name: str | None = None,
    data_name: str | None = None,
) -> tuple[RecordedNetwork, CodedRows]:
    """Codes that something else computed, to be ingested as a network's would be: ``ingest("x.atlas", *opened)``.

    A row is an example. Columns of a Parquet file (or arrays of an ``.npz``): ``key``, which names it (else file and
    row do); ``label``; a text or an ``image``, where there is one; and a site each of lists of booleans (an array of
    booleans), or of packed bytes (``uint8``), gate 0 the most significant bit of the first. Sites are in the order of
    the columns. All rows are read once before anything is stored: codes of other lengths, padding that is not zero
    and activations that are NaN are named by their keys.

    Args:
        path: the file.
        activations: another file, with a column of lists of numbers for every site, and the same keys in its rows.
        sites: columns to take; by default all that hold codes.
        gates: of sites whose codes are packed, how many gates there are; by default 8 a byte.
        text_column: column of the texts.
        label_column: column of the labels; by default ``label``, where there is one.
        name: what the atlas calls the network; by default as the file.
        data_name: what it calls the inputs; by default the same.

    Returns:
        What stands for the network, and the inputs.

    Raises:
        BadInput: a file that can't be read, a key that stands twice, keys that differ between the files, a column
            that is not there or holds something else.
        EmptyDataset: there is no row.
        UsageError: no site, or an impossible number of gates.
    """
    file = _File(Path(path).expanduser())
    chosen = _sites(file, sites, gates or {})
    decoders = {site: bits_of(_width(file, site, gates or {}), is_packed(file.types[site])) for site in chosen}
    widths = {site: _width(file, site, gates or {}) for site in chosen}
    codes = _Rows(file, decoders, sum(-(-width // 8) for width in widths.values()) + 1)
    held, units = None, dict(widths)
    digest = _digest(file.path)
    if activations is not None:
        other = _File(Path(activations).expanduser())
        _check_keys(file, other)
        for site in chosen:
            if not holds_numbers(other.types.get(site)):
                raise BadInput(
                    f"{other.path} has no column of lists of numbers {site!r}; its columns: {', '.join(other.types)}"
                )
        units = {site: _length(other, site) for site in chosen}
        held = _Rows(other, {site: numbers_of(units[site]) for site in chosen}, 4 * sum(units.values()))
        digest = hashlib.sha256(f"{digest}\n{_digest(other.path)}".encode()).hexdigest()
    kind: Kind = "image" if IMAGE in file.types else "text"
    request = Request(str(path), kind, text_column, label_column)
    called = name or file.path.stem
    reading = {"activations": held is not None}
    info = NetworkInfo(called, "codes from elsewhere", kind, RECORDED, str(file.path.resolve()), digest, reading)
    described = [
        Site(
            site,
            place,
            units[site],
            widths[site],
            "unknown",
            False,
            unit_shape=(units[site],),
            layout=(GateRange(site, 0, widths[site]),),
            broken_by=BROKEN_BY,
        )
        for place, site in enumerate(chosen)
    ]
    return RecordedNetwork(info, described), CodedRows(file, request, data_name or called, codes, held)


# --- what columns hold -----------------------------------------------------------------------------------------


def _sites(file: _File, wanted: Sequence[str] | None, gates: Mapping[str, int]) -> list[str]:
    held = [name for name, type_ in file.types.items() if name not in (KEY, IMAGE) and holds_codes(type_)]
    for site in (*(wanted or ()), *gates):
        if site not in held:
            raise BadInput(
                f"{file.path} has no column of codes {site!r}; it has {', '.join(held) or 'none'} (lists of booleans "
                f"or packed bytes) among {', '.join(file.types)}"
            )
    chosen = held if wanted is None else [site for site in held if site in wanted]
    if not chosen:
        raise UsageError(
            f"{file.path} has no column of codes: expected lists of booleans, or packed bytes, a column a site; its "
            f"columns are {', '.join(file.types)}"
        )
    return chosen


def _length(file: _File, column: str) -> int:
    """Of the first row's list, bytes or row of an array."""
    _, cells = next(file.blocks([column], 0, 1))
    first = cells[column][0]
    length = len(first) if isinstance(first, np.ndarray) else len(first.as_py() or ())
    if not length:
        raise BadInput(f"{file.path}: the first row has nothing in column {column!r}")
    return length


def _width(file: _File, site: str, gates: Mapping[str, int]) -> int:
    length = _length(file, site)
    if not is_packed(file.types[site]):
        if gates.get(site, length) != length:
            raise UsageError(f"{site} has lists of {length} booleans; it can't have {gates[site]} gates")
        return length
    width = gates.get(site, 8 * length)
    if -(-width // 8) != length:
        raise UsageError(
            f"{site} has {length} bytes a code; they hold {8 * length - 7} to {8 * length} gates, not {width}"
        )
    return width


@dataclass(frozen=True)
class _Content:
    """What a row shows: ``column`` finds it, ``item`` makes an input of (ordinal, key, label, its cell); the key
    stands in for a column that is not there."""

    column: Callable[[_File, Request], str | None]
    item: Callable[[int, str, object, Any], Item | BadItem]


def _text_column(file: _File, request: Request) -> str | None:
    return request.text_column if request.text_column in file.types else None


def _image(ordinal: int, key: str, label: object, content: object) -> Item | BadItem:
    if not isinstance(content, np.ndarray):
        return image_cell_item(ordinal, key, label, content)
    image = Image.fromarray(content)
    return with_label(Item(ordinal, key, None, image, pixels_hash(image)), label)


CONTENTS: dict[Kind, _Content] = {
    "text": _Content(_text_column, text_item),
    "image": _Content(lambda file, request: IMAGE, _image),
}


# --- keys ------------------------------------------------------------------------------------------------------


def _keys(file: _File, name: str) -> list[str]:
    """The keys of all rows; `BadInput` for one that is missing or stands twice."""
    if KEY not in file.types:
        return [f"{printable(name)}:{row}" for row in range(len(file))]
    keys = file.column(KEY)
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key is None or key != key:
            raise BadInput(f"{file.path}: row {row} has no key; keys name inputs, each once")
        first = rows.setdefault(str(key), row)
        if first != row:
            raise BadInput(
                f"{file.path}: key {str(key)!r} stands in rows {first} and {row} (from 0); a key names one input"
            )
    return [*rows]


def _check_keys(file: _File, other: _File) -> None:
    if len(file) != len(other):
        raise BadInput(f"{file.path} has {len(file)} rows and {other.path} {len(other)}; both must have the same")
    if KEY not in file.types and KEY not in other.types:
        return
    for row, (one, two) in enumerate(zip(_keys(file, "row"), _keys(other, "row"), strict=True)):
        if one != two:
            raise BadInput(f"row {row} is {one!r} in {file.path} and {two!r} in {other.path}; sort both alike")


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
