"""Search: the polytope of a stored example or of what is read now: who shares it, and who lies nearest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from atlas.errors import BadInput, PolytopeError, UsageError
from atlas.images import decode_image
from ingest.datasets.images import IMAGE_SUFFIXES, thumbnail
from query.clustering.clusterings import NOISE
from query.clustering.membership import Membership
from query.examples.description import describe
from query.examples.subjects import Subject
from query.neighbors.search_space import DEFAULT_K

from ...plain_text import numbers, one_line
from .. import address, jobs
from ..parts import cards, choices, markup, show
from ..parts.code import call, reader_of, source
from ..view import View, explained, literal, records

MOST_NEIGHBOURS = 200  # rows of a page; `polytope nearest` and SQL give more
MOST_SHOWN = 24  # of those who share a polytope
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

Arguments = dict[str, Any]
"""Arguments of `query.nearest`: the subject, or what is searched for."""


def render(view: View) -> None:
    kind = view.network.kind
    with st.container(horizontal=True, gap="medium"):
        by = address.segment("Look from", [EXAMPLE, kind.capitalize()], key="by")
        wanted = _how_many(view, beside=1 if by == EXAMPLE else 0)
    wanted |= _filters(view)
    if by == EXAMPLE:
        _from_example(view, wanted)
    else:
        view.load_ahead()
        _FROM[kind](view, wanted)


# --- what is searched for --------------------------------------------------------------------------------------


def _how_many(view: View, *, beside: int) -> Arguments:
    """``beside``: how many of the stored codes are the one that is looked from."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    others = max(1, min(site.n_codes for site in target.sites) - beside)
    k = address.number("Nearest", 1, min(MOST_NEIGHBOURS, others), min(DEFAULT_K, others), key="k", width=140)
    radius = address.number(
        "Within (gates)", 0, target.n_gates, None, key="radius", width=170, placeholder="any distance"
    )
    return {"k": k, "radius": radius}


def _filters(view: View) -> Arguments:
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


def _from_example(view: View, wanted: Arguments) -> None:
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example = choices.example(
            view, choices.label_with_range(view, "Example"), "example", choices.telling_example(view)
        )
        choices.step_buttons(view, "example")
    row = records(view.ask(describe, view.network, [example]))[0]
    left, right = cards.beside(view)
    with left:
        cards.card(view, row)
    with right, explained():
        plain = len(target.sites) == 1 and wanted["cluster"] is None and wanted["dataset"] is None
        answer = _answer(view, {"example": example}, wanted)
        if answer is not None:
            sql = _sql(view, example, wanted) if plain else None
            _show(view, answer, {"example": example}, wanted, sql=sql)


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


# --- from what was never ingested ------------------------------------------------------------------------------


def _from_text(view: View, wanted: Arguments) -> None:
    text = _text()
    if not text:
        return
    answer = _answer_about(view, text, wanted)
    if answer is None:
        return
    tokens, token = answer.tokens, answer.token
    assert tokens is not None and token is not None
    _choose_token(text, tokens, token)
    shown = one_line(tokens[token]) or NO_CHARACTERS  # HTML would show spaces as one
    named = {"text": text, "token": token}
    _show(view, answer, named, wanted, live=True, name=f"token {token} ('{shown}') of the text")


def _answer_about(view: View, text: str, wanted: Arguments) -> Answer | None:
    """About the token that was chosen or that the address names; about the last one of a text that is new."""
    if st.session_state.get("token-of", text) != text:
        st.query_params.pop("token", None)
    st.session_state["token-of"] = text
    named = str(st.session_state.get(_token_key(text), st.query_params.get("token", "")))
    token = int(named) if named.isdecimal() else None
    if token is not None:
        st.query_params["token"] = str(token)  # for the runs that wait for the answer, which draw no tokens
    try:
        answer = _answer(view, {"text": text, "token": token}, wanted, live=True)
    except UsageError:  # perhaps of a token that the text does not have
        if token is None:
            raise
        answer, token = _answer(view, {"text": text, "token": None}, wanted, live=True), None
    if token is None and named:
        st.query_params.pop("token", None)
        st.session_state["token-refused"] = named
    if answer is not None and answer.tokens is not None:
        refused = st.session_state.pop("token-refused", "")
        if refused:
            last = len(answer.tokens) - 1
            address.refuse("token", refused, f"a token of this text, 0 to {last:,}", answer.token)
    return answer


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
        show.notes(
            f"This text of {len(text):,} characters is too long for a link (at most {LINK_LIMIT:,}): the "
            "address of this page does not hold it."
        )
    return text


def _token_key(text: str) -> str:
    return f"token-{hash(text)}"


def _choose_token(text: str, strings: Sequence[str], token: int) -> None:
    """Pills to click on, or a number for a long text."""
    last = len(strings) - 1
    if len(strings) <= PILLS:
        st.pills(
            f"Token ({len(strings):,})",
            range(len(strings)),
            default=token,
            required=True,
            key=_token_key(text),
            format_func=lambda i: markup.markdown(one_line(strings[i])) or NO_CHARACTERS,
        )
    else:
        st.number_input(f"Token (0 to {last:,})", 0, last, token, width=220, key=_token_key(text))
        near = strings[max(0, token - 40) : token + 20]
        st.html(f'<div class="pa">{markup.marked_token(near, min(token, 40))}</div>')
    address.show_refusal("token", token)
    st.query_params["token"] = str(token)


def _from_image(view: View, wanted: Arguments) -> None:
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
        answer = _answer(view, {"image": data}, wanted, live=True)
        if answer is not None:
            _show(view, answer, {"image": file.name}, wanted, live=True)


def _from_vector(view: View, wanted: Arguments) -> None:
    text = st.text_input(
        "Vector",
        key="vector",
        bind="query-params",
        placeholder="0.3, 1.2",
        help="Numbers with commas between them. The network that made the atlas reads them; nothing is stored.",
    )
    if not text:
        return
    with explained():
        given = {"vector": numbers("the vector", text)}
        answer = _answer(view, given, wanted, live=True)
        if answer is not None:
            _show(view, answer, given, wanted, live=True)


_FROM = {"text": _from_text, "image": _from_image, "vector": _from_vector}
"""How what was never ingested is looked from."""


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
    """Some of those who share the polytope of a subject and how many do, who lies nearest outside it, and in which
    cluster the subject lies, or why in none; of a text its tokens, and which of them is meant."""

    same: pd.DataFrame
    n_same: int
    nearest: pd.DataFrame
    place: Membership | str | None
    tokens: tuple[str, ...] | None
    token: int | None


def look_up(atlas: Atlas, given: Arguments, wanted: Arguments, *, reader: Network | None = None) -> Answer:
    """Read a subject once and ask all that the page says about it. ``given``: what `query.subject` takes."""
    if "image" in given:
        given = given | {"image": decode_image(given["image"], UPLOAD_PIXELS)}
    subject = query.subject(atlas, **given, reader=reader)
    nearest = query.nearest(atlas, subject=subject, **wanted, outside=True)
    n_same = nearest.attrs["n_same"]
    same = nearest.head(0)
    if n_same:
        same = query.nearest(atlas, subject=subject, **_sharing(wanted, n_same), density=False)
    place = _placed(atlas, nearest.attrs["clustering"], subject)
    return Answer(same, n_same, nearest, place, subject.tokens, subject.token)


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


def _answer(view: View, given: Arguments, wanted: Arguments, *, live: bool = False) -> Answer | None:
    """What the page says about a subject, once it is computed."""
    given = {**given, **view.named, "network": view.network.name}
    return view.work("Comparing codes", look_up, given, wanted, live=live, turns=jobs.PAGE)


def _show(
    view: View,
    answer: Answer,
    given: Arguments,
    wanted: Arguments,
    *,
    live: bool = False,
    name: str | None = None,
    sql: str | None = None,
) -> None:
    """``given``: the subject as code names it; ``name``: as a sentence does, in place of the answer's own name."""
    about, n = answer.nearest.attrs, answer.n_same
    name = name or str(about["subject"])
    st.html(f'<div class="pa">{markup.plain(name[0].upper() + name[1:])}{_in_words(view, answer.place)}</div>')
    st.header(f"In the same polytope: {n:,}", anchor=False)
    if n:
        cards.examples(view, answer.same.drop(columns=["rank", "density", "distance"]), about["clustering"])
        if n > len(answer.same):
            show.notes(f"The first {len(answer.same)} of {n:,}, by example id.")
        source(view, _call(view, given, _sharing(wanted, n), live))
    else:
        among = "example that meets the conditions" if _narrowed(wanted) else "stored example"
        show.notes(f"No {'other ' if 'example' in given else ''}{among} has this code.")
    _nearest(answer.nearest, view, wanted, bool(n))
    source(view, _call(view, given, {**wanted, "outside": True}, live), sql=sql)


def _call(view: View, given: Arguments, wanted: Arguments, live: bool) -> str:
    said = call(query.nearest, **given, **view.named, network=view.network.name, **wanted)
    return f"{said[:-1]}, reader={reader_of(view.network.name)})" if live else said


def _narrowed(wanted: Arguments) -> bool:
    return any(wanted[name] is not None for name in ("label", "cluster", "dataset", "where"))


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


def _nearest(found: pd.DataFrame, view: View, wanted: Arguments, shared: bool) -> None:
    about = found.attrs
    searched = f"{about['n_searched']:,} of {about['n_codes']:,}" if _narrowed(wanted) else f"{about['n_codes']:,}"
    st.header(f"Nearest polytopes: {len(found):,} of {searched} codes", anchor=False)
    if len(found):
        low, high = int(found["distance"].min()), int(found["distance"].max())
        apart = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        share = " to ".join(dict.fromkeys(f"{distance / about['n_gates']:.1%}" for distance in (low, high)))
        show.notes(
            f"{apart} of {about['n_gates']:,} gates apart ({share}). "
            f"{'Exact' if about['exact_search'] else 'Approximate'} search; searched: {about['searched']}."
        )
        cards.examples(view, cards.without_unknown_density(found), about["clustering"])
    elif shared:
        within = "Everyone within this distance shares the polytope; raise it."
        show.notes("Everyone shares the polytope." if wanted["radius"] is None else within)
    else:
        show.notes("No other example lies within this distance; raise it.")
    show.notes(*[about[name] for name in ("search_note", "exact_note", "density_note", "label_note")])
