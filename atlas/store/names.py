"""The names and notes that people gave, in a file of their own: to write one takes nobody's lock on the database.

``names.jsonl`` holds a JSON object a line, and lines are only ever added. The last line of an example, in one
network, target and space, says what it is called; one without name and note takes both away. A line counts once its
line break is written: what a writer that was killed left behind is cut off by the next one. A line carries a digest
of what it says; one that a person wrote may do without.
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

from ..errors import DamagedAtlas
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


def read_names(folder: Path) -> list[Name]:
    """The names and notes of the atlas in ``folder`` as they are now. Raises `DamagedAtlas` where a line is none."""
    names: dict[tuple[str, str, str, int], Name] = {}
    path = folder / NAMES
    if (what := no_file(path)) is not None:
        raise DamagedAtlas(f"{path} {what}; remove it, and put the file with the names in its place if you have it")
    if not path.exists():
        return []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            name = Name(**(unsealed(line) or {} if SEAL in record else record))
        except (ValueError, TypeError):
            raise DamagedAtlas(
                f"line {number} of {path} is no name as `polytope name` writes it; mend it or take it out"
            ) from None
        names[name.network, name.target, name.space, name.example_id] = name
    return [name for name in names.values() if name.name is not None or name.note is not None]


@contextmanager
def changing_names(folder: Path) -> Iterator[Callable[[Name], None]]:
    """Nobody else changes the names meanwhile; what is given appends a line, which then is on the disk."""
    read_names(folder)  # raises what is wrong with them
    with disk_full(folder / NAMES), (folder / NAMES).open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def append(name: Name) -> None:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            line = sealed(asdict(name), indent=None) + b"\n"
            if file.write(line) != len(line):
                file.truncate(whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a disk that took a part of it is full
            os.fsync(file.fileno())

        yield append
