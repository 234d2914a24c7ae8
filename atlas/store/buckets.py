"""A segmented atlas on object storage, as ``s3://lab/gpt2.atlas``: obstore reads, writes and commits it.

An object is written whole or not at all, and one that is created only if there is none of that name commits a
version. Segments are read where they lie, a piece at a time. Catalogs and indexes, which libraries want as files, are
fetched once, held against their digests and kept on this machine up to a limit. Credentials come from the
environment, as obstore takes them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import DamagedAtlas, StoreError, UsageError
from .cache import cache_folder, trim
from .disk import first_line, replacing
from .places import LocalFile, SharedFile, StoredFile, ignore

READ_AHEAD = 1 << 20
"""Bytes that are fetched at least: to ask costs as much time as a megabyte does."""

STORE_SECONDS = "POLYTOPE_STORE_SECONDS"
"""Environment: seconds that a store has to answer, all tries together. What takes longer is an error."""
DEFAULT_SECONDS = 90.0
TRIES = 3

PIECE = 16 << 20
"""Bytes of a large file that are asked for at once: each has the time that a store has."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+]+):/+(.+)")


def address_in(path: str | Path) -> str | None:
    """The address that a word means, ``s3:/lab/a`` among them, as a `Path` has it; None for a folder."""
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        return None
    scheme, rest = found.groups()
    return f"{scheme}:{'///' if scheme == 'file' else '//'}{rest.rstrip('/')}"


class Bucket:
    """The files under an address; ``local``: where those lie that were fetched, or are being written."""

    def __init__(self, address: str) -> None:
        """Raises `UsageError` for an address that obstore does not know, and where that is not installed."""
        self.address = address
        obstore = _obstore()
        options: dict[str, Any] = {"mkdir": True} if address.startswith("file:") else _patience()
        try:
            self._store = obstore.store.from_url(address, **options)
        except Exception as error:  # obstore's own are of many kinds
            raise UsageError(f"{address} can't be reached ({first_line(error)})") from None
        self.local = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16]
        self._sizes: dict[str, int] = {}

    def names(self, folder: str) -> list[str]:
        with self._explained():
            found = self._store.list_with_delimiter(f"{folder}/")["objects"]
        return [str(about["path"]).rsplit("/", 1)[-1] for about in found]

    def read(self, name: str) -> bytes:
        with self._explained():
            return bytes(self._store.get(name).bytes())

    def size(self, name: str) -> int:
        if (self.local / name).is_file():
            return (self.local / name).stat().st_size
        if name not in self._sizes:  # no object changes
            with self._explained():
                self._sizes[name] = int(self._store.head(name)["size"])
        return self._sizes[name]

    def open(self, name: str, failed: Callable[[Exception], None] = ignore) -> Any:
        """A file: of this machine while it is being written, else where it lies."""
        if (self.local / name).is_file():
            return LocalFile(self.local / name)
        return _Ranges(self, name, failed)

    def range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of an object."""
        with self._explained():
            return bytes(self._store.get_range(name, start=start, length=length))

    def put(self, name: str, file: Path) -> None:
        with self._explained():
            self._store.put(name, file)
        if file.suffix == ".parquet":  # read from there from now on
            file.unlink()

    def create(self, name: str, content: bytes) -> bool:
        try:
            with self._explained():
                self._store.put(name, content, mode="create")
        except FileExistsError:
            return False
        return True

    def fetch(self, file: StoredFile) -> Path:
        """A whole file on this machine, held against its digest when it is fetched. Raises `DamagedAtlas`."""
        local = self.local / file.name
        if local.is_file() and local.stat().st_size == file.size:
            os.utime(local)
            return local
        content = hashlib.sha256()
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(local) as written:
                for piece in self._pieces(file.name, file.size):
                    written.write(piece)
                    content.update(piece)
                if content.hexdigest() != file.sha256:
                    raise DamagedAtlas(
                        f"{self.address}/{file.name} is not as it was written; restore it, or open an older version"
                    )
        except FileNotFoundError:
            raise DamagedAtlas(
                f"{self.address}/{file.name} is not there; restore it, or open an older version"
            ) from None
        trim(self.local.parent, keep=local)
        return local

    def fetch_beside(self, name: str) -> Path | None:
        """A small file that says itself whether it is whole; None where there is none."""
        local = self.local / name
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = self.read(name)
        except FileNotFoundError:
            local.unlink(missing_ok=True)
            return None
        with replacing(local) as written:
            written.write(content)
        return local

    def bring(self, name: str, size: int, file: Path) -> None:
        """Have an object in a file."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as opened:
            for piece in self._pieces(name, size):
                opened.write(piece)

    def _pieces(self, name: str, size: int) -> Iterator[bytes]:
        for start in range(0, size, PIECE):
            yield self.range(name, start, min(PIECE, size - start))

    def files(self, folder: str) -> Iterator[tuple[str, int, float]]:
        with self._explained():
            for some in self._store.list(f"{folder}/" if folder else None):
                for about in some:
                    yield str(about["path"]), int(about["size"]), about["last_modified"].timestamp()

    def remove(self, name: str) -> None:
        with self._explained():
            self._store.delete(name)
        (self.local / name).unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except _obstore().exceptions.AlreadyExistsError:
            raise FileExistsError from None
        except _obstore().exceptions.NotFoundError:
            raise FileNotFoundError from None
        except Exception as error:
            raise StoreError(
                f"{self.address} can't be read or written ({first_line(error)}); look at address, rights and "
                "connection, and give the same command again"
            ) from None


class _Ranges(SharedFile):
    """An object that is read a piece at a time, and a little ahead."""

    def __init__(self, bucket: Bucket, name: str, failed: Callable[[Exception], None]) -> None:
        super().__init__(bucket.size(name))
        self._bucket, self._name, self._failed = bucket, name, failed

    def read_at(self, start: int, length: int) -> bytes:
        held_from, held = getattr(self._own, "held", (0, b""))
        if not held_from <= start <= start + length <= held_from + len(held):
            wanted = min(max(length, READ_AHEAD), self._size - start)
            try:
                held_from, held = start, self._bucket.range(self._name, start, wanted)
                if len(held) < wanted:
                    raise DamagedAtlas(f"{self._bucket.address}/{self._name} ends before it should; restore it")
            except Exception as error:
                self._failed(error)
                raise
            self._own.held = held_from, held
        return held[start - held_from : start - held_from + length]


def _patience() -> dict[str, Any]:
    """How long a store is waited for: each try has its share of the time."""
    try:
        seconds = float(os.environ.get(STORE_SECONDS, DEFAULT_SECONDS))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{STORE_SECONDS} is {os.environ[STORE_SECONDS]!r}; it is a number of seconds above 0")
    a_try = timedelta(seconds=seconds / TRIES)
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {
        "client_options": {"timeout": a_try, "connect_timeout": a_try, "allow_http": plain},
        "retry_config": {"max_retries": TRIES - 1, "retry_timeout": timedelta(seconds=seconds)},
    }


def _obstore() -> ModuleType:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise UsageError("an atlas on object storage needs obstore: pip install 'polytope-atlas[cloud]'") from None
    return obstore
