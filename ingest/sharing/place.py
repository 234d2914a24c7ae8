"""A place where files lie: a folder, or what fsspec reaches under an address. The only module that imports fsspec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from atlas.errors import DiskFull, PolytopeError, StoreError, UsageError
from atlas.store.disk import first_line, is_disk_full

WITH_FOLDERS = {"file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs"}
"""Where a file needs its folder, and can be seen half written; elsewhere a file is there whole or not at all."""


class Place:
    """The files under an address. Whatever a store says is wrong is a `StoreError` that names the address."""

    def __init__(self, address: str) -> None:
        """Raises `UsageError` for an address that nothing installed here reaches."""
        self.address = address.rstrip("/") or address
        try:
            self._files, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address} can't be reached ({first_line(error)})") from None
        self._root = root.rstrip("/")
        protocols = self._files.protocol
        self._with_folders = bool(WITH_FOLDERS & {*([protocols] if isinstance(protocols, str) else protocols)})

    def sizes(self) -> dict[str, int]:
        """Every file by its path under the address, with its bytes."""
        with self._explained():
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        start = len(self._root) + 1
        return {
            path[start:]: int(about["size"]) for path, about in found.items() if path.startswith(f"{self._root}/")
        }

    def read(self, path: str, most: int) -> bytes | None:
        """A small file; None where there is none. Raises `StoreError` for one of more than ``most`` bytes."""
        with self._explained():
            try:
                size = int(self._files.info(self._at(path))["size"])
            except FileNotFoundError:
                return None
            if size > most:
                raise StoreError(f"{self.address}/{path} has {size:,} bytes; at most {most:,} are expected")
            content: bytes = self._files.cat_file(self._at(path))
        return content

    def put(self, local: Path, path: str) -> None:
        """Bring a file there: it appears whole, in place of what was there."""
        with self._explained():
            if not self._with_folders:
                self._files.put_file(str(local), self._at(path))
                return
            folder, _, name = self._at(path).rpartition("/")
            unfinished = f"{folder}/.{name}.part"
            self._files.makedirs(folder, exist_ok=True)
            self._files.put_file(str(local), unfinished)
            self._files.mv(unfinished, self._at(path))

    def get(self, path: str, local: Path) -> None:
        """Fetch a file."""
        with self._explained():
            self._files.get_file(self._at(path), str(local))

    def remove(self, paths: Iterable[str]) -> None:
        """Take files away."""
        with self._explained():
            for path in paths:
                self._files.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PolytopeError:
            raise
        except FileNotFoundError as error:
            raise StoreError(f"{self.address}: not found: {first_line(error)}") from error
        except Exception as error:  # a store's library has errors of its own: of rights, of connections, of quotas
            if is_disk_full(error):
                raise DiskFull(
                    f"no space left at {self.address}; free some and give the same command again: what was complete "
                    "is kept"
                ) from error
            what = first_line(error) if str(error).strip() else type(error).__name__
            raise StoreError(
                f"{self.address}: {what}; what was complete is kept: give the same command again"
            ) from error
