"""Search: the polytope of a stored example, a text's token or an image: who shares it, and who lies nearest."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from atlas.errors import BadInput, PolytopeError, UsageError
from atlas.network import TextNetwork
from ingest.datasets.images import IMAGE_SUFFIXES, decode_image, thumbnail
from query.clustering.clusterings import NOISE
from query.clustering.membership import Membership
from query.examples.description import describe
from query.neighbors.nearest import DEFAULT_K

from ...plain_text import one_line
from .. import address, jobs
from ..parts import cards, choices, markup
from ..parts.code import call, reader_of, source
from ..view import View, explained, literal, records

MOST_NEIGHBOURS = 200  # rows of a page; `polytope nearest` and SQL give more
MOST_SHOWN = 24  # of those who share a polytope
MOST_PASSED = 2000
"""Inhabitants of a polytope behind which its neighbours are looked for: they are all found, and left out."""
TEXT_LIMIT = 20_000  # characters of a pasted text: a long file, and seconds to read
LINK_LIMIT = 1500
"""Characters of a text that a link carries: escaped they are more, and some programs cut links at 2,000."""
NO_CHARACTERS = "∅"  # of a token that is a part of a character
PILLS = 300  # tokens to click on; a longer text is chosen from by number
UPLOAD_MEGABYTES = 10
UPLOAD_PIXELS = 25_000_000  # decoded 75 MB, for each session
KEPT_UPLOADS = 32
"""Images of all sessions whose thumbnail is kept, some kB each."""

MOST_LABELS = 1000  # offered in a list

EXAMPLE = "Example"
"""A way to look from that every network has; the other is its kind of input. A URL holds them as they are shown."""

Asked = dict[str, Any]
"""Arguments of `query.nearest`: the subject, or what is searched for."""


def render(view: View) -> None:
    kind = view.network.kind
    with st.container(horizontal=True, gap="medium"):
        by = address.segment("Look from", [EXAMPLE, kind.capitalize()], key="by")
        wanted = _how_many(view, beside=1 if by == EXAMPLE else 0)
    wanted |= _filters(view)
    if by == EXAMPLE:
        _from_example(view, wanted)
    elif kind == "text":
        _from_text(view, wanted)
    else:
        _from_image(view, wanted)


# --- what is searched for --------------------------------------------------------------------------------------


def _how_many(view: View, *, beside: int) -> Asked:
    """``beside``: how many of the stored codes are the one that is looked from."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    others = max(1, min(site.n_codes for site in target.sites) - beside)
    k = address.number("Nearest", 1, min(MOST_NEIGHBOURS, others), min(DEFAULT_K, others), key="k", width=140)
    radius = address.number(
        "Within (gates)", 0, target.n_gates, None, key="radius", width=170, placeholder="any distance"
    )
    return {"k": k, "radius": radius}


def _filters(view: View) -> Asked:
    """Conditions that all must hold; the search is among the examples that meet them."""
    labels, datasets = view.ask(filter_choices, view.network.network_id)
    given = [name for name in ("label", "in_cluster", "dataset", "where") if st.query_params.get(name)]
    words = f"Only among … ({', '.join(given).replace('in_', '')})" if given else "Only among …"
    with st.expander(words, expanded=bool(given), icon=":material/filter_alt:"):
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
                help="Of the newest clustering of this site or span; −1 is noise.",
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
    """A name from a list. One that is not on it, from a link, stands there too, and is what the search refuses."""
    wanted = st.query_params.get(key)
    if wanted and key not in st.session_state and wanted not in names:
        names = [*names, wanted]
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


# --- from a stored example -------------------------------------------------------------------------------------


def _from_example(view: View, wanted: Asked) -> None:
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example = choices.example(view, choices.label_with_range(view, "Example"), "example")
        choices.step_buttons(view, "example")
    subject = {"example": example}
    row = records(view.ask(describe, view.network, [example]))[0]
    left, right = st.columns([1, 4], gap="medium") if view.network.kind == "image" else (st.container(),) * 2
    with left:
        cards.card(view, row)
    with right, explained():
        plain = len(target.sites) == 1 and wanted["cluster"] is None and wanted["dataset"] is None
        _answered(view, subject, wanted, sql=_sql(view, example, wanted) if plain else None)


def _sql(view: View, example: int, wanted: Asked) -> str:
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


# --- from what was never ingested ------------------------------------------------------------------------------


def _from_text(view: View, wanted: Asked) -> None:
    text = _text()
    if not text:
        return
    tokens = view.work("Reading the text", token_strings, view.network.name, text, live=True, turns=jobs.PAGE)
    token = None if tokens is None else _token(text, tokens)
    if tokens is None or token is None:
        return
    shown = one_line(tokens[token]) or NO_CHARACTERS  # HTML would show spaces as one
    _answered(view, {"text": text, "token": token}, wanted, live=True, name=f"token {token} ('{shown}') of the text")


def _text() -> str:
    """The pasted text. The address holds it, unless it is too long to be a link."""
    if "text" not in st.session_state:
        st.session_state["text"] = st.query_params.get("text", "")[:TEXT_LIMIT]
    text = st.text_area(
        "Text",
        key="text",
        max_chars=TEXT_LIMIT,
        height=110,
        placeholder="Paste a text. The network that made the atlas reads it here; nothing is stored.",
    )
    assert text is not None
    if text and len(text) <= LINK_LIMIT:
        st.query_params["text"] = text
    elif "text" in st.query_params:
        del st.query_params["text"]
    if len(text) > LINK_LIMIT:
        st.html(
            markup.notes(
                [
                    f"This text of {len(text):,} characters is too long for a link (at most {LINK_LIMIT:,}): the "
                    "address of this page does not hold it."
                ]
            )
        )
    return text


def token_strings(atlas: Atlas, network: str, text: str, *, reader: Network) -> list[str]:
    """The characters of each token of a text."""
    if not isinstance(reader, TextNetwork):
        raise UsageError(f"network {network} reads no text")
    tokens = reader.tokenize(text)
    return [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]


def _token(text: str, strings: list[str]) -> int | None:
    """Which token is asked about: pills to click on, or a number for a long text. The last one to begin with."""
    if not strings:
        st.html(markup.notes(["The text has no token yet."]))
        return None
    wanted = st.query_params.get("token", "") if st.session_state.get("token_of", text) == text else ""
    st.session_state["token_of"] = text  # another text begins at its own last token
    last = len(strings) - 1
    begin = int(wanted) if wanted.isdecimal() and int(wanted) <= last else last
    if wanted not in ("", str(begin)):
        address.refuse("token", wanted, f"a token of this text, 0 to {last:,}", begin)
    if len(strings) <= PILLS:
        chosen = st.pills(
            f"Token ({len(strings):,})",
            range(len(strings)),
            default=begin,
            required=True,
            key=f"token-{hash(text)}",
            format_func=lambda i: markup.markdown(one_line(strings[i])) or NO_CHARACTERS,
        )
    else:
        chosen = st.number_input(f"Token (0 to {last:,})", 0, last, begin, width=220)
        near = strings[max(0, chosen - 40) : chosen + 20]
        st.html(f'<div class="pa">{markup.marked_token(near, min(chosen, 40))}</div>')
    chosen = begin if chosen is None else int(chosen)
    address.show_refusal("token", chosen)
    st.query_params["token"] = str(chosen)
    return chosen


def _from_image(view: View, wanted: Asked) -> None:
    file = st.file_uploader(
        "Image",
        type=sorted(suffix[1:] for suffix in IMAGE_SUFFIXES),
        max_upload_size=UPLOAD_MEGABYTES,
        key="image",
        help="The network that made the atlas reads it here; nothing is stored. A link does not hold it.",
    )
    if file is None:
        return
    data = file.getvalue()
    size, small = _small(file.name, data)
    left, right = st.columns([1, 4], gap="medium")
    caption = f"<div>{markup.plain(file.name)}</div><div>{size[0]} × {size[1]} pixels</div>"
    known = view.ask(stored_as, view.network.network_id, hashlib.sha256(data).hexdigest())
    if known is not None:
        where = markup.link("example", f"example {known}", example=known, **view.state)
        caption += f"<div>stored as {where}</div>"
    left.html(f'<div class="pa">{markup.figure(small, caption, file.name, "pa-one")}</div>')
    with right, explained():
        # The file as it came is a tenth of its pixels, and the job is told from others by what it is asked.
        _answered(view, {"image": data}, wanted, live=True, called={"image": file.name})


@st.cache_data(max_entries=KEPT_UPLOADS, show_spinner=False)
def _small(_name: str, data: bytes) -> tuple[tuple[int, int], bytes]:
    """Width and height of an uploaded image, and what shows it; the page is drawn again at every click, and to decode
    takes up to a second. The decoder knows no name to put into its error."""
    try:
        image = decode_image(data, UPLOAD_PIXELS)
    except BadInput as error:
        raise BadInput(f"{_name} {error}") from error
    return image.size, thumbnail(image)


def stored_as(atlas: Atlas, network_id: int, content_hash: str) -> int | None:
    """The first example of a network whose input is that very file."""
    found = atlas.value(
        """
        select min(example_id) from examples join inputs using (input_id)
        where network_id = $1 and content_hash = $2
        """,
        [network_id, content_hash],
    )
    return None if found is None else int(found)


# --- what was found --------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """Some of those who share the polytope and how many do, who lies nearest outside it, and in which cluster the
    subject lies, or why in none. The two tables are of `query.nearest`, with these arguments besides the subject."""

    same: pd.DataFrame
    n_same: int
    nearest: pd.DataFrame
    place: Membership | str | None
    same_asked: Asked
    nearest_asked: Asked


def looked_up(atlas: Atlas, subject: Asked, wanted: Asked, here: Asked, *, reader: Network | None = None) -> Answer:
    """The polytope of a subject: the ``k`` nearest, and apart from them those at distance 0, who share it.

    Where all ``k`` share it, the nearest of the others are looked for behind them, unless those are too many.
    """
    if "image" in subject:
        subject = {"image": decode_image(subject["image"], UPLOAD_PIXELS)}
    here = {**subject, **here, "reader": reader}
    found = query.nearest(atlas, **wanted, **here)
    about, n_same = found.attrs, int((found["distance"] == 0).sum())
    inside = {**wanted, "k": None, "radius": 0, "density": False}
    if n_same and n_same == len(found):
        same = query.nearest(atlas, **inside, **here)
        n_same, others = len(same), about["n_searched"] - ("example" in subject)
        if n_same <= MOST_PASSED and n_same < others:
            wanted = {**wanted, "k": min(n_same + wanted["k"], others)}
            found = query.nearest(atlas, **wanted, **here)
    else:
        same = found[found["distance"] == 0]
    outside = found[found["distance"] > 0].reset_index(drop=True)
    outside.attrs.update(about)
    place = _placed(atlas, about["clustering"], here)
    return Answer(same.head(MOST_SHOWN), n_same, outside, place, inside, wanted)


def _placed(atlas: Atlas, clustering: int | None, here: Asked) -> Membership | str | None:
    """In which cluster the subject lies. One of many facts, so that its absence is a remark and no error."""
    if clustering is None:
        return None
    try:
        return query.membership(atlas, clustering=clustering, **here)
    except PolytopeError as error:
        return str(error)


def _answered(
    view: View,
    subject: Asked,
    wanted: Asked,
    *,
    live: bool = False,
    called: Asked | None = None,
    name: str | None = None,
    sql: str | None = None,
) -> None:
    """Show the answer, once it is there. ``called``: the subject as code names it; ``name``: as a sentence does, in
    place of the name that the answer has for it."""
    here = {**view.named, "network": view.network.name}
    answer = view.work("Comparing codes", looked_up, subject, wanted, here, live=live, turns=jobs.PAGE)
    if answer is None:
        return
    about = answer.nearest.attrs
    name = name or str(about["subject"])
    st.html(f'<div class="pa">{markup.plain(name[0].upper() + name[1:])}{_in_words(view, answer.place)}</div>')
    n = answer.n_same
    st.subheader(f"In the same polytope: {n:,}", anchor=False)
    if n:
        cards.examples(view, answer.same.drop(columns=["rank", "density", "distance"]), about["clustering"])
        if n > len(answer.same):
            st.html(markup.notes([f"The first {len(answer.same)} of {n:,}, by example id."]))
        source(view, _call(view, called or subject, here | answer.same_asked, live))
    else:
        among = "example that meets the conditions" if _narrowed(wanted) else "stored example"
        st.html(markup.notes([f"No {'other ' if 'example' in subject else ''}{among} has this code."]))
    _nearest(answer.nearest, view, wanted, bool(n))
    outside = f"{_call(view, called or subject, here | answer.nearest_asked, live)}.query('distance > 0')"
    source(view, outside, sql=sql)


def _call(view: View, subject: Asked, arguments: Asked, live: bool) -> str:
    said = call(query.nearest, **subject, **arguments)
    return f"{said[:-1]}, reader={reader_of(view.network.name)})" if live else said


def _narrowed(wanted: Asked) -> bool:
    return any(wanted[name] is not None for name in ("label", "cluster", "dataset", "where"))


def _in_words(view: View, place: Membership | str | None) -> str:
    if place is None:
        return ""
    if isinstance(place, str):
        return f'<p class="pa-note">No cluster: {markup.plain(place)}</p>'
    lies = "lies" if place.stored else "would lie"
    if place.cluster == NOISE:
        return f" {lies} in no cluster of clustering {place.clustering}: it is noise"
    name = cards.cluster_link(view, place.clustering, place.cluster, place.name)
    return f" {lies} in cluster {name} of clustering {place.clustering} (strength {place.probability:.2f})"


def _nearest(found: pd.DataFrame, view: View, wanted: Asked, shared: bool) -> None:
    about = found.attrs
    searched = f"{about['n_searched']:,} of {about['n_codes']:,}" if _narrowed(wanted) else f"{about['n_codes']:,}"
    st.subheader(f"Nearest polytopes: {len(found):,} of {searched} codes", anchor=False)
    if len(found):
        low, high = int(found["distance"].min()), int(found["distance"].max())
        apart = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        share = " to ".join(dict.fromkeys(f"{distance / about['n_gates']:.1%}" for distance in (low, high)))
        st.html(
            markup.notes(
                [
                    f"{apart} of {about['n_gates']:,} gates apart ({share}). "
                    f"{'Exact' if about['exact_search'] else 'Approximate'} search; searched: {about['searched']}."
                ]
            )
        )
        cards.examples(view, cards.without_unknown_density(found), about["clustering"])
    elif shared:
        behind = "Too many share the polytope to look behind them; `polytope nearest` with a greater k does."
        within = "Everyone within the distance asked for shares the polytope; raise it."
        st.html(markup.notes([behind if wanted["radius"] is None else within]))
    else:
        st.html(markup.notes(["No other example lies within this distance; raise it."]))
    st.html(markup.notes([about[name] for name in ("search_note", "exact_note", "density_note")]))
