"""Folders of texts or images, and single files of them: one item a file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from atlas.errors import BadInput, EmptyDataset, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import Kind
from atlas.store.disk import no_file

from .base import BadItem, Dataset, Item, Request, advice_for, ordinals, printable, refuse_label_column, suffix_of
from .kinds import SOURCES
from .lines import CSV_DELIMITERS
from .tables import PARQUET, ParquetRows


class FileItems:
    """Files, one item each: a folder's, or a single one. Holds their relative paths."""

    def __init__(
        self, root: Path, files: Iterable[tuple[str, int]], request: Request, name: str, ignored: Mapping[str, int]
    ) -> None:
        """``files`` are (path relative to ``root`` with ``/``, bytes), in the order of the items."""
        self.name, self.source, self.kind, self.ignored = name, request.source, request.kind, ignored
        of_file = SOURCES[request.kind].of_file
        assert of_file is not None  # a kind without files of single inputs has no suffix by which some were chosen
        self._root, self._of_file, self._limits = root, of_file, request.limits
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
        if (what := no_file(self._root / path)) is not None:  # it was one when the folder was listed
            return BadItem(ordinal, key, what)
        try:
            if (why := self._limits.too_large((self._root / path).stat().st_size)) is not None:
                return BadItem(ordinal, key, why)
            data = (self._root / path).read_bytes()
        except OSError as error:
            return BadItem(ordinal, key, f"can't be read: {error.strerror}")
        return self._of_file(ordinal, key, label, data, self._limits)


def open_folder(path: Path, request: Request) -> Dataset:
    """The texts or images below a folder, or the rows of the Parquet files below it."""
    source, kind = request.source, request.kind
    name = request.name or path.resolve().name or "root"
    files, ignored = _scan(path, source)
    wanted = [(file, size) for file, size in files if suffix_of(file) in SOURCES[kind].suffixes]
    tables = [(path / file, printable(file)) for file, _ in files if suffix_of(file) == PARQUET]
    found = Counter(suffix_of(file) or "no suffix" for file, _ in files)
    if wanted and tables:
        raise UsageError(
            f"{source} holds {kind} files and tables: {_counted(found)}. "
            "Give the folder of one of them, or a single file"
        )
    used = SOURCES[kind].suffixes if wanted else {PARQUET}
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
    if suffix in SOURCES[kind].records:
        return SOURCES[kind].records[suffix](path, request, name)
    if suffix in SOURCES[kind].suffixes:
        refuse_label_column(request, "a single file has no label")
        return FileItems(path.parent, [(path.name, path.stat().st_size)], request, name, {})
    if _kind_of(suffix) is not None:
        raise _nothing_found(source, kind, Counter([suffix]))
    readable = {*SOURCES[kind].suffixes, PARQUET, *SOURCES[kind].records}
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


def _kind_of(suffix: str) -> Kind | None:
    """The kind whose inputs files of a suffix hold; None for tables (Parquet, CSV), which hold any."""
    if suffix in CSV_DELIMITERS:
        return None
    return next((kind for kind in SOURCES if suffix in {*SOURCES[kind].suffixes, *SOURCES[kind].records}), None)


def _nothing_found(source: str, kind: Kind, found: Counter[str]) -> EmptyDataset:
    """The error for a source without an input of this kind: what there is instead, and what to do with it."""
    kinds = Counter({suffix: count for suffix, count in found.items() if _kind_of(suffix)})
    expected = [f"files of {kind}s ({_listed(SOURCES[kind].suffixes)})"] if SOURCES[kind].suffixes else []
    advice = f"Expected {' or '.join([*expected, PARQUET])}"
    records = [suffix for suffix in found if suffix in SOURCES[kind].records]
    if records:
        advice = f"Give a {records[0]} file itself as the source"
    elif kinds:
        suffix, count = kinds.most_common(1)[0]
        other = _kind_of(suffix)
        assert other is not None
        files = f"The {count} {other}{'s' if count > 1 else ''}" if suffix in SOURCES[other].suffixes else "It"
        verb = "fit" if files != "It" else "fits"
        advice = f"{files} {verb} another network: {advice_for(other)}"
    return EmptyDataset(
        f"{source} holds no {kind} for {INPUT_KINDS[kind].network}; it holds {_counted(found)}. {advice}"
    )


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common()) or "no file at all"


def _listed(suffixes: Iterable[str]) -> str:
    return " ".join(sorted(suffixes))
