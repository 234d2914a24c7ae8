"""What people wrote, in a file of its own: names and notes, tags, saved views. To write takes nobody's lock on the
database.

``names.jsonl`` holds a JSON object a line, and lines are only ever added. The last line of an example, in one
network, target and space, says what it is called; one without name and note takes both away. A line with ``tag``
puts a tag on examples, or takes it off them; the last line that names both an example and a tag counts. A line with
``view`` names an address of the explorer; the last of a name counts.

A line counts once its line break is written: what a writer that was killed left behind is cut off by the next one. A
line carries a digest of what it says; one that a person wrote may do without.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import DamagedAtlas, UsageError
from .cache import cache_folder
from .disk import SEAL, disk_full, no_file, sealed, unsealed

NAMES = "names.jsonl"


@dataclass(frozen=True)
class Name:
    """What one example is called in one network, site or span, and space. ``named_at``: ISO 8601, UTC."""

    network: str
    target: str
    space: str
    example_id: int
    name: str | None
    note: str | None
    named_at: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.named_at)
        texts = (self.network, self.target, self.space, self.name or "", self.note or "")
        if type(self.example_id) is not int or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"no name: {self}")


@dataclass(frozen=True)
class Tag:
    """A tag put on examples, or ``removed`` from them. ``tagged_at``: ISO 8601, UTC."""

    tag: str
    examples: tuple[int, ...]
    removed: bool
    tagged_at: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.tagged_at)
        if type(self.removed) is not bool or not isinstance(self.tag, str):
            raise TypeError(f"no tag: {self}")
        if any(type(example) is not int for example in self.examples):
            raise TypeError(f"no tag: {self}")


@dataclass(frozen=True)
class SavedView:
    """An address of the explorer under a name; None takes the name away. ``saved_at``: ISO 8601, UTC."""

    view: str
    address: str | None
    saved_at: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.saved_at)
        if not isinstance(self.view, str) or not isinstance(self.address or "", str):
            raise TypeError(f"no view: {self}")


Written = Name | Tag | SavedView


def read_names(folder: Path) -> list[Name]:
    """The names and notes of the atlas in ``folder`` as they are now. Raises `DamagedAtlas` where a line is none."""
    names: dict[tuple[str, str, str, int], Name] = {}
    for name in _written(folder):
        if isinstance(name, Name):
            names[name.network, name.target, name.space, name.example_id] = name
    return [name for name in names.values() if name.name is not None or name.note is not None]


def read_tags(folder: Path) -> dict[tuple[str, int], str]:
    """When each tag was put on each example that bears it now. Raises `DamagedAtlas`."""
    tags: dict[tuple[str, int], str] = {}
    for line in _written(folder):
        if isinstance(line, Tag):
            for example in line.examples:
                tags.pop((line.tag, example), None)
                if not line.removed:
                    tags[line.tag, example] = line.tagged_at
    return tags


def grouped(tags: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    """What `read_tags` returns, an entry for each tag and moment: tag, tagged_at, examples."""
    entries: dict[tuple[str, str], list[int]] = {}
    for (tag, example), moment in tags.items():
        entries.setdefault((tag, moment), []).append(example)
    return [{"tag": tag, "tagged_at": moment, "examples": held} for (tag, moment), held in entries.items()]


def read_views(folder: Path) -> list[SavedView]:
    """The addresses that bear a name now, the one saved last first. Raises `DamagedAtlas`."""
    views: dict[str, SavedView] = {}
    for line in _written(folder):
        if isinstance(line, SavedView):
            views.pop(line.view, None)
            views[line.view] = line
    return [view for view in reversed(views.values()) if view.address]


def _written(folder: Path) -> Iterator[Written]:
    path = folder / NAMES
    if (what := no_file(path)) is not None:
        raise DamagedAtlas(f"{path} {what}; remove it, and put the file with the names in its place if you have it")
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            record = (unsealed(line) or {}) if SEAL in record else record
            if "tag" in record:
                yield Tag(**record | {"examples": tuple(record.get("examples", ()))})  # JSON has lists
            else:
                yield (SavedView if "view" in record else Name)(**record)
        except (ValueError, TypeError):
            raise DamagedAtlas(
                f"line {number} of {path} is no name as `polytope name` writes it; mend it or take it out"
            ) from None


@contextmanager
def changing_names(folder: Path) -> Iterator[Callable[[Written], None]]:
    """Nobody else changes the names meanwhile; what is given appends a line, which then is on the disk."""
    if folder.is_relative_to(cache_folder()):
        raise UsageError("names of an atlas on object storage are only read; name clusters in an atlas in a folder")
    read_names(folder)  # raises what is wrong with them
    with disk_full(folder / NAMES), (folder / NAMES).open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def append(name: Written) -> None:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            line = sealed(asdict(name), indent=None) + b"\n"
            if file.write(line) != len(line):
                file.truncate(whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a disk that took a part of it is full
            os.fsync(file.fileno())

        yield append
