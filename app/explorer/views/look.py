"""Look: one box for anything, and all about what it leads to: itself, its polytope, its neighbours, its clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import streamlit as st

from atlas import Atlas
from atlas.errors import BadInput, UsageError
from atlas.images import decode_image
from ingest.datasets.images import IMAGE_SUFFIXES, thumbnail
from query.examples.description import describe

from ...plain_text import numbers, one_line, spaces_shown
from .. import address
from ..parts import box, choices, example_sections, found, markup, near, pin, pins
from ..view import View, explained, guarded, records

NO_CHARACTERS = "∅"  # of a token that is a part of a character
UNSEEN = "\u2060"  # a word joiner, which has no width
PILLS = 300  # tokens to click on; a longer text is chosen from by number
UPLOAD_MEGABYTES = 10
KEPT_UPLOADS = 32
"""Images of all sessions whose thumbnail is kept, some kB each."""

BOX = "look-box"
UPLOAD_OPEN = "upload-open"
"""In the session: whether what an image is uploaded in is open."""

UPLOADS = "uploads"
"""In the session: how many things were typed since; the next upload is another widget, which is empty."""


def render(view: View) -> None:
    with explained():
        _typed(view)
    image = _uploaded(view) if view.network.kind == "image" else None
    words, text = st.query_params.get("find"), box.text()
    if image is not None:
        _from_image(view, *image)
    elif words:
        with explained():
            found.draw(view, words)
    elif text and view.network.kind == "text":
        _from_text(view, text)
    elif st.query_params.get("vector") and view.network.kind == "vector":
        _from_vector(view, st.query_params["vector"])
    else:
        _from_example(view)


def _typed(view: View) -> None:
    """The box: what is typed takes the place of what is looked at."""
    words = box.draw(view, BOX)
    if not words:
        return
    place = box.meaning(view.atlas, words, view.network.name)
    box.go(place)
    st.session_state[UPLOADS] = st.session_state.get(UPLOADS, 0) + 1
    st.session_state[box.TYPED] = place.get("example")


# --- a stored example ------------------------------------------------------------------------------------------


def _from_example(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example = choices.example(
            view, choices.label_with_range(view, "Example"), "example", choices.telling_example(view)
        )
        choices.step_buttons(view, "example", example)
        pins.button(pin.example(example), pins.comparable(view))
        if st.session_state.get(box.TYPED) == str(example):
            other = markup.link("look", f"look for the word “{example}” instead", find=example, **view.state)
            st.html(f'<div class="pa pa-beside">{other}</div>')
    given = {"example": example}
    row = records(view.ask(describe, view.network, [example]))[0]
    example_sections.itself(view, row)
    with explained():
        wanted = near.wanted(view, beside=1)
        answer = near.answer(view, given, wanted)
        if answer is not None:
            near.draw(view, answer, given, wanted)
    example_sections.clusters_through_sites(view, example)
    with explained():
        example_sections.boundaries(view, given, f"example {example}")
    example_sections.code(view, example)


# --- what was never ingested -----------------------------------------------------------------------------------


def _from_text(view: View, text: str) -> None:
    view.load_ahead()
    if box.LONG in st.session_state:
        address.leave_out("example")
        long = f"This text of {len(text):,} characters is too long for a link (at most {box.LINK_LIMIT:,})"
        _not_in_a_link("the text", f"{long}: the address of this page does not hold it.")
    else:
        words = text if len(text) <= 40 and "\n" not in text else None
        if words:
            other = markup.link("look", "Look for these words in what is stored", find=words, **view.state)
            st.html(f'<div class="pa">{other}</div>')
    with explained():
        wanted = near.wanted(view, beside=0)
        answer = _about(view, text, wanted)
        if answer is None:
            return
        tokens, token = answer.tokens, answer.token
        assert tokens is not None and token is not None
        _choose_token(text, tokens, token)
        pins.button(pin.token(text, tokens, token, view.network.name), pins.comparable(view))
        _live(view, answer, {"text": text, "token": token}, wanted, _token_name(tokens, token))


def _not_in_a_link(what: str, sentence: str) -> None:
    """A remark that no link holds what is looked at; who copies one is told (`static/tools.js`)."""
    st.html(f'<div class="pa" data-not-in-a-link="{what}"><p class="pa-note">{markup.plain(sentence)}</p></div>')


def _token_name(tokens: Sequence[str], token: int) -> str:
    return f"token {token} ('{one_line(spaces_shown(tokens[token])) or NO_CHARACTERS}') of the text"


def _about(view: View, text: str, wanted: near.Arguments) -> near.Answer | None:
    """About the token that was chosen or that the address names; of a text that is new, about the last that is not
    only white space."""
    if st.session_state.get("token-of", text) != text:
        st.query_params.pop("token", None)
    st.session_state["token-of"] = text
    named = str(st.session_state.get(_token_key(text), st.query_params.get("token", "")))
    token = int(named) if named.isdecimal() else None
    if token is not None:
        st.query_params["token"] = str(token)  # for the runs that wait for the answer, which draw no tokens
    try:
        answer = near.answer(view, {"text": text, "token": token}, wanted, live=True)
    except UsageError:  # perhaps of a token that the text does not have
        if token is None:
            raise
        answer, token = near.answer(view, {"text": text, "token": None}, wanted, live=True), None
    if token is None and named:
        st.query_params.pop("token", None)
        st.session_state["token-refused"] = named
    if answer is not None and answer.tokens is not None:
        refused = st.session_state.pop("token-refused", "")
        if refused:
            last = len(answer.tokens) - 1
            address.refuse("token", refused, f"a token of this text, 0 to {last:,}", answer.token)
    return answer


def _token_key(text: str) -> str:
    return f"token-{hash(text)}"


def _choose_token(text: str, strings: Sequence[str], token: int) -> None:
    """Pills to click on, or a number for a long text."""
    last = len(strings) - 1
    label = f"Token (0 to {last:,})"
    if len(strings) <= PILLS:
        words = _told_apart(strings)
        key = _token_key(text)
        st.pills(label, range(len(words)), default=token, required=True, key=key, format_func=words.__getitem__)
    else:
        st.number_input(label, 0, last, token, width=220, key=_token_key(text))
        close = strings[max(0, token - 40) : token + 20]
        st.html(f'<div class="pa">{markup.marked_token(close, min(token, 40))}</div>')
    address.show_refusal("token", token)
    st.query_params["token"] = str(token)


def _told_apart(strings: Sequence[str]) -> list[str]:
    """Tokens as they are shown, no two of them equal: Streamlit tells options by their words. One that comes again
    ends with a character that nobody sees for each time before."""
    shown = [markup.markdown(one_line(spaces_shown(string))) or NO_CHARACTERS for string in strings]
    return [word + UNSEEN * shown[:place].count(word) for place, word in enumerate(shown)]


def _uploaded(view: View) -> tuple[str, bytes] | None:
    """The name and the bytes of an image that was uploaded; the network is loaded while one is chosen."""
    popover = st.popover("Upload an image", icon=":material/image:", key=UPLOAD_OPEN, on_change="rerun")
    with popover:
        file = st.file_uploader(
            "Image",
            type=sorted(suffix[1:] for suffix in IMAGE_SUFFIXES),
            max_upload_size=UPLOAD_MEGABYTES,
            key=f"image-{st.session_state.get(UPLOADS, 0)}",
            on_change=_fold,
            help="The network that made the atlas reads it here; nothing is stored. A link does not hold it.",
        )
        if popover.open and file is None:
            view.load_ahead()
    return None if file is None else (file.name, file.getvalue())


@guarded
def _fold() -> None:
    """What an image is uploaded in would stand before the image."""
    st.session_state[UPLOAD_OPEN] = False


def _from_image(view: View, name: str, data: bytes) -> None:
    view.load_ahead()
    address.leave_out("example", *box.PLACES)
    _not_in_a_link("the image", "No link holds an uploaded image: the address of this page opens without it.")
    with explained():
        size, small = _small(name, data)
        left, right = st.columns([1, 4], gap="medium")
        caption = f"<div>{markup.plain(name)}</div><div>{size[0]} × {size[1]} pixels</div>"
        known = view.ask(stored_as, view.network.network_id, hashlib.sha256(data).hexdigest())
        if known is not None:
            where = markup.link("look", f"example {known}", example=known, **view.state)
            caption += f"<div>stored as {where}</div>"
        left.html(f'<div class="pa">{markup.figure(small, caption, name, "pa-one")}</div>')
        with left:
            pins.button(pin.image(data, view.network.name), pins.comparable(view))
        with right, explained():
            wanted = near.wanted(view, beside=0)
            # The file as it came is a tenth of its pixels, and the job is told from others by what it is asked.
            answer = near.answer(view, {"image": data}, wanted, live=True)
            if answer is not None:
                _live(view, answer, {"image": data}, wanted, f"the image {name}")


def _from_vector(view: View, text: str) -> None:
    view.load_ahead()
    with explained():
        given = {"vector": numbers("the vector", text)}
        st.html(f'<div class="pa pa-mono">{markup.plain(text)}</div>')
        pins.button(pin.vector(given["vector"], view.network.name), pins.comparable(view))
        wanted = near.wanted(view, beside=0)
        answer = near.answer(view, given, wanted, live=True)
        if answer is not None:
            _live(view, answer, given, wanted, "the vector")


def _live(view: View, answer: near.Answer, given: near.Arguments, wanted: near.Arguments, name: str) -> None:
    """All about an input that was read now."""
    predicted = f'<span class="pa-mono">{markup.words(answer.prediction)}</span>'
    facts = [
        ("prediction", f"{predicted} ({answer.probability or 0:.1%})"),
        ("read by", markup.plain(view.network.name)),
    ]
    st.html(f'<div class="pa">{markup.facts(facts)}</div>')
    near.draw(view, answer, given, wanted, name=name)
    if answer.path is not None and len(answer.path):
        example_sections.heading("Its cluster at every site")
        example_sections.draw_path(view, answer.path)
    with explained():
        example_sections.boundaries(view, given, name)


@st.cache_data(max_entries=KEPT_UPLOADS, show_spinner=False)
def _small(_name: str, data: bytes) -> tuple[tuple[int, int], bytes]:
    """Width and height of an uploaded image, and what shows it; the page is drawn again at every click, and to decode
    takes up to a second. The decoder knows no name to put into its error."""
    try:
        image = decode_image(data, near.UPLOAD_PIXELS)
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
