"""Push and pull at object stores: S3 through a store of this machine, and what others need to be reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import known_implementations

import atlas
import ingest
from atlas.errors import StoreError, UsageError
from ingest.sharing.place import Place

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(s3: str) -> Iterator[str]:
    """An empty bucket, for s3fs."""
    filesystem = pytest.importorskip("s3fs", reason="no s3fs: `pip install 'polytope-atlas[s3]'`").S3FileSystem
    yield s3
    filesystem.clear_instance_cache()


def test_s3_gives_back_what_was_pushed(bucket: str, built: Path, tmp_path: Path) -> None:
    """All digests; pushed again, nothing is sent; without rights or a bucket, a sentence."""
    sent = ingest.push(built, f"{bucket}/three")
    assert sent.sent == sent.files > 20
    assert ingest.push(built, f"{bucket}/three").sent == 0
    ingest.pull(f"{bucket}/three", tmp_path / "x.atlas")
    with atlas.open(built) as ours, atlas.open(tmp_path / "x.atlas") as theirs:
        assert theirs.rows("select * from digests order by all") == ours.rows("select * from digests order by all")
    with pytest.raises(StoreError, match=r"s3://nowhere/three: .*bucket does not exist"):
        ingest.push(built, "s3://nowhere/three")


@pytest.mark.parametrize(
    ("address", "package"), [("gs://lab/atlas", "gcsfs"), ("hf://datasets/me/atlas", "huggingface_hub")]
)
def test_other_stores_are_fsspec_s_own(address: str, package: str) -> None:
    """Google's and Hugging Face's, by the class that fsspec knows; without its package, a sentence that names it."""
    protocol = address.partition(":")[0]
    known = known_implementations[protocol]
    try:
        files = fsspec.get_filesystem_class(protocol)
    except ImportError:
        with pytest.raises(UsageError, match=rf"{address} can't be reached .*{package}"):
            Place(address)
    else:
        assert f"{files.__module__}.{files.__name__}".startswith(known["class"].partition(".")[0])
        assert Place(address).address == address
