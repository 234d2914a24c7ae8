"""What vacuum removes of a segmented atlas, and what it leaves."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import atlas
import query
from atlas.errors import AtlasLocked, UnknownName, UsageError
from atlas.store.places import Folder
from atlas.store.vacuum import vacuum
from atlas.store.versions import version_numbers


@pytest.fixture
def copied(segmented: Callable[[int], Path], tmp_path: Path) -> Path:
    path = tmp_path / "a.atlas"
    shutil.copytree(segmented(3), path)
    return path


def test_old_versions_go(copied: Path) -> None:
    """All but the newest, where there is no time of grace; what it needs stays, and a killed commit's files go."""
    left = copied / "segments" / "000099-0badf00d" / "codes" / "site_id=3" / "0.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    *old, last = version_numbers(Folder(copied))
    removed = vacuum(copied, grace=0)
    assert removed.versions == tuple(old) and removed.files >= len(old) + 1 and removed.bytes > 100_000
    assert not left.parent.parent.parent.exists() and version_numbers(Folder(copied)) == [last]
    with atlas.open(copied) as a:
        assert query.verify(a)["ok"].all()
    assert len(list((copied / "catalog").iterdir())) == 1
    with pytest.raises(UnknownName, match="has no version 1"):
        atlas.open(copied, version=1)


def test_nothing_goes_within_grace(copied: Path) -> None:
    left = copied / "segments" / "000099-0badf00d" / "0.parquet"
    left.parent.mkdir()
    left.write_bytes(b"being written on another machine")
    before = version_numbers(Folder(copied))
    assert vacuum(copied).files == 0
    assert version_numbers(Folder(copied)) == before and left.exists()


def test_what_is_read_stays(copied: Path) -> None:
    """By a process of this machine; what one that was killed had open goes, and another machine's by its age."""
    names = copied / "versions"
    killed = names / f".000003.json.{next_machine(names)}-999999999-00000000.tmp"
    elsewhere = names / ".000004.json.another_machine-1-00000000.tmp"
    for held in (killed, elsewhere):
        held.touch()
    os.utime(elsewhere, (0, 0))
    with atlas.open(copied, version=2) as a:
        kept = vacuum(copied, grace=0)
        assert 2 not in kept.versions and {1, 3, 4} <= {*kept.versions}
        assert a.value("select count(*) from codes") == 1510 and not killed.exists()
    assert vacuum(copied, grace=0).versions == (2,)


def next_machine(folder: Path) -> str:
    """What this machine calls itself in the names of what it has open."""
    from atlas.store.disk import unfinished_path

    return unfinished_path(folder / "x").name.removeprefix(".x.").rsplit("-", 2)[0]


def test_what_vacuum_refuses(copied: Path, built: Path) -> None:
    with pytest.raises(UsageError, match="the time of grace is -1 s"):
        vacuum(copied, grace=-1)
    with pytest.raises(UsageError, match="is no segmented atlas and has no versions"):
        vacuum(built)
    with (
        atlas.open(copied, writable=True),
        pytest.raises(AtlasLocked, match="already open in this process, for writing"),
    ):
        vacuum(copied)
