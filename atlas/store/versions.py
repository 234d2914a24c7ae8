"""The versions of a segmented atlas: what each holds, which is the newest, and how the next one is committed.

    versions/000012.json                what version 12 is made of, with sizes and digests; never changed
    catalog/000012-3fa9c1d2.duckdb      its small tables, and views codes and activations over the segments
    segments/000012-3fa9c1d2/           what version 12 added: codes/site_id=3/0.parquet, activations/…, indexes/…

Whoever creates the file of a version has committed it; of two at once one succeeds. So the other files of a commit
have a random part in their names: what a killed or beaten one leaves is in nobody's way.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import DamagedAtlas, SchemaVersionError, StoreError, UnknownName
from .digests import SiteTable
from .disk import sealed, unsealed
from .places import Place, StoredFile

VERSIONS, CATALOGS, SEGMENTS = "versions", "catalog", "segments"
FORMAT = 1
"""Of the files of versions; raised when an older reader would misunderstand them."""

_NAME = re.compile(r"(\d{6,})\.json")


@dataclass(frozen=True)
class SegmentFile(StoredFile):
    """Codes or activations of one site: ``rows`` of the examples ``first`` to ``last``."""

    table: SiteTable
    site_id: int
    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class IndexFile(StoredFile):
    """A part of index ``index`` (`indexes.file`): the codes of the ids ``first`` to ``last``, named by ``digest``.
    The JSON beside it is a file as well."""

    index: str
    first: int
    last: int
    digest: str


@dataclass(frozen=True)
class Version:
    """A version of an atlas. ``made_at``: ISO 8601, UTC; ``made_by``: the command."""

    number: int
    made_at: str
    made_by: str
    catalog: StoredFile
    segments: tuple[SegmentFile, ...]
    indexes: tuple[IndexFile, ...] = ()

    @property
    def files(self) -> list[StoredFile]:
        """All files of the version but its own."""
        return [self.catalog, *self.segments, *self.indexes]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def about_name(name: str) -> str:
    """The JSON beside an index file."""
    return f"{name.removesuffix('.faiss')}.json"


def version_name(number: int) -> str:
    return f"{VERSIONS}/{number:06d}.json"


def next_token(number: int) -> str:
    """What the files of an attempt to commit version ``number`` have in their names."""
    return f"{number:06d}-{secrets.token_hex(4)}"


def version_numbers(place: Place) -> list[int]:
    """Numbers of the versions that are there, ascending."""
    found = [_NAME.fullmatch(name) for name in place.names(VERSIONS)]
    return sorted(int(name[1]) for name in found if name)


def newest(place: Place) -> int | None:
    """The number of the newest version; None where none was committed."""
    return max(version_numbers(place), default=None)


def read_version(place: Place, number: int) -> Version:
    """A version by its number. Raises `UnknownName` where it is not there, `DamagedAtlas`, `SchemaVersionError`."""
    try:
        document = unsealed(place.read(version_name(number)))
    except FileNotFoundError:
        held = version_numbers(place)
        raise UnknownName(
            f"{place.address} has no version {number}; it has {', '.join(map(str, held)) or 'none'} (`polytope "
            "versions` lists them)"
        ) from None
    damaged = f"{place.address}/{version_name(number)} is not as it was written; open an older version, or restore it"
    if document is None:
        raise DamagedAtlas(damaged)
    if document.get("format") != FORMAT:
        raise SchemaVersionError(
            f"{place.address} has versions of format {document.get('format')}; this polytope-atlas reads format "
            f"{FORMAT}. Ask with the release that wrote it (docs/FORMAT.md)"
        )
    try:
        return Version(
            document["version"],
            document["made_at"],
            document["made_by"],
            StoredFile(**document["catalog"]),
            tuple(SegmentFile(**file) for file in document["segments"]),
            tuple(IndexFile(**file) for file in document["indexes"]),
        )
    except (KeyError, TypeError):
        raise DamagedAtlas(damaged) from None


def commit(place: Place, version: Version) -> bool:
    """Write the file of a version whose other files are there; False where somebody committed that number before.

    A store may have written it and its answer be lost, or a second try find it: a file of these bytes is this one.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": version.number,
        "made_at": version.made_at,
        "made_by": version.made_by,
        "catalog": asdict(version.catalog),
        "segments": [asdict(file) for file in version.segments],
        "indexes": [asdict(file) for file in version.indexes],
    }
    name, content = version_name(version.number), sealed(document)
    try:
        return place.create(name, content) or place.read(name) == content
    except StoreError:
        with suppress(StoreError, FileNotFoundError):
            if place.read(name) == content:
                return True
        raise


def files_of(segments: Sequence[SegmentFile], table: SiteTable) -> list[SegmentFile]:
    """Those that hold codes, or activations, in order of site and example."""
    return sorted((file for file in segments if file.table == table), key=lambda file: (file.site_id, file.first))
