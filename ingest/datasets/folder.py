"""Folders of texts or images, and single files of them: one item a file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from atlas.errors import BadInput, EmptyDataset, UsageError

from .base import (
    BadItem,
    Dataset,
    Item,
    Kind,
    Request,
    advice_for,
    network_for,
    ordinals,
    printable,
    refuse_label_column,
    suffix_of,
    text_item,
)
from .images import IMAGE_SUFFIXES, image_item
from .tables import JSON_SUFFIXES, PARQUET, JsonLines, ParquetRows

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})
SUFFIXES = {"text": TEXT_SUFFIXES, "image": IMAGE_SUFFIXES}


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


def open_folder(path: Path, request: Request) -> Dataset:
    """The texts or images below a folder, or the rows of the Parquet files below it."""
    source, kind = request.source, request.kind
    name = request.name or path.resolve().name or "root"
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
        refuse_label_column(request, "the labels of a folder are the names of its subfolders")
        return FileItems(path, wanted, request, name, dict(ignored))
    if tables:
        return ParquetRows(tables, request, name, dict(ignored))
    raise _nothing_found(source, kind, found)


def open_file(path: Path, request: Request) -> Dataset:
    """A file of records, or a text or image by itself."""
    source, kind = request.source, request.kind
    name = request.name or path.stem
    suffix = suffix_of(path.name)
    if suffix == PARQUET:
        return ParquetRows([(path, printable(path.name))], request, name, {})
    if suffix in JSON_SUFFIXES and kind == "text":
        return JsonLines(path, request, name)
    if suffix in SUFFIXES[kind]:
        refuse_label_column(request, "a single file has no label")
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


def _nothing_found(source: str, kind: Kind, found: Counter[str]) -> EmptyDataset:
    """The error for a source without an input of this kind: what there is instead, and what to do with it."""
    other: Kind = "image" if kind == "text" else "text"
    others = sum(count for suffix, count in found.items() if suffix in SUFFIXES[other])
    advice = f"Expected files of {kind}s ({_listed(SUFFIXES[kind])}) or .parquet"
    if others:
        advice = f"The {others} {other}{'s' if others > 1 else ''} fit another network: {advice_for(other)}"
    elif found.keys() & JSON_SUFFIXES:
        advice = advice_for("text") if kind == "image" else "Give a .jsonl file itself as the source"
    return EmptyDataset(f"{source} holds no {kind} for {network_for(kind)}; it holds {_counted(found)}. {advice}")


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common()) or "no file at all"


def _listed(suffixes: Iterable[str]) -> str:
    return " ".join(sorted(suffixes))
