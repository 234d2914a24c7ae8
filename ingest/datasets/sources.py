"""Any source of texts or images, by what a person types: a folder, a file, a builtin, a Hugging Face dataset.

`open_dataset` reads names, offsets or footers and no content; the `Dataset` it returns reads any range of items.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from atlas.errors import BadInput, EmptyDataset, UsageError

from .base import BadItem, Dataset, Item, Kind, Request, ordinals, printable, suffix_of, text_item
from .huggingface import is_saved_dataset, open_hub, open_saved
from .images import IMAGE_SUFFIXES, image_item, pixels_hash
from .tables import JsonLines, ParquetRows

__all__ = ["BadItem", "Dataset", "Item", "Kind", "describe", "open_dataset"]

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})
JSON_SUFFIXES = frozenset({".jsonl", ".json"})
PARQUET = ".parquet"
SUFFIXES = {"text": TEXT_SUFFIXES, "image": IMAGE_SUFFIXES}

_ALSO_FILES = frozenset({".csv", ".tsv", ".zip", ".gz", ".tar", ".html", ".xml", ".pdf", ".arrow", ".npy", ".py"})
"""No dataset of ours, but whoever types one means a file and not a dataset on the hub."""

_BUILTINS: dict[str, tuple[Kind, Literal["all", "train", "heldout"]]] = {
    "python": ("text", "all"),
    "python-train": ("text", "train"),
    "python-heldout": ("text", "heldout"),
    "digits": ("image", "all"),
    "digits-train": ("image", "train"),
    "digits-heldout": ("image", "heldout"),
}


def open_dataset(
    source: str,
    *,
    kind: Kind,
    text_column: str = "text",
    label_column: str | None = None,
    split: str = "train",
    name: str | None = None,
) -> Dataset:
    """The dataset that ``source`` names, for a network that reads ``kind``.

    | source | items | labels |
    |---|---|---|
    | a folder | its ``.txt .md .rst .text`` files or its images, at any depth, by path | the first-level subfolder |
    | a folder of ``.parquet`` files, or one | rows | ``label_column``, by default ``label`` where it exists |
    | a ``.jsonl`` or ``.json`` file | lines, one object each (text only) | the same |
    | a text or an image | one | none |
    | ``builtin:python``, ``builtin:digits`` | all of it; ``-train``, ``-heldout``: that part | the builtin's own |
    | a folder that ``save_to_disk`` wrote | rows of ``split`` | as for Parquet; classes by name |
    | ``OWNER/NAME``, ``NAME``, ``NAME:CONFIGURATION`` | rows of ``split`` on the Hugging Face hub | the same |

    Whatever exists as a file or folder is taken for it, and what looks like a path is never looked for on the hub.
    ``name`` replaces the name that is derived from the source.

    Raises:
        BadInput: no such file, folder or dataset; a file that can't be read; a column that is not there.
        EmptyDataset: nothing to ingest, or only inputs of the other kind; the message counts what was found.
        HubUnavailable: a hub name, and no connection.
        UsageError: an impossible argument, or the optional ``datasets`` is needed and not installed.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"kind is {kind!r}; expected 'text' or 'image'")
    if not source.strip():
        raise UsageError("the source is empty; expected a file, a folder, builtin:NAME or a Hugging Face dataset")
    request = Request(source, kind, text_column, label_column, split, name)
    if source.startswith("builtin:"):
        return _open_builtin(request)
    path, what = _look_up(source)
    if what == "folder":
        return _open_folder(path, request)
    if what == "file":
        return _open_file(path, request)
    if what == "other":
        raise BadInput(f"{source} is a link that leads nowhere, or neither a regular file nor a folder")
    if _looks_like_path(source):
        raise BadInput(f"no such file or folder: {source} (seen from {Path.cwd()})")
    return open_hub(request)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What an atlas records of a dataset, and what identifies it in the plan of a run."""
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "source": dataset.source,
        "n_items": len(dataset),
        "ignored": dict(dataset.ignored),
        "fingerprint": dataset.fingerprint,
    }


class FileItems:
    """Files, one item each: a folder's, or a single one. Holds their relative paths."""

    def __init__(
        self, root: Path, files: Iterable[tuple[str, int]], request: Request, name: str, ignored: Mapping[str, int]
    ) -> None:
        """``files`` are (path relative to ``root`` with ``/``, bytes), in the order of the items."""
        self.name, self.source, self.kind, self.ignored = name, request.source, request.kind, ignored
        self._root = root
        self._paths: list[str] = []
        identity = hashlib.sha256()
        for path, size in files:
            self._paths.append(path)
            identity.update(os.fsencode(path) + f"\0{size}\n".encode())
        self.fingerprint = identity.hexdigest()

    def __len__(self) -> int:
        return len(self._paths)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _item(self, ordinal: int) -> Item | BadItem:
        path = self._paths[ordinal]
        key = printable(path)
        label = key.split("/", 1)[0] if "/" in key else None
        try:
            data = (self._root / path).read_bytes()
        except OSError as error:
            return BadItem(ordinal, key, f"can't be read: {error.strerror}")
        if self.kind == "image":
            return image_item(ordinal, key, label, data)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return BadItem(ordinal, key, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}")
        return text_item(ordinal, key, label, text)


class BuiltinItems:
    """A dataset that every installation carries: 12 million characters or 1,797 tiny images, so all are held."""

    ignored: Mapping[str, int] = {}

    def __init__(self, request: Request, name: str, items: Sequence[Item | BadItem]) -> None:
        self.name, self.source, self.kind = name, request.source, request.kind
        self._items = items
        identity = hashlib.sha256()
        for item in items:
            known = item.reason if isinstance(item, BadItem) else f"{item.label}\0{item.content_hash}"
            identity.update(f"{item.key}\0{known}\n".encode())
        self.fingerprint = identity.hexdigest()

    def __len__(self) -> int:
        return len(self._items)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._items.__getitem__, ordinals(len(self), start, stop))


def _look_up(source: str) -> tuple[Path, Literal["folder", "file", "other", "nothing"]]:
    """What there is at a path."""
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            return path, "folder"
        if path.is_file():
            return path, "file"
        return path, "other" if path.exists() or path.is_symlink() else "nothing"
    except (OSError, RuntimeError) as error:  # no permission, a name too long, or the home of nobody
        raise BadInput(f"can't look at {source}: {getattr(error, 'strerror', None) or error}") from error


def _open_builtin(request: Request) -> BuiltinItems:
    source, own_name = request.source, request.source.removeprefix("builtin:")
    if own_name not in _BUILTINS:
        raise UsageError(f"there is no {source}; there are: {', '.join(f'builtin:{known}' for known in _BUILTINS)}")
    _refuse_label_column(request, "a builtin dataset has its own labels")
    kind, part = _BUILTINS[own_name]
    if kind != request.kind:
        raise EmptyDataset(f"{source} holds {kind}s; {_fits(kind)}")
    from . import builtin  # its images need scikit-learn, its texts the whole standard library

    items: list[Item | BadItem] = []
    if kind == "text":
        for text in builtin.python_texts(part):
            items.append(text_item(len(items), text.key, text.label, text.text))
    else:
        for image in builtin.digit_images(part):
            items.append(Item(len(items), image.key, image.label, image.image, pixels_hash(image.image)))
    return BuiltinItems(request, request.name or own_name, items)


def _open_folder(path: Path, request: Request) -> Dataset:
    source, kind = request.source, request.kind
    name = request.name or path.resolve().name or "root"
    if is_saved_dataset(path):
        return open_saved(path, request, name)
    files, ignored = _scan(path, source)
    wanted = [(file, size) for file, size in files if suffix_of(file) in SUFFIXES[kind]]
    tables = [(path / file, printable(file)) for file, _ in files if suffix_of(file) == PARQUET]
    found = Counter(suffix_of(file) or "no suffix" for file, _ in files)
    if wanted and tables:
        raise UsageError(
            f"{source} holds {kind} files and tables: {_counted(found)}. "
            "Give the folder of one of them, or a single file"
        )
    used = SUFFIXES[kind] if wanted else {PARQUET}
    ignored.update({suffix: count for suffix, count in found.items() if suffix not in used})
    if wanted:
        _refuse_label_column(request, "the labels of a folder are the names of its subfolders")
        return FileItems(path, wanted, request, name, dict(ignored))
    if tables:
        return ParquetRows(tables, request, name, dict(ignored))
    raise _nothing_found(source, kind, found)


def _open_file(path: Path, request: Request) -> Dataset:
    source, kind = request.source, request.kind
    name = request.name or path.stem
    suffix = suffix_of(path.name)
    if suffix == PARQUET:
        return ParquetRows([(path, printable(path.name))], request, name, {})
    if suffix in JSON_SUFFIXES and kind == "text":
        return JsonLines(path, request, name)
    if suffix in SUFFIXES[kind]:
        _refuse_label_column(request, "a single file has no label")
        return FileItems(path.parent, [(path.name, path.stat().st_size)], request, name, {})
    if suffix in JSON_SUFFIXES | TEXT_SUFFIXES | IMAGE_SUFFIXES:
        raise _nothing_found(source, kind, Counter([suffix]))
    readable = SUFFIXES[kind] | {PARQUET} | (JSON_SUFFIXES if kind == "text" else set())
    raise BadInput(
        f"{source} has {f'the suffix {suffix}' if suffix else 'no suffix'}; expected one of "
        f"{_listed(readable)}, or a folder. Convert it, or rename it if it is one"
    )


def _scan(root: Path, source: str) -> tuple[list[tuple[str, int]], Counter[str]]:
    """All files below ``root`` as (relative path, bytes), sorted by path, and a count of what was passed over.

    Links are followed, save for a folder that holds itself.
    """
    files: list[tuple[str, int]] = []
    passed: Counter[str] = Counter()

    def walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in above:
            passed["circular link"] += 1
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    passed["hidden"] += 1
                elif entry.is_dir():
                    walk(folder / entry.name, f"{prefix}{entry.name}/", above | {(status.st_dev, status.st_ino)})
                elif entry.is_file():
                    files.append((prefix + entry.name, entry.stat().st_size))
                else:
                    passed["broken link or special file"] += 1

    try:
        walk(root, "", frozenset())
    except OSError as error:
        raise BadInput(f"{source}: {error.filename} can't be read: {error.strerror}") from error
    return sorted(files), passed


def _looks_like_path(source: str) -> bool:
    """Whether this is meant as a path. ``OWNER/NAME`` may be on the hub, unless there is a folder OWNER here."""
    suffix = suffix_of(source)
    known = suffix in TEXT_SUFFIXES | JSON_SUFFIXES | IMAGE_SUFFIXES | _ALSO_FILES or suffix == PARQUET
    owner, slash, rest = source.partition("/")
    return (
        known
        or source.startswith((".", "/", "~"))
        or "\\" in source
        or "/" in rest
        or (bool(slash) and (not rest or Path(owner).is_dir()))
    )


def _nothing_found(source: str, kind: Kind, found: Counter[str]) -> EmptyDataset:
    """The error for a source without an input of this kind: what there is instead, and what to do with it."""
    other: Kind = "image" if kind == "text" else "text"
    others = sum(count for suffix, count in found.items() if suffix in SUFFIXES[other])
    advice = f"Expected files of {kind}s ({_listed(SUFFIXES[kind])}) or .parquet"
    if others:
        advice = f"The {others} {other}{'s' if others > 1 else ''} fit another network: {_fits(other)}"
    elif found.keys() & JSON_SUFFIXES:
        advice = _fits("text") if kind == "image" else "Give a .jsonl file itself as the source"
    return EmptyDataset(f"{source} holds no {kind} for {_network(kind)}; it holds {_counted(found)}. {advice}")


def _network(kind: Kind) -> str:
    return "a text network" if kind == "text" else "an image network"


def _fits(kind: Kind) -> str:
    """What to do with inputs of this kind."""
    return f"use {_network(kind)} such as {'gpt2' if kind == 'text' else 'inceptionv1'} for {kind}s"


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common()) or "no file at all"


def _listed(suffixes: Iterable[str]) -> str:
    return " ".join(sorted(suffixes))


def _refuse_label_column(request: Request, why: str) -> None:
    if request.label_column is not None:
        raise UsageError(f"--label-column {request.label_column} is for tables, and {request.source} is none: {why}")
