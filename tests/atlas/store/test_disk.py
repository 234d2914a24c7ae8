"""Files appear complete or not at all, and what a killed process left is removed."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atlas.errors import DiskFull, StoreError
from atlas.store.disk import replacing, unfinished_path


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"after")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["a"] and path.read_text() == "before"


@pytest.mark.parametrize(("number", "kind"), [(28, DiskFull), (13, StoreError), (30, StoreError)])
def test_a_full_or_forbidden_disk_is_named(number: int, kind: type[StoreError], tmp_path: Path) -> None:
    with pytest.raises(kind, match=str(tmp_path)), replacing(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_only_what_the_killed_left_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    living, other = (unfinished_path(tmp_path / name) for name in ("a[1]", "b"))
    killed, other = (
        path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")) for path in (living, other)
    )
    foreign = killed.with_name(killed.name.replace("a[1].", "a[1].elsewhere"))
    for path in (killed, living, other, foreign):
        path.touch()
    with replacing(tmp_path / "a[1]") as file:
        file.write(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {living.name, other.name, foreign.name, "a[1]"}


def test_two_threads_replace_one_file(tmp_path: Path) -> None:
    path, both = tmp_path / "a", threading.Barrier(2, timeout=30)
    failed: list[BaseException] = []

    def write(text: bytes) -> None:
        try:
            with replacing(path) as file:
                both.wait()
                file.write(text)
                both.wait()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in (b"one", b"three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and path.read_bytes() in (b"one", b"three")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
