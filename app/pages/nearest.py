"""Nearest: which stored examples lie in the nearest polytopes, seen from an example, a text's token or an image."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from PIL import Image

import query
from app import cards, marked
from app.view import View, call, literal, live_network, records, source
from atlas.errors import BadInput, PolytopeError
from atlas.network import TextNetwork, Tokens
from ingest.images import IMAGE_SUFFIXES, decode_image, thumbnail
from query.clusters import NOISE
from query.examples import describe
from query.neighbors import DEFAULT_K

MOST_NEIGHBOURS = 200  # rows of a page; `polytope nearest` and SQL give more
TEXT_LIMIT = 20_000  # characters of a pasted text: a long file, and seconds to read
PILLS = 300  # tokens to click on; a longer text is chosen from by number
UPLOAD_MEGABYTES = 10

EXAMPLE = "Example"
"""A way to look from that every network has; the other is its kind of input. A URL holds them as they are shown."""

Subject = dict[str, Any]
"""The arguments of `query.nearest` that say what is asked about; a network to read it with comes beside it."""


def render(view: View) -> None:
    kind = view.network.kind
    with st.container(horizontal=True, gap="medium"):
        by = st.segmented_control(
            "Look from", [EXAMPLE, kind.capitalize()], default=EXAMPLE, key="by", bind="query-params", required=True
        )  # fmt: skip
        k, radius = _how_many(view)
    if by == EXAMPLE:
        _from_example(view, k, radius)
    elif kind == "text":
        _from_text(view, k, radius)
    else:
        _from_image(view, k, radius)


def _how_many(view: View) -> tuple[int, int | None]:
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    others = max(1, min(site.n_codes for site in target.sites) - 1)
    k = st.number_input(
        "Nearest", 1, min(MOST_NEIGHBOURS, others), min(DEFAULT_K, others), key="k", bind="query-params", width=140
    )
    radius = st.number_input(
        "Within (gates)", 0, target.n_gates, None, key="radius", bind="query-params", width=170,
        placeholder="any distance",
    )  # fmt: skip
    return int(k), None if radius is None else int(radius)


# --- from a stored example -------------------------------------------------------------------------------------


def _from_example(view: View, k: int, radius: int | None) -> None:
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    first, last, another = view.atlas.rows(
        "select min(example_id), max(example_id), arg_min(example_id, random()) from codes where site_id = $1",
        [target.sites[0].site_id],
    )[0]
    if not first <= st.session_state.get("example", first) <= last:
        st.session_state["example"] = first  # the sidebar went to another network, whose examples have other ids
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example = st.number_input(
            f"Example ({first:,} to {last:,})", first, last, first, key="example", bind="query-params", width=220
        )
        st.button("Another at random", on_click=_choose, args=(another,))
    found = view.ask(query.nearest, example=int(example), network=view.network.name, k=k, radius=radius, **view.named)
    subject = records(view.ask(describe, view.network, [int(example)]))[0]
    if view.network.kind == "image":
        left, right = st.columns([1, 4], gap="medium")
    else:
        left = right = st.container()
    with left:
        cards.one(view, subject)
    with right:
        _results(view, found)
        asked = call("nearest", example=int(example), **view.named, network=view.network.name, k=k, radius=radius)
        source(view, asked, None if len(target.sites) > 1 else _sql(view, int(example), k, radius))


def _choose(example: int) -> None:
    st.session_state["example"] = example


def _sql(view: View, example: int, k: int, radius: int | None) -> str:
    """The same question in SQL, for a single site: there a code is one value."""
    here = f"network = {literal(view.network.name)} and site = {literal(view.target)}"
    within = "" if radius is None else f"\n    and hamming(spline_codes.code, subject.code) <= {radius}"
    return (
        f"with subject as (\n    select code from spline_codes\n    where {here} and example_id = {example}\n)\n"
        "select example_id, hamming(spline_codes.code, subject.code) as distance, token, label, prediction\n"
        f"from spline_codes, subject\nwhere {here} and example_id <> {example}{within}\n"
        f"order by distance, example_id\nlimit {k}"
    )


# --- from what was never ingested ------------------------------------------------------------------------------


def _from_text(view: View, k: int, radius: int | None) -> None:
    text = st.text_area(
        "Text", key="text", bind="query-params", max_chars=TEXT_LIMIT, height=110,
        placeholder="Paste a text. The network that made the atlas reads it here; nothing is stored.",
    )  # fmt: skip
    if not text:
        return
    with live_network(view.network) as network:
        assert isinstance(network, TextNetwork)
        tokens = network.tokenize(text)
    token = _token(text, tokens)
    if token is None:
        return
    subject = {"text": text, "token": token}
    _live(view, subject, k, radius)
    source(view, _live_call(view, subject, k, radius))


def _token(text: str, tokens: Tokens) -> int | None:
    """Which token is asked about: pills to click on, or a number for a long text. The last one to begin with."""
    strings = [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]
    if not strings:
        st.html(marked.notes(["the text has no token yet"]))
        return None
    asked = st.query_params.get("token", "") if st.session_state.get("token_of", text) == text else ""
    st.session_state["token_of"] = text  # another text begins at its own last token
    begin = int(asked) if asked.isdecimal() and int(asked) < len(strings) else len(strings) - 1
    if len(strings) <= PILLS:
        chosen = st.pills(
            f"Token ({len(strings):,})", range(len(strings)), default=begin, required=True, key=f"token-{hash(text)}",
            format_func=lambda i: marked.markdown(marked.one_line(strings[i])) or "∅",
        )  # fmt: skip
    else:
        chosen = st.number_input(f"Token (0 to {len(strings) - 1:,})", 0, len(strings) - 1, begin, width=220)
        near = strings[max(0, chosen - 40) : chosen + 20]
        st.html(f'<div class="pa">{marked.marked_token(near, min(chosen, 40))}</div>')
    chosen = begin if chosen is None else int(chosen)
    st.query_params["token"] = str(chosen)
    return chosen


def _from_image(view: View, k: int, radius: int | None) -> None:
    file = st.file_uploader(
        "Image", type=sorted(suffix[1:] for suffix in IMAGE_SUFFIXES), max_upload_size=UPLOAD_MEGABYTES, key="image",
        help="The network that made the atlas reads it here; nothing is stored.",
    )  # fmt: skip
    if file is None:
        return
    image = _decoded(file.name, file.getvalue())
    left, right = st.columns([1, 4], gap="medium")
    caption = f"<div>{marked.plain(file.name)}</div><div>{image.width} × {image.height} pixels</div>"
    left.html(f'<div class="pa">{marked.figure(thumbnail(image), caption, file.name)}</div>')
    with right:
        _live(view, {"image": image}, k, radius)
        source(view, _live_call(view, {"image": file.name}, k, radius))


def _decoded(name: str, data: bytes) -> Image.Image:
    """The pixels of an uploaded file; the decoder knows no name to put into its error."""
    try:
        return decode_image(data)
    except BadInput as error:
        raise BadInput(f"{name} {error}") from error


def _live(view: View, subject: Subject, k: int, radius: int | None) -> None:
    with live_network(view.network) as network:
        asked = {**subject, **view.named, "network": view.network.name, "reader": network}
        found = query.nearest(view.atlas, k=k, radius=radius, **asked)
        placed = _placed(view, found, asked)
    name = found.attrs["subject"]
    st.html(f'<div class="pa">{marked.plain(name[0].upper() + name[1:])}{placed}</div>')
    _results(view, found)


def _placed(view: View, found: pd.DataFrame, asked: dict[str, Any]) -> str:
    """In which cluster the subject would lie. One of many facts, so that its absence is a remark and no error."""
    if found.attrs["clustering"] is None:
        return ""
    try:
        where = query.membership(view.atlas, clustering=found.attrs["clustering"], **asked)
    except PolytopeError as error:
        return f'<p class="pa-note">No cluster: {marked.plain(error)}</p>'
    if where.cluster == NOISE:
        return " would be noise: it lies in no cluster"
    name = marked.link(
        "clusters", str(where.cluster), clustering=where.clustering, cluster=where.cluster, **view.state
    )
    return f" would lie in cluster {name} (strength {where.probability:.2f})"


def _live_call(view: View, subject: Subject, k: int, radius: int | None) -> str:
    asked = call("nearest", **subject, **view.named, network=view.network.name, k=k, radius=radius)
    return f"{asked[:-1]}, reader=ingest.networks.reload_network(a.catalog.network({view.network.name!r})))"


# --- what was found --------------------------------------------------------------------------------------------


def _results(view: View, found: pd.DataFrame) -> None:
    about = found.attrs
    st.subheader(f"{len(found):,} nearest of {about['n_codes']:,} codes", anchor=False)
    if len(found):
        low, high = int(found["distance"].min()), int(found["distance"].max())
        apart = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        share = " to ".join(dict.fromkeys(f"{distance / about['n_gates']:.1%}" for distance in (low, high)))
        st.html(
            marked.notes([
                f"{apart} of {about['n_gates']:,} gates apart ({share}). "
                f"{'Exact' if about['exact_search'] else 'Approximate'} search; searched: {about['searched']}."
            ])
        )  # fmt: skip
        cards.examples(
            view, found if found["density"].notna().any() else found.drop(columns="density"), about["clustering"]
        )
    else:
        st.html(marked.notes(["No other example lies within this distance; raise it."]))
    st.html(marked.notes([_sentence(about[name]) for name in ("search_note", "exact_note", "density_note")]))


def _sentence(note: str | None) -> str | None:
    return None if note is None else f"{note[0].upper()}{note[1:]}."
