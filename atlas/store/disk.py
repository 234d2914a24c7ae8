"""Files and folders that appear complete or not at all, and what a full or forbidden disk is called.

What is being written lies beside its final name under ``.NAME.PROCESS.tmp``, where PROCESS names the machine and
container, the process there, and something random: process ids are unique neither over machines nor over containers.
What a process that was killed left so is removed by the next one that writes the same; what a living process or
another machine holds is never touched.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import duckdb

from ..errors import DiskFull, StoreError

SEAL = "sha256_of_this"
"""Name of the digest in a JSON object that `sealed` wrote."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write and read, that takes the place of ``path`` once it is complete and on the disk.

    An error leaves ``path`` as it was. Raises `DiskFull`, and `StoreError` where nothing can be written.
    """
    with disk_full(path):
        remove_unfinished(path)
        unfinished = unfinished_path(path)
        try:
            with unfinished.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def sealed(document: dict[str, Any], indent: int | None = 1) -> bytes:
    """A JSON object as it is written beside data: with the SHA-256 of all else in it, which `unsealed` checks."""
    return json.dumps({**document, SEAL: _digest(document)}, ensure_ascii=False, indent=indent).encode()


def unsealed(content: bytes) -> dict[str, Any] | None:
    """The object in what `sealed` wrote; None where a byte of it has changed since."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop(SEAL, None) != _digest(document):
        return None
    return document


def _digest(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def no_file(path: Path) -> str | None:
    """What is at a path in place of a file, in words that follow its name; None for a file, or where nothing is.

    To open a pipe would wait for ever, and to read some devices never ends.
    """
    if path.is_file():
        return None
    if path.is_dir():
        return "is no file but a folder"
    if path.exists():
        return "is no file but a pipe, a socket or a device"
    return "is a link that leads nowhere" if path.is_symlink() else None


def remove_stranger(path: Path) -> None:
    """Take away what is no file at a path that is ours to write."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif no_file(path) is not None:
        path.unlink()


def unfinished_path(path: Path) -> Path:
    """Where this process prepares what will take the place of ``path``; another one at each call."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_unfinished(path: Path) -> None:
    """Remove the files and folders that killed processes of this machine left where they prepared ``path``."""
    for left in path.parent.glob(f"{_literally(f'.{path.name}.')}*.tmp"):
        if is_mine(left, path) and not _runs(left.name.rsplit("-", 2)[1]):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with suppress(OSError):  # another process removed it, or nobody may: no reason to fail
                    left.unlink()


def is_mine(unfinished: Path, path: Path) -> bool:
    """Whether a process of this machine made what `unfinished_path` named for ``path``."""
    return unfinished.name.removeprefix(f".{path.name}.").rsplit("-", 2)[0] == _machine()


def hold(path: Path) -> Path | None:
    """A file beside ``path`` that says that this process uses what is there, until `let_go` or its end; None where it
    can't be written."""
    held = unfinished_path(path)
    remove_unfinished(path)
    try:
        held.parent.mkdir(parents=True, exist_ok=True)
        held.touch()
    except OSError:
        return None
    return held


def let_go(held: Path | None) -> None:
    """Take away what `hold` wrote; not in a process that was forked since."""
    if held is not None and held.name.rsplit("-", 2)[1] == str(os.getpid()):
        with suppress(OSError):
            held.unlink(missing_ok=True)


def is_held(path: Path, since: float) -> bool:
    """Whether a living process of this machine uses what is at a path, or one of another machine has said so after
    ``since``, in seconds of the epoch."""
    remove_unfinished(path)  # of processes that ended without a word
    return any(
        is_mine(held, path) or held.stat().st_mtime >= since
        for held in path.parent.glob(f"{_literally(f'.{path.name}.')}*.tmp")
    )


def _literally(name: str) -> str:
    return re.sub(r"([\[*?])", r"[\1]", name)


def _machine() -> str:
    """Names the machine and, on Linux, the container, within which process ids are unique."""
    with suppress(OSError):
        container = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
        return f"{re.sub(r'[^0-9A-Za-z]', '_', platform.node())}_{container}"
    return re.sub(r"[^0-9A-Za-z]", "_", platform.node())


def _runs(process: str) -> bool:
    """Whether a process of that number runs on this machine, or may run where nobody can ask."""
    if os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """Turn a full disk, whoever notices it, into `DiskFull`, and one that can't be written into `StoreError`."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        if is_forbidden(error):
            raise StoreError(
                f"{path} can't be written ({first_line(error)}); make it writable for you, or give another folder"
            ) from error
        if is_disk_full(error):
            raise DiskFull(
                f"no space left on the device that holds {path}; free some and give the same command "
                "again: what was complete is kept"
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)


def is_forbidden(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return any(os.strerror(code) in str(error) for code in (errno.EACCES, errno.EPERM, errno.EROFS))


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
