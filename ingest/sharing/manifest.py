"""What lies at an address to which an atlas was pushed: the list of its files, each with its digest.

The manifest is written last, so that what it lists is there. It comes from strangers: every name in it is checked
before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atlas.errors import DamagedAtlas, SchemaVersionError, UsageError
from atlas.store.atlas import SCHEMA_VERSION
from atlas.store.digests import TABLES as DIGESTED_TABLES
from atlas.store.digests import SiteTable
from atlas.store.disk import sealed, unsealed

MANIFEST = "atlas.json"
FORMAT = 1

GROUPS = (
    ("codes",),
    ("activations",),
    ("clusterings", "cluster_labels", "clusters", "condensed_trees"),
    ("layouts", "layout_points"),
    ("neighborhoods", "neighbors"),
    ("bounded_spans", "boundaries"),
    ("experiments", "experiment_columns", "experiment_rows", "directions"),
)
"""Tables that say nothing without each other. Indexes are no part of it: they are built again from the codes."""

BASE = tuple(
    digested.table
    for digested in DIGESTED_TABLES
    if digested.table != "indexes" and not any(digested.table in group for group in GROUPS)
)
"""Tables without which an atlas is none."""

ALONE = ("activations", "experiments", "experiment_columns", "experiment_rows", "directions")
"""Tables beside which codes need not lie; all others are about the codes of a site or span."""

TABLES = (*BASE, *(table for group in GROUPS for table in group), "digests")
BY_SITE: tuple[SiteTable, ...] = ("codes", "activations")

_SHARD = re.compile(r"data/(?P<table>[a-z_]+)/(site-(?P<site>\d+)/)?\d{5}-(?P<digest>[0-9a-f]{64})\.parquet")


@dataclass(frozen=True)
class Shard:
    """A Parquet file. ``path``: its place under the address, which holds the SHA-256 of its bytes."""

    path: str
    rows: int
    bytes: int

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return parsed(self.path)["digest"]


@dataclass(frozen=True)
class Part:
    """A table, or what it holds of one site. ``digest``: of the codes or activations of that site, as table ``sites``
    has it."""

    table: str
    shards: tuple[Shard, ...]
    site_id: int | None = None
    network: str | None = None
    site: str | None = None
    width: int | None = None
    digest: str | None = None

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """All that was pushed. ``names``: bytes and SHA-256 of names.jsonl; None where nobody named anything."""

    title: str
    license: str | None
    inputs: bool
    parts: tuple[Part, ...]
    names: tuple[int, str] | None = None
    schema_version: str = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """The file, which depends on nothing but what it lists."""
        return sealed({"format": FORMAT, **asdict(self)})

    def rows(self, table: str) -> int:
        """Rows of a table, of all sites."""
        return sum(part.rows for part in self.parts if part.table == table)


def shard_path(table: str, site_id: int | None, number: int, digest: str) -> str:
    """Where a file of a table lies: under its place among the others, and its SHA-256."""
    of_site = "" if site_id is None else f"site-{site_id}/"
    return f"data/{table}/{of_site}{number:05}-{digest}.parquet"


def parsed(path: str) -> dict[str, str]:
    """Table, site and digest of a file by its path. Raises `DamagedAtlas` for any other path."""
    found = _SHARD.fullmatch(path)
    if found is None or found["table"] not in TABLES or (found["site"] is None) == (found["table"] in BY_SITE):
        raise DamagedAtlas(f"{MANIFEST} lists {path!r}, which is no file of an atlas that was pushed; push it again")
    return found.groupdict()


def is_shard(path: str) -> bool:
    """Whether a path is one that `shard_path` gives."""
    try:
        return bool(parsed(path))
    except DamagedAtlas:
        return False


def read_manifest(content: bytes, address: str) -> Manifest:
    """The manifest in a file.

    Raises:
        DamagedAtlas: it is none, or was changed.
        SchemaVersionError: another version of this project pushed it.
    """
    document = unsealed(content)
    if document is None:
        raise DamagedAtlas(f"{address}/{MANIFEST} is not as it was written; push the atlas again")
    if (document.pop("format", None), document.get("schema_version")) != (FORMAT, SCHEMA_VERSION):
        raise SchemaVersionError(
            f"{address} was pushed with schema version {document.get('schema_version')}; this polytope-atlas reads "
            f"version {SCHEMA_VERSION}. Use the release that pushed it (docs/FORMAT.md)"
        )
    try:
        parts = tuple(_part(part) for part in document.pop("parts"))
        names = document.pop("names")
        manifest = Manifest(**document, parts=parts, names=None if names is None else (int(names[0]), str(names[1])))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DamagedAtlas(f"{address}/{MANIFEST} lists no atlas ({error}); push it again") from None
    missing = {*BASE, "digests"} - {part.table for part in manifest.parts}
    if missing:
        raise DamagedAtlas(f"{address}/{MANIFEST} lacks {', '.join(sorted(missing))}; push the atlas again")
    return manifest


def _part(document: dict[str, Any]) -> Part:
    shards = tuple(Shard(str(of["path"]), int(of["rows"]), int(of["bytes"])) for of in document.pop("shards"))
    part = Part(**document, shards=shards)
    for shard in shards:
        named = parsed(shard.path)
        if (named["table"], named["site"]) != (part.table, None if part.site_id is None else str(part.site_id)):
            raise ValueError(f"{shard.path} among the files of {part.table}")
    return part


def chosen_tables(wanted: Sequence[str] | None, held: Iterable[str]) -> set[str]:
    """The tables to pull: those without which an atlas is none, and those wanted with all that belongs to them.

    Args:
        wanted: names of tables; None for all.
        held: tables that were pushed.

    Raises:
        UsageError: one of them was not pushed.
    """
    present = {*held}
    if wanted is None:
        return present
    if strangers := [name for name in wanted if name not in present]:
        offered = ", ".join(name for name in TABLES if name in present and name != "digests")
        raise UsageError(f"no table {strangers[0]!r} was pushed there; the tables are {offered}")
    groups = [{*group} for group in GROUPS if {*group} & {*wanted}]
    of_codes = {"codes"} if {*wanted} - {*BASE, *ALONE} else {*()}
    return present & {*BASE, "digests"}.union(of_codes, *groups)
