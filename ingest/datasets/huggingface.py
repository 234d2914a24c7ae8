"""Hugging Face datasets: by name from the hub or its local cache, or a folder that ``save_to_disk`` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from atlas.errors import BadInput, EmptyDataset, HubUnavailable, UsageError
from atlas.store.disk import no_file

from ..connection import why_unreachable
from .base import IMAGE, NUMBER, NUMBERS, TEXT, BadItem, InputLimits, Item, Request, named_class, ordinals
from .images import image_item
from .kinds import SOURCES


class HubDataset:
    """One split of a Hugging Face dataset; its rows stay in memory-mapped Arrow files."""

    ignored: Mapping[str, int] = {}

    def __init__(self, table: Any, request: Request, name: str, split: str) -> None:
        """Wrap ``table``, a ``datasets.Dataset``; ``split`` is what the keys begin with."""
        self.name, self.source, self.kind = name, request.source, request.kind
        self._split, self._limits = split, request.limits
        columns = {column: _holds(feature) for column, feature in table.features.items()}
        self._content = SOURCES[self.kind].choose(request, columns, self.source)
        self._label = request.choose_label(columns, self.source)
        self._class_names = getattr(table.features[self._label], "names", None) if self._label else None
        if not len(table):
            raise EmptyDataset(f"{self.source}: split {split!r} holds no row; choose another with --split")
        for column in self._content:
            if columns[column] == IMAGE:
                # Undecoded: the hash is that of the stored bytes, and a broken image must not stop its neighbours.
                table = table.cast_column(column, _datasets(self.source).Image(decode=False))
        needed = {*self._content, self._label} - {None}
        self._table = table.select_columns([column for column in columns if column in needed])
        identity = f"{self._table._fingerprint} {len(table)} {' '.join(self._content)} {self._label}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._table)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _item(self, ordinal: int) -> Item | BadItem:
        key = f"{self._split}:{ordinal}"
        try:
            row = self._table[ordinal]
        except UnicodeDecodeError as error:
            return BadItem(ordinal, key, f"is not UTF-8: {error}")
        label = row[self._label] if self._label else None
        label = named_class(label, self._class_names)
        cells = [row[column] for column in self._content]
        if isinstance(cells[0], dict) and cells[0]["bytes"] is None and cells[0]["path"]:
            return _image_file_item(ordinal, key, label, Path(cells[0]["path"]), self._limits)
        return SOURCES[self.kind].of_cells(ordinal, key, label, cells, self._limits)


def open_hub(request: Request) -> HubDataset:
    """Load ``OWNER/NAME``, ``NAME`` or, where a dataset has several configurations, ``OWNER/NAME:CONFIGURATION``.

    What is in the local cache loads without a network. Raises `HubUnavailable` where neither has it, `BadInput`
    where the hub says that there is no such dataset (or split, or configuration: its own message follows).
    """
    source, split = request.source, request.split
    library = _datasets(source)
    repository, *configuration = source.split(":", maxsplit=1)
    try:
        with _offline_if_unreachable(library):
            table = library.load_dataset(repository, *configuration, split=split)
    except FileNotFoundError as error:
        raise BadInput(
            f"{source!r} is neither a file or folder here nor a dataset that the hub shows you: {error}. "
            "Check the name, or log in with `hf auth login` if it is private"
        ) from error
    except OSError as error:  # no connection, or the hub answered with an HTTP error
        raise HubUnavailable(
            f"{source!r} is no file or folder here, and as a Hugging Face dataset it is not in the local cache and "
            f"can't be fetched ({error}). Give a path, connect to the internet, or on a connected machine run "
            f"`datasets.load_dataset({', '.join(map(repr, [repository, *configuration]))}, split={split!r})"
            ".save_to_disk(FOLDER)` and give the FOLDER"
        ) from error
    except (ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise BadInput(
            f"Hugging Face dataset {source!r}, split {split!r}, can't be loaded: {error}. Choose a split "
            "with --split, and a configuration as NAME:CONFIGURATION"
        ) from error
    return HubDataset(table, request, request.name or _short_name(repository, split), split)


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder, as one dataset or as several splits."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def open_saved(folder: Path, request: Request, name: str) -> HubDataset:
    """Open a folder for which `is_saved_dataset` holds; the split asked for matters where it holds several."""
    source, split = request.source, request.split
    library = _datasets(source)
    try:
        table = library.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise BadInput(f"{source} looks like a folder of `save_to_disk` but can't be read: {error}") from error
    if isinstance(table, library.DatasetDict):
        if split not in table:
            raise BadInput(f"{source} has no split {split!r}; it has: {', '.join(table)}. Choose one with --split")
        return HubDataset(table[split], request, name, split)
    return HubDataset(table, request, name, "row" if table.split is None else str(table.split))


def _datasets(source: str) -> ModuleType:
    """The optional library, imported here because it takes 2 s and most people's data are files."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"{source!r} needs Hugging Face's `datasets`, which is not installed, unless a file or folder was meant. "
            "Check the path, or run: pip install 'polytope-atlas[hub]'"
        ) from error
    return datasets


@contextmanager
def _offline_if_unreachable(library: ModuleType) -> Iterator[None]:
    """Ask the hub once; where it does not answer, switch ``datasets`` to its cache at once instead of retrying."""
    before = library.config.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = before or why_unreachable(library.config.HF_ENDPOINT) is not None
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _short_name(repository: str, split: str) -> str:
    name = repository.rpartition("/")[2]
    return name if split == "train" else f"{name}-{split}"


def _holds(feature: Any) -> str:
    """What a column holds, in the words of `base`; any other feature by its name."""
    if type(feature).__name__ == "Image":
        return IMAGE
    dtype = getattr(feature, "dtype", None)
    if dtype in ("string", "large_string"):
        return TEXT
    if _is_number(dtype):
        return NUMBER if type(feature).__name__ in ("Value", "ClassLabel") else NUMBERS  # else Array2D and the like
    inner = feature
    while hasattr(inner, "feature"):
        inner = inner.feature
    return NUMBERS if inner is not feature and _is_number(getattr(inner, "dtype", None)) else str(feature)


def _is_number(dtype: object) -> bool:
    return isinstance(dtype, str) and dtype.startswith(("int", "uint", "float", "bool"))


def _image_file_item(ordinal: int, key: str, label: object, path: Path, limits: InputLimits) -> Item | BadItem:
    """A dataset built from a local folder refers to its files instead of holding them."""
    if (what := no_file(path)) is not None:
        return BadItem(ordinal, key, f"points to {path}, which {what}")
    try:
        data = path.read_bytes()
    except OSError as error:
        return BadItem(ordinal, key, f"points to {path}, which can't be read: {error.strerror}")
    return image_item(ordinal, key, label, data, limits)
