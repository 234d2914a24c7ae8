"""Names and notes that people give to clusters.

A name belongs to an example, the medoid of the cluster when it was named, and to the site or span and the space that
were clustered. So it outlives the clustering. A cluster of any clustering of the same target bears the name of its
own medoid; else of the named example among its members that belongs to it most strongly; of equals the one written
last, then the one with the least id. The view ``named_clusters`` says so in SQL.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral

import pandas as pd

from atlas import Atlas
from atlas.errors import UnknownName, UsageError

from .clusterings import NOISE, Clustering, asked_clustering

NAME_LENGTH = 80
"""Characters of a name: a line of a table."""

NOTE_LENGTH = 2000
"""Characters of a note: about a page."""

_REORDERING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that are not seen and change the order in which others are."""


@dataclass(frozen=True)
class ClusterName:
    """The name and note that a cluster bears; both are None where it bears none.

    ``example``: the example that they belong to; the cluster's medoid unless they come from another clustering.
    """

    clustering: int
    cluster: int
    medoid: int
    name: str | None
    note: str | None
    example: int | None


def cluster_names(atlas: Atlas) -> pd.DataFrame:
    """All names and notes, the one written last first.

    Columns: network, target, space, example_id (the medoid that was named), name, note, named_at (UTC).
    """
    return atlas.frame(
        """
        select networks.name as network, target, space, example_id, cluster_names.name, note, named_at
        from cluster_names join networks using (network_id)
        order by named_at desc, network_id, target, space, example_id
        """
    )


def borne_name(
    atlas: Atlas,
    *,
    clustering: int | None = None,
    cluster: int,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
) -> ClusterName:
    """The name and note that a cluster bears. Raises `UnknownName` where there is no such clustering or cluster."""
    return _borne(atlas, asked_clustering(atlas, clustering, site, span, network, space), cluster)


def name_cluster(
    atlas: Atlas,
    name: str | None,
    *,
    clustering: int | None = None,
    cluster: int,
    note: str | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
) -> ClusterName:
    """Give a cluster a name and a note, in place of those that its medoid had, and say what it bears now.

    The cluster is one of the clustering of that id, or of the newest of the site or span in ``space``. Space around
    the words is dropped; what then is empty counts as None. With neither name nor note, those that it bears are
    taken away; another named example among its members may then give it its own.

    The atlas must be open for writing. Raises `UsageError`: also for words that are too long (`NAME_LENGTH`,
    `NOTE_LENGTH`) or hold control characters; `UnknownName` where there is no such clustering or cluster.
    """
    if not atlas.writable:
        raise UsageError(f"{atlas.path} is open for reading; open it for writing to name a cluster")
    found = asked_clustering(atlas, clustering, site, span, network, space)
    borne = _borne(atlas, found, cluster)
    name, note = checked_name(name), checked_note(note)
    if name is None and note is None:
        _forget(atlas, found, borne)
    else:
        atlas.execute(
            "insert or replace into cluster_names values ($1, $2, $3, $4, $5, $6, $7)",
            [*_key(found), borne.medoid, name, note, datetime.now(UTC).replace(tzinfo=None)],
        )
    return _borne(atlas, found, cluster)


def checked_name(name: str | None) -> str | None:
    """A name as it is stored. Raises `UsageError` for one that is no short line of plain characters."""
    return _checked("name", name, NAME_LENGTH, allowed="")


def checked_note(note: str | None) -> str | None:
    """A note as it is stored: line breaks and tabs are allowed. Raises `UsageError`."""
    return _checked("note", note, NOTE_LENGTH, allowed="\n\t")


def _checked(what: str, words: str | None, most: int, allowed: str) -> str | None:
    if words is None:
        return None
    if not isinstance(words, str):
        raise UsageError(f"the {what} is {words!r}; expected text")
    words = unicodedata.normalize("NFC", words.replace("\r\n", "\n")).strip()
    if len(words) > most:
        raise UsageError(f"the {what} has {len(words):,} characters; at most {most:,} are kept: shorten it")
    wrong = next((letter for letter in words if letter not in allowed and _is_control(letter)), None)
    if wrong is not None:
        kind = "a line break or control character" if "\n" not in allowed else "a control character"
        raise UsageError(f"the {what} holds {kind} (U+{ord(wrong):04X}), which is not shown as it is: take it out")
    return words or None


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _REORDERING


def _borne(atlas: Atlas, found: Clustering, cluster: int) -> ClusterName:
    if not isinstance(cluster, Integral) or isinstance(cluster, bool) or not 0 <= cluster < found.n_clusters:
        noise = "; the noise is no cluster and bears no name" if cluster == NOISE else ""
        raise UnknownName(
            f"no cluster {cluster!r} in {found.name}; it has {found.n_clusters}, numbered from 0{noise}"
        )
    [row] = atlas.records(
        """
        select clustering_id as clustering, label as cluster, medoid, name, note, named_example as example
        from named_clusters
        where clustering_id = $1 and label = $2
        """,
        [found.clustering_id, int(cluster)],
    )
    return ClusterName(**row)


def _forget(atlas: Atlas, found: Clustering, borne: ClusterName) -> None:
    atlas.execute(
        "delete from cluster_names where network_id = $1 and target = $2 and space = $3 and example_id = $4",
        [*_key(found), borne.example],
    )


def _key(found: Clustering) -> list[object]:
    return [found.target.network.network_id, found.target.name, found.space]
