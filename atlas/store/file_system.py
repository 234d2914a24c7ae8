"""What DuckDB sees of the files of a segmented atlas: a file system that opens those of one version, to read.

It goes by a protocol of its own, ``atlas://``, so that SQL names a file as the version does: no path, bucket or
credential stands in a view, and whatever else a query asks for isn't there. Nothing can be written through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import fsspec

from ..errors import DamagedAtlas, StoreError
from .disk import first_line
from .places import Place, StoredFile
from .segment_files import EMPTY

PROTOCOL = "atlas"
_START = f"{PROTOCOL}://"
_NEVER_CHANGED = datetime(2000, 1, 1)


class SegmentFileSystem(fsspec.AbstractFileSystem):
    """The files of a version, under ``atlas://``. ``failure``: what last went wrong, which DuckDB would only repeat
    as a traceback."""

    protocol = PROTOCOL
    cachable = False  # two atlases have two

    def __init__(self, place: Place, files: Iterable[StoredFile] = ()) -> None:
        super().__init__()
        self.place = place
        self.files = {file.name: file for file in files}
        self.failure: Exception | None = None

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A file of the version; `PermissionError` for every mode but reading."""
        if mode != "rb":
            raise PermissionError("the files of an atlas are only read")
        if (empty := EMPTY.get(path.removeprefix(_START))) is not None:
            return empty.opened()
        file = self._file(path)
        told = f"{self.place.address}: {file.name}"
        try:
            held = self.place.size(file.name)
            if held == file.size:
                return self.place.open(file.name, self._failed)
            self.failure = DamagedAtlas(
                f"{told} has {held} bytes, {file.size} were written; restore it, or open an older version"
            )
        except FileNotFoundError:
            self.failure = DamagedAtlas(f"{told} is not there; restore it, or open an older version")
        except StoreError as error:
            self.failure = error
        except OSError as error:
            self.failure = DamagedAtlas(f"{told} can't be read ({first_line(error)})")
        raise self.failure

    def _failed(self, error: Exception) -> None:
        self.failure = error

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and kind of a file."""
        empty = EMPTY.get(path.removeprefix(_START))
        return {"name": path, "size": self._file(path).size if empty is None else empty.size, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of that very name, if there is one."""
        return [path] if self.exists(path) else []

    def exists(self, path: str, **_: Any) -> bool:
        name = path.removeprefix(_START)
        return name in self.files or name in EMPTY

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        return False

    def modified(self, path: str) -> datetime:
        """The same for all: no file changes."""
        return _NEVER_CHANGED

    def _file(self, path: str) -> StoredFile:
        try:
            return self.files[path.removeprefix(_START)]
        except KeyError:
            raise FileNotFoundError("the atlas has no such file") from None


def address_of(name: str) -> str:
    """What SQL calls a file."""
    return _START + name
