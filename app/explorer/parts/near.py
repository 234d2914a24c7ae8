"""Who lives where a subject does: who shares its polytope, who lies nearest outside it, and how near that is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from atlas.errors import IndexMissing, PolytopeError, UsageError
from atlas.images import decode_image
from atlas.network import TextNetwork
from query.clustering.clusterings import NOISE
from query.clustering.live_path import live_path
from query.clustering.membership import Membership
from query.examples.subjects import Given, Subject
from query.neighbors.nearness import NearestDistances, nearest_distances
from query.neighbors.search_space import DEFAULT_K
from query.pairs.differing_gates import differing_gates

from .. import address, jobs
from ..view import View, literal
from . import cards, markup, show
from .code import call, heading, reader_of, source

MOST_NEIGHBOURS = 200  # rows of a page; `polytope nearest` and SQL give more
MOST_SHOWN = 24  # of those who share a polytope
MOST_LABELS = 1000  # offered in a list
UPLOAD_PIXELS = 25_000_000  # decoded 75 MB, for each session

FAR = 0.01
"""Of this atlas's examples so few or fewer have a nearest neighbour that is farther: what lies there is far out."""

Arguments = dict[str, Any]
"""Arguments of `query.nearest`: the subject, or what is searched for."""


def decoded(given: Arguments) -> Arguments:
    """The arguments that name a subject, an image decoded from its file."""
    if "image" in given:
        return given | {"image": decode_image(given["image"], UPLOAD_PIXELS)}
    return given


def named(given: Arguments) -> Arguments:
    """The same for code that is shown: a file by a name."""
    return given | {"image": "image.png"} if "image" in given else given


# --- what is searched for --------------------------------------------------------------------------------------


def wanted(view: View, *, beside: int) -> Arguments:
    """How many, how far, and among whom; ``beside``: how many of the stored codes are the subject's own."""
    with st.expander(_title(), expanded=bool(_given()), icon=":material/filter_alt:"):
        with st.container(horizontal=True, gap="medium"):
            many = _how_many(view, beside=beside)
        asked = many | _filters(view)
    return asked | {"clustering": _clustering(view)}


def _given() -> list[str]:
    return [name for name in ("k", "radius", "label", "in_cluster", "dataset", "where") if st.query_params.get(name)]


NEIGHBOURS = "Its neighbours: how many, and among whom"


def _title() -> str:
    among = [name.replace("in_", "") for name in _given() if name != "k"]
    return f"Its neighbours: how many, and among whom ({', '.join(among)})" if among else NEIGHBOURS


def _how_many(view: View, *, beside: int) -> Arguments:
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    others = max(1, min(site.n_codes for site in target.sites) - beside)
    k = address.number("Nearest", 1, min(MOST_NEIGHBOURS, others), min(DEFAULT_K, others), key="k", width=140)
    radius = address.number(
        "Within (gates)", 0, target.n_gates, None, key="radius", width=170, placeholder="any distance"
    )
    return {"k": k, "radius": radius}


def _clustering(view: View) -> int | None:
    """The clustering that the address names, else the newest of the site or span, which it names then. One of another
    site is left over from there."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    here, others = view.ask(clusterings_by_target, view.network.network_id, target.name)
    asked, newest = st.query_params.get("clustering", ""), here[0] if here else None
    shown = int(asked) if asked.isdecimal() and int(asked) in here else newest
    if here and asked not in ("", str(shown), *map(str, others)):
        address.refuse("clustering", asked, f"the number of a clustering of {target.name}", shown)
    address.show_refusal("clustering", shown)
    if shown is None:
        address.leave_out("clustering")
    else:
        address.name("clustering", shown)
    return shown


def clusterings_by_target(atlas: Atlas, network_id: int, target: str) -> tuple[list[int], list[int]]:
    """The clusterings of a site or span, that which is shown by default first, and those of others."""
    rows = atlas.rows(
        """
        select clustering_id, network_id = $1 and target = $2 from clusterings
        order by space = 'codes' desc, clustering_id desc
        """,
        [network_id, target],
    )
    return [number for number, here in rows if here], [number for number, here in rows if not here]


def _filters(view: View) -> Arguments:
    """Conditions that all must hold; the search is among the examples that meet them."""
    labels, datasets = view.ask(filter_choices, view.network.network_id)
    places = st.columns([2, 1, 2, 3] if len(datasets) > 1 else [2, 1, 4])
    with places[0]:
        label = _one_of("Label", "label", labels)
    with places[1]:
        cluster = address.number(
            "Cluster",
            NOISE,
            None,
            None,
            key="in_cluster",
            placeholder="any",
            help="Of the clustering of this site or span that the address names, at first the newest; −1 is noise.",
        )
    dataset = None
    if len(datasets) > 1:
        with places[2]:
            dataset = _one_of("Data set", "dataset", datasets)
    with places[-1]:
        where = st.text_input(
            "Where (SQL)",
            key="where",
            bind="query-params",
            placeholder="loss < 1 and token = ' the'",
            help="A condition on the columns of table examples; the SQL page lists them.",
        )
    return {"label": label, "cluster": cluster, "dataset": dataset, "where": where.strip() or None}


def _one_of(title: str, key: str, names: list[str]) -> str | None:
    """A name from a list. One that is not on it, from a link, stands there too, and is what the search refuses; of
    another network it is not asked for."""
    if key not in st.session_state:
        st.session_state[f"linked-{key}"] = names, st.query_params.get(key)
    offered, linked = st.session_state[f"linked-{key}"]
    if linked and offered == names and linked not in names:
        names = [*names, linked]
    chosen = st.selectbox(title, names, index=None, key=key, bind="query-params", placeholder="any")
    return chosen or None


def filter_choices(atlas: Atlas, network_id: int) -> tuple[list[str], list[str]]:
    """The labels of a network's examples, commonest first, and the names of data sets."""
    labels = atlas.rows(
        """
        select label from examples where network_id = $1 and label is not null
        group by label order by count(*) desc, label limit $2
        """,
        [network_id, MOST_LABELS],
    )
    datasets = atlas.rows(
        """
        select distinct datasets.name from datasets join runs using (dataset_id) where network_id = $1 order by 1
        """,
        [network_id],
    )
    return [label for (label,) in labels], [name for (name,) in datasets]


# --- asking ----------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """Some of those who share the polytope of a subject, and who lies nearest outside it; in which cluster the
    subject lies, or why in none; of what was read now its clusters through the sites, its tokens and which is meant,
    and what the network predicts."""

    same: pd.DataFrame
    n_same: int
    nearest: pd.DataFrame
    place: Membership | str | None
    path: pd.DataFrame | None
    tokens: tuple[str, ...] | None
    token: int | None
    prediction: str | None
    probability: float | None


def look_up(
    atlas: Atlas, given: Arguments, wanted: Arguments, where: Arguments, *, reader: Network | None = None
) -> Answer:
    """Read a subject once and ask all that the page says about it. ``where``: the site or span, and the network."""
    subject, path = _read(atlas, decoded(given), where, reader)
    nearest = query.nearest(atlas, subject=subject, **wanted, outside=True)
    n_same = nearest.attrs["n_same"]
    same = nearest.head(0)
    if n_same:
        same = query.nearest(atlas, subject=subject, **_sharing(wanted, n_same), density=False)
    if subject.example is not None and len(nearest):
        gates = differing_gates(atlas, subject.example, nearest["example_id"].tolist(), **where)["gates"]
        nearest["gates"] = gates
    place = _placed(atlas, nearest.attrs["clustering"], subject)
    read = subject.tokens, subject.token, subject.prediction, subject.probability
    return Answer(same, n_same, nearest, place, path, *read)


def _read(
    atlas: Atlas, given: Arguments, where: Arguments, reader: Network | None
) -> tuple[Subject, pd.DataFrame | None]:
    if "example" in given:
        return query.subject(atlas, **given, **where), None
    text = given.get("text", "")
    if text != text.rstrip() and given.get("token") is None and isinstance(reader, TextNetwork):
        # Tokenised twice, here and below, where white space ends it; else the last token is the one.
        given = given | {"token": _last_seen(reader, text)}
    return live_path(atlas, Given(**given), atlas.catalog.target(**where), reader)


def _last_seen(reader: TextNetwork, text: str) -> int | None:
    """The last token of a text that is not only white space, as the end of a pasted line is; None where all are."""
    tokens = reader.tokenize(text)
    places = zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)
    return max((i for i, (start, end) in enumerate(places) if text[start:end].strip()), default=None)


def _sharing(wanted: Arguments, n_same: int) -> Arguments:
    """The arguments of `query.nearest` that give some of those who share the polytope."""
    return {**wanted, "k": min(n_same, MOST_SHOWN), "radius": 0}


def _placed(atlas: Atlas, clustering: int | None, subject: Subject) -> Membership | str | None:
    """In which cluster the subject lies. One of many facts, so that its absence is a remark and no error."""
    if clustering is None:
        return None
    try:
        return query.membership(atlas, subject=subject, clustering=clustering)
    except PolytopeError as error:
        return str(error)


def answer(view: View, given: Arguments, wanted: Arguments, *, live: bool = False) -> Answer | None:
    """What the page says about a subject, once it is computed."""
    here = {**view.named, "network": view.network.name}
    return view.work("Comparing codes", look_up, given, wanted, here, live=live, turns=jobs.PAGE)


def scale_of(
    atlas: Atlas, *, network: str, site: str | None = None, span: str | None = None
) -> NearestDistances | str:
    """How far this atlas's own nearest neighbours are at a target, or why that is not known."""
    try:
        return nearest_distances(atlas, atlas.catalog.target(site=site, span=span, network=network))
    except (IndexMissing, UsageError) as reason:
        return f"no scale of distances: {reason}"


# --- showing ---------------------------------------------------------------------------------------------------


def draw(view: View, found: Answer, given: Arguments, wanted: Arguments, *, name: str | None = None) -> None:
    """``given``: the subject as `query.subject` takes it; ``name``: as a sentence calls it, in place of the answer's
    own name."""
    about, n, live = found.nearest.attrs, found.n_same, "example" not in given
    name = name or str(about["subject"])
    st.html(f'<div class="pa">{markup.plain(name[0].upper() + name[1:])}{_in_words(view, found.place)}</div>')
    heading(f"In the same polytope: {n:,}")
    if n:
        cards.examples(view, found.same.drop(columns=["rank", "density", "distance"]), about["clustering"])
        if n > len(found.same):
            show.notes(f"The first {len(found.same)} of {n:,}, by example id.")
        source(view, _call(view, given, _sharing(wanted, n), live))
    else:
        among = "example that meets the conditions" if _narrowed(wanted) else "stored example"
        show.notes(f"No {'' if live else 'other '}{among} has this code.")
    _nearest(found, view, wanted)
    sql = None if live or not _plain(view, wanted) else _sql(view, given["example"], wanted)
    source(view, _call(view, given, {**wanted, "outside": True}, live), sql=sql)


def _nearest(found: Answer, view: View, wanted: Arguments) -> None:
    nearest, about = found.nearest, found.nearest.attrs
    searched = f"{about['n_searched']:,} of {about['n_codes']:,}" if _narrowed(wanted) else f"{about['n_codes']:,}"
    heading(f"Nearest polytopes: {len(nearest):,} of {searched} codes")
    if len(nearest):
        here = {**view.named, "network": view.network.name}
        scale = view.work("Measuring how near examples lie to each other", scale_of, tells_names=False, **here)
        low, high = int(nearest["distance"].min()), int(nearest["distance"].max())
        apart = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        share = " to ".join(dict.fromkeys(f"{distance / about['n_gates']:.1%}" for distance in (low, high)))
        if isinstance(scale, NearestDistances):
            shares = scale.shares(nearest["distance"].tolist())
            st.html(f'<div class="pa">{in_words(scale, low, sharing=found.n_same > 0)}</div>')
            nearest = nearest.assign(nearer_than=shares["nearer_than"].to_numpy())
            nearest.attrs.update(about)
        show.notes(
            f"{apart} of {about['n_gates']:,} gates apart ({share}). "
            f"{'Exact' if about['exact_search'] else 'Approximate'} search; searched: {about['searched']}.",
            scale if isinstance(scale, str) else None,
        )
        cards.examples(view, cards.without_unknown_density(nearest), about["clustering"])
    elif found.n_same:
        within = "Everyone within this distance shares the polytope; raise it."
        show.notes("Everyone shares the polytope." if wanted["radius"] is None else within)
    else:
        show.notes("No other example lies within this distance; raise it.")
    show.notes(
        cards.DIFFERING if "gates" in nearest else None,
        *[about[name] for name in ("search_note", "exact_note", "density_note", "label_note")],
    )


def in_words(scale: NearestDistances, nearest: int, *, sharing: bool = False) -> str:
    """How near the nearest is, against all nearest neighbours; ``sharing``: others share the polytope."""
    of = f"all {scale.of:,}" if scale.stored else f"a sample of {len(scale.known):,} of {scale.of:,}"
    shares = scale.shares([0 if sharing else nearest])
    nearer, about = float(shares["nearer_than"].iloc[0]), shares.attrs
    own = f"this atlas's own nearest neighbours ({of}; half lie within {_gates(about['median'])})"
    if sharing:
        return f"Others share its polytope; so they do for {1 - nearer:.0%} of this atlas's examples ({of})."
    if nearest > about["largest"]:
        return f"<b>Far out</b>: its nearest is {_gates(nearest)} away, farther than each of {own}."
    if nearer <= FAR:
        return f"<b>Far out</b>: its nearest is {_gates(nearest)} away, nearer than only {nearer:.1%} of {own}."
    only = "" if nearer >= 0.5 else "only "
    return f"Its nearest is {_gates(nearest)} away: nearer than {only}{nearer:.0%} of {own}."


def _gates(n: float) -> str:
    return f"{n:,g} {'gate' if n == 1 else 'gates'}"


def _in_words(view: View, place: Membership | str | None) -> str:
    if place is None:
        return ""
    if isinstance(place, str):
        return f'<p class="pa-note">No cluster: {markup.plain(place)}</p>'
    lies = "lies" if place.stored else "would lie"
    if place.cluster == NOISE:
        return f" {lies} in no cluster of clustering {place.clustering}: it is noise"
    name = cards.cluster_link(view, place.clustering, place.cluster)
    return f" {lies} in cluster {name} of clustering {place.clustering} (strength {place.probability:.2f})"


# --- code ------------------------------------------------------------------------------------------------------


def _call(view: View, given: Arguments, wanted: Arguments, live: bool) -> str:
    said = call(query.nearest, **named(given), **view.named, network=view.network.name, **wanted)
    return f"{said[:-1]}, reader={reader_of(view.network.name)})" if live else said


def _narrowed(wanted: Arguments) -> bool:
    return any(wanted[name] is not None for name in ("label", "cluster", "dataset", "where"))


def _plain(view: View, wanted: Arguments) -> bool:
    """Whether one query in SQL asks the same: of a single site, where a code is one value."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    return len(target.sites) == 1 and wanted["cluster"] is None and wanted["dataset"] is None


def _sql(view: View, example: int, wanted: Arguments) -> str:
    """The same question in SQL, for a single site: there a code is one value."""
    here = f"network = {literal(view.network.name)} and site = {literal(view.target)}"
    conditions = [f"example_id <> {example}"]
    if wanted["radius"] is not None:
        conditions.append(f"hamming(spline_codes.code, subject.code) <= {wanted['radius']}")
    if wanted["label"] is not None:
        conditions.append(f"label = {literal(wanted['label'])}")
    if wanted["where"] is not None:
        conditions.append(f"example_id in (select example_id from examples where (\n{wanted['where']}\n))")
    also = "".join(f"\n    and {condition}" for condition in conditions)
    return (
        f"with subject as (\n    select code from spline_codes\n    where {here} and example_id = {example}\n)\n"
        "select example_id, hamming(spline_codes.code, subject.code) as distance, token, label, prediction\n"
        f"from spline_codes, subject\nwhere {here}{also}\n"
        f"order by distance, example_id\nlimit {wanted['k']}"
    )
