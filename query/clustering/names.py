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

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.checks import is_whole
from atlas.errors import UnknownName, UsageError
from atlas.store.names import Name, changing_names

from .clusterings import NOISE, Clustering, asked_clustering

NAME_LENGTH = 80
"""Characters of a name: a line of a table."""

NOTE_LENGTH = 2000
"""Characters of a note: about a page."""

NOTE_SAID = 120
"""Characters of somebody else's note in a sentence."""

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

    Args:
        atlas: an open atlas.

    Returns:
        A row a name: network, target, space, example_id (the medoid that was named), name, note, named_at (UTC).
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
    cluster: int | np.integer,
    note: str | None = None,
    seen: ClusterName | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
) -> ClusterName:
    """Give a cluster a name and a note, in place of those that its medoid had, and say what it bears now.

    The cluster is one of the clustering of that id, or of the newest of the site or span in ``space``. Space around
    the words is dropped; what then is empty counts as None. With neither name nor note, those that it bears are
    taken away; another named example among its members may then give it its own.

    Args:
        atlas: open for reading or for writing; names are kept beside the database, and nobody's lock is in the way.
        name: what it is called from now on.
        clustering: id of the clustering; None for the newest of the site or span.
        cluster: number of the cluster, from 0.
        note: what is written about it.
        seen: what the caller last saw the cluster bear; None to replace whatever it bears.
        site: that was clustered, where no ``clustering`` is given.
        span: that was clustered, instead of a site.
        network: where several have a site of that name.
        space: codes or activations, of the newest clustering.

    Raises:
        UsageError: somebody else has changed what was ``seen``, or the words are too long (`NAME_LENGTH`,
            `NOTE_LENGTH`) or hold control characters.
        UnknownName: there is no such clustering or cluster.
    """
    record = asked_clustering(atlas, clustering, site, span, network, space)
    name, note = checked_name(name), checked_note(note)
    _borne(atlas, record, cluster)
    with changing_names(atlas.path) as append:
        borne = _borne(atlas, record, cluster)
        if seen is not None and (borne.name, borne.note) not in ((seen.name, seen.note), (name, note)):
            raise UsageError(
                "somebody else has changed the name or note meanwhile. Now the name is "
                f"{_said(borne.name, NAME_LENGTH)} and the note is {_said(borne.note, NOTE_SAID)}. Save again to "
                "replace both"
            )
        named = borne.medoid if name is not None or note is not None else borne.example
        if named is not None:
            target = record.target
            now = datetime.now(UTC).replace(tzinfo=None).isoformat()
            append(Name(target.network.name, target.name, record.space, named, name, note, now))
    return _borne(atlas, record, cluster)


def _said(words: str | None, length: int) -> str:
    if words is None:
        return "empty"
    line = " ".join(words.split())
    return f"“{line}”" if len(line) <= length else f"“{line[:length]}…”"


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


def _borne(atlas: Atlas, record: Clustering, cluster: int | np.integer) -> ClusterName:
    if not is_whole(cluster) or not 0 <= cluster < record.n_clusters:
        noise = "; the noise is no cluster and bears no name" if cluster == NOISE else ""
        raise UnknownName(
            f"no cluster {cluster!r} in {record.name}; it has {record.n_clusters}, numbered from 0{noise}"
        )
    [row] = atlas.records(
        """
        select clustering_id as clustering, label as cluster, medoid, name, note, named_example as example
        from named_clusters
        where clustering_id = $1 and label = $2
        """,
        [record.clustering_id, int(cluster)],
    )
    return ClusterName(**row)
