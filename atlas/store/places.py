"""Where the files of a segmented atlas lie, by names such as ``segments/000012-3fa9c1d2/codes/site_id=3/0.parquet``.

A place writes whole files only, never changes one, and creates a file only if there is none of that name.
"""

from __future__ import annotations

import io
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..errors import DamagedAtlas
from .disk import disk_full, unfinished_path


@dataclass(frozen=True)
class StoredFile:
    """A file below the atlas: name, bytes, and their SHA-256."""

    name: str
    size: int
    sha256: str


def ignore(error: Exception) -> None:
    """Told of a failure that is raised as well."""


@runtime_checkable
class Place(Protocol):
    """``address``: as the user gave it; ``local``: the folder on this machine for what is written, or fetched.
    `read`, `size` and `open` raise `FileNotFoundError`."""

    address: str
    local: Path

    def names(self, folder: str) -> list[str]:
        """Names of files in a folder, without it; none where there is no such folder."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def open(self, name: str, failed: Callable[[Exception], None] = ...) -> Any:
        """A file, to read anywhere in it; ``failed`` is told what goes wrong with it later."""
        ...

    def fetch(self, file: StoredFile) -> Path:
        """A whole file on this machine. Raises `DamagedAtlas` where it is gone, or not what was written."""
        ...

    def fetch_beside(self, name: str) -> Path | None:
        """A small file that says itself whether it is whole; None where there is none."""
        ...

    def put(self, name: str, file: Path) -> None:
        """Bring a whole file there, and let it be on the disk."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a whole file unless there is one of that name; says whether it did."""
        ...

    def files(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Every file in a folder, at any depth: its name, its bytes, and the second in which it was written."""
        ...

    def remove(self, name: str) -> None:
        """Take a file away."""
        ...


class SharedFile(io.RawIOBase):
    """A file that several threads read at once: each has a place of its own, so that none reads from where another
    has just gone. DuckDB's threads share a handle, and go to a place and read from there in two calls."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._own = size, threading.local()

    @abstractmethod
    def read_at(self, start: int, length: int) -> bytes:
        """So many bytes from a place on; never less, for they lie within the file."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(getattr(self._own, "at", 0))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._own.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        return self.tell()

    def read(self, size: int = -1) -> bytes:
        start = min(self.tell(), self._size)
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        read = self.read_at(start, stop - start) if stop > start else b""
        self._own.at = stop
        return read

    def readinto(self, buffer: Any) -> int:
        read = self.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)


class LocalFile(SharedFile):
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        super().__init__(os.fstat(self._file.fileno()).st_size)

    def read_at(self, start: int, length: int) -> bytes:
        read = os.pread(self._file.fileno(), length, start)
        while len(read) < length:  # of more than 2 GB a part comes at a time
            more = os.pread(self._file.fileno(), length - len(read), start + len(read))
            if not more:
                raise OSError(f"{self._file.name} ends before it should")
            read += more
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


class Folder:
    """A folder on this machine, or one that several machines mount."""

    def __init__(self, path: Path) -> None:
        self.local = path
        self.address = str(path)

    def names(self, folder: str) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return [entry.name for entry in (self.local / folder).iterdir()]
        return []

    def read(self, name: str) -> bytes:
        return (self.local / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.local / name).stat().st_size

    def open(self, name: str, failed: Callable[[Exception], None] = ignore) -> Any:
        return LocalFile(self.local / name)

    def fetch(self, file: StoredFile) -> Path:
        path = self.local / file.name
        held = path.stat().st_size if path.is_file() else None
        if held != file.size:
            what = "is not there" if held is None else f"has {held} bytes, {file.size} were written"
            raise DamagedAtlas(f"{self.address}/{file.name} {what}; open an older version, or restore it")
        return path

    def fetch_beside(self, name: str) -> Path | None:
        return self.local / name if (self.local / name).is_file() else None

    def put(self, name: str, file: Path) -> None:
        """A file that was written where it belongs, or beside it."""
        place = self.local / name
        with disk_full(place), file.open("rb") as written:
            os.fsync(written.fileno())
            if file != place:
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
            _sync(place.parent)

    def create(self, name: str, content: bytes) -> bool:
        place = self.local / name
        with disk_full(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = unfinished_path(place)
            try:
                with unfinished.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(unfinished, place)
            except FileExistsError:
                return False
            finally:
                unfinished.unlink(missing_ok=True)
            _sync(place.parent)
        return True

    def files(self, folder: str) -> Iterator[tuple[str, int, float]]:
        for file in [file for file in (self.local / folder).rglob("*") if file.is_file()]:
            status = file.stat()
            yield file.relative_to(self.local).as_posix(), status.st_size, status.st_mtime

    def remove(self, name: str) -> None:
        (self.local / name).unlink()


def _sync(folder: Path) -> None:
    """Let the names in a folder be on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
