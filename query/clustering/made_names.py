"""Names of clusters made from what is stored: the tokens that tell a cluster from the rest, or its labels.

A value tells a cluster from the rest by its *lift*, the share of members that have it over the share of all other
clustered examples (noise included) that have it. Half an example is added to every count, so that a value that is
nowhere else has a finite lift. Values are ordered by ``n · log(lift)``: common in the cluster, and rare elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

import pandas as pd

from atlas import Atlas
from atlas.network import Kind

from ..examples.description import describe
from ..examples.kinds import EXAMPLES
from .clusterings import NOISE, Clustering, asked_clustering

LEAST_SHARE, LEAST_LIFT = 0.15, 2.0
"""Of the members, and against the rest, that a value needs to stand in a name: a sixth may be noticed in a page of
members, and what is not twice as common as elsewhere is no mark of the cluster."""

MOST_OF_IT = 0.8
"""Share of a label that alone names a cluster, however common the label is elsewhere."""

MOST_VALUES = 3
"""Values in a name."""

LEAST_BESIDE = 0.4
"""Members of a further value over those of the first."""

STRONGEST = 30
"""Members that the characters around a token are looked up for."""

AGREEING = 0.6
"""Share of those that must have the same word beside the token for it to stand in the name."""

MOST_SIGNS = 3
"""Spaces that are each a sign in a name."""

AROUND = 16
"""Characters looked at, and at most shown, either side of a token."""

BASES: dict[Kind, tuple[str, ...]] = {
    "text": ("token", "label"),
    "image": ("label", "prediction"),
    "vector": ("label", "prediction"),
}
"""What names are made of: columns of examples, the first that tells a cluster from the rest."""

_BEFORE = re.compile(r"(?:\w+|[^\w\s])?\s*$")
_AFTER = re.compile(r"^\s*(?:\w+|[^\w\s])?")


def made_names(
    atlas: Atlas,
    *,
    clustering: int | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
) -> pd.DataFrame:
    """What every cluster of a clustering is called: by a person, else made from what is stored of its members.

    Of texts a name is made of the tokens that tell the cluster from the rest, with the words beside the token that
    most members share: ``def «␣self»``. Else, and of images and vectors, of labels; where nothing tells it, of its
    commonest labels (``mixed: cat · dog``) or of its medoid (``like «the»``). Space at the ends of a token is ``␣``.

    Args:
        atlas: an open atlas.
        clustering: its id, or
        site: the site, or
        span: the span whose newest clustering is meant.
        network: its network, where several have such a one.
        space: codes or activations, where the clustering is not named.

    Returns:
        A row a cluster, in order: cluster, title (what to call it: name, else made_name), name (given by a person,
        null where there is none), made_name, basis (token, label, prediction, or medoid), values (what it is made
        of, as stored), share (of the members that have the first of them, 0 to 1), lift (of the first of them;
        null for a medoid). ``frame.attrs``: clustering, network, target, space.

    Raises:
        UnknownName: for a clustering, site or span that is not there.
        UsageError: for impossible parameters.
    """
    record = asked_clustering(atlas, clustering, site, span, network, space)
    known = atlas.frame(
        "select label as cluster, name, medoid, size from named_clusters where clustering_id = $1 order by label",
        [record.clustering_id],
    )
    made = atlas.keep(("made-names", record.clustering_id), lambda: _made_of_all(atlas, record, known))
    columns = [field.name for field in fields(Made)]
    named = pd.DataFrame([vars(made[cluster]) for cluster in known["cluster"].tolist()], columns=columns)
    frame = pd.concat([known[["cluster", "name"]], named], axis=1)
    frame.insert(1, "title", frame["name"].fillna(frame["made_name"]).astype("str"))
    frame["lift"] = frame["lift"].astype("float64")
    frame.attrs.update(
        clustering=record.clustering_id,
        network=record.target.network.name,
        target=record.target.name,
        space=record.space,
    )
    return frame


def cluster_titles(atlas: Atlas, clustering: int) -> dict[int, str]:
    """What every cluster of a clustering is called, by its number: the ``title`` of `made_names`."""
    named = made_names(atlas, clustering=clustering)
    return dict(zip(named["cluster"].tolist(), named["title"], strict=True))


@dataclass(frozen=True)
class Made:
    """A name that was made: the columns of `made_names` that say how."""

    made_name: str
    basis: str
    values: list[str]
    share: float
    lift: float | None


class Lift(NamedTuple):
    """A row of `value_lifts`."""

    cluster: int
    value: str
    n: int
    share: float
    lift: float


def _made_of_all(atlas: Atlas, record: Clustering, known: pd.DataFrame) -> dict[int, Made]:
    """The made name of every cluster. ``known``: cluster, medoid and size of each."""
    made = _by_value(atlas, record)
    rest = known[~known["cluster"].isin(list(made))]
    return made | _by_medoid(atlas, record, rest)


def _by_value(atlas: Atlas, record: Clustering) -> dict[int, Made]:
    """The clusters that a token, label or prediction tells from the rest, and those of other kinds than texts that
    labels only mix in."""
    kind = record.target.network.kind
    made: dict[int, Made] = {}
    mixed: dict[int, Made] = {}
    for basis in BASES[kind]:
        rows = (Lift(*row) for row in value_lifts(atlas, record, basis).itertuples(index=False, name=None))
        for cluster, of_cluster in groupby(rows, attrgetter("cluster")):
            if cluster in made:
                continue
            counted = list(of_cluster)
            telling = [row for row in counted if row.share >= LEAST_SHARE and row.lift >= LEAST_LIFT and row.n > 1]
            if telling:
                made[cluster] = _made(basis, [row for row in telling if row.n >= LEAST_BESIDE * telling[0].n])
            elif basis == "label" and kind != "text":
                mixed[cluster] = _mixed(sorted(counted, key=lambda row: -row.n))
        if basis == "token":
            _add_context(atlas, record, made)
    return mixed | made


def _made(basis: str, rows: Sequence[Lift]) -> Made:
    values = [row.value for row in rows[:MOST_VALUES]]
    return Made(" · ".join(map(shown, values)), basis, values, rows[0].share, rows[0].lift)


def _mixed(commonest: Sequence[Lift]) -> Made:
    """Of a cluster that is no other than the rest: the label of most, or the commonest."""
    if commonest[0].share >= MOST_OF_IT:
        return _made("label", commonest[:1])
    made = _made("label", commonest)
    return replace(made, made_name=f"mixed: {made.made_name}")


def value_lifts(atlas: Atlas, record: Clustering, basis: str) -> pd.DataFrame:
    """How telling each value of a column of examples is for each cluster, by cluster, the most telling first.

    Columns: cluster, value, n, share, lift. Of a cluster its most telling values and its commonest.
    """
    return atlas.frame(
        f"""
        with counted as (
            select cluster_labels.label as cluster, examples.{basis} as value, count(*) as n
            from cluster_labels join examples using (example_id)
            where clustering_id = $1
            group by all
        ),
        summed as (
            select
                *, sum(n) over (partition by value) as n_all, sum(n) over (partition by cluster) as size,
                sum(n) over () as total
            from counted
        ),
        lifted as (
            select
                cluster, value, n, n / size as share,
                ((n + 0.5) / (size + 1)) / ((n_all - n + 0.5) / (total - size + 1)) as lift
            from summed
            where cluster <> $2 and value is not null and value <> ''
        )
        select cluster, value, n, share, lift
        from lifted
        qualify
            row_number() over (partition by cluster order by n * ln(lift) desc, value) <= $3
            or row_number() over (partition by cluster order by n desc, value) <= $3
        order by cluster, n * ln(lift) desc, value
        """,
        [record.clustering_id, NOISE, 2 * MOST_VALUES],
    )


def shown(value: str) -> str:
    """A token or label on one line, with the spaces around it, which tell tokens apart, as ␣; many as ␣×7."""
    flat = value.replace("\n", "⏎").replace("\t", "→").replace("\r", "␍")
    return re.sub("^ +|(?<=⏎) +| +$", _spaces, flat)


def _spaces(found: re.Match[str]) -> str:
    n = len(found[0])
    return f"␣×{n}" if n > MOST_SIGNS else "␣" * n


# --- in its context --------------------------------------------------------------------------------------------


def _add_context(atlas: Atlas, record: Clustering, made: dict[int, Made]) -> None:
    """Put the words beside a token in the name of a cluster that has one token, where most members share them."""
    of_one = {cluster: one.values[0] for cluster, one in made.items() if len(one.values) == 1}
    if not of_one:
        return
    around = atlas.rows(
        f"""
        with named as (select unnest($2::integer[]) as label, unnest($3::varchar[]) as token),
        strongest as (
            select label, example_id
            from cluster_labels join named using (label) join examples using (example_id)
            where clustering_id = $1 and examples.token = named.token
            qualify row_number() over (partition by label order by cluster_labels.probability desc, example_id) <= $4
        )
        select
            strongest.label as cluster,
            right(left(context, context_offset::bigint), {AROUND}) as before,
            substring(context, context_offset::bigint + len(token) + 1, {AROUND}) as after
        from strongest join examples using (example_id)
        where context is not null
        order by cluster
        """,
        [record.clustering_id, list(of_one), list(of_one.values()), STRONGEST],
    )
    for cluster, of_cluster in groupby(around, itemgetter(0)):
        _, lefts, rights = zip(*of_cluster, strict=True)
        before, after = _flat(agreed(lefts, _BEFORE)), _flat(agreed(rights, _AFTER))
        if before.strip() or after.strip():
            words = f"{before[-AROUND:]}«{shown(of_one[cluster])}»{after[:AROUND]}".strip()
            made[cluster] = replace(made[cluster], made_name=words)


def agreed(sides: Sequence[str], pattern: re.Pattern[str]) -> str:
    """The word beside a token that most of its contexts share; empty where they don't."""
    words = Counter(match[0] for side in sides if (match := pattern.search(side)))
    word, n = words.most_common(1)[0]
    return word if n >= max(2, AGREEING * len(sides)) else ""


def _flat(side: str) -> str:
    """A word beside a token: a line's end as its sign, all other space as one."""
    return re.sub(r"\s+", lambda space: "⏎" if "\n" in space[0] else " ", side)


# --- where nothing tells it ------------------------------------------------------------------------------------


def _by_medoid(atlas: Atlas, record: Clustering, rest: pd.DataFrame) -> dict[int, Made]:
    """The clusters that nothing tells from the rest, by the member nearest to all."""
    network = record.target.network
    medoids = describe(atlas, network, rest["medoid"].tolist())
    made: dict[int, Made] = {}
    for cluster, size, row in zip(rest["cluster"].tolist(), rest["size"].tolist(), medoids.itertuples(), strict=True):
        value = str(row.token if network.kind == "text" else getattr(row, EXAMPLES[network.kind].shows))
        words = f"«{shown(value)}»" if network.kind == "text" else f"example {row.example_id}"
        made[cluster] = Made(f"like {words}", "medoid", [value], 1 / size, None)
    return made
