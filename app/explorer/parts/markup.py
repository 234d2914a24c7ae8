"""HTML for what people look at: a token marked in its context, thumbnails, tables of both, an error as a sentence.

Whatever comes from a data set or a user passes `plain` on its way into HTML: a text that holds ``<script>`` is shown
as those characters. The browser's sanitiser (Streamlit runs DOMPurify) is a second wall, not the first.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import pandas as pd
from PIL import Image, UnidentifiedImageError

from ...plain_text import SIGNS, lines_with_signs, one_line, spaces_shown, with_signs

CONTEXT_BEFORE, CONTEXT_AFTER = 64, 40
"""Characters shown either side of a token: with the columns beside it a line of a 1,280 pixel window."""

FEW_PIXELS = 32
"""A side of images whose pixels are drawn as squares: digits of 8 and 28, and icons."""

LINES_BEFORE, LINES_AFTER = 5, 2  # shown of a passage, the token's own line counted on both sides

NO_CONTEXT = '<span class="pa-muted">no context</span>'

_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")  # all ASCII punctuation: CommonMark lets each be escaped
_ARROWS = re.compile("([-<>=~])")
_RUNS = re.compile(" {2,}")
_IDENTIFIER = re.compile(r"[\d_./:>=`]")  # no word of a sentence has any of these inside
_IMAGE_TYPES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))


# --- characters ------------------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """Any value as characters of HTML, in text and in attributes, with signs for those that nobody sees."""
    return html.escape(lines_with_signs(str(text)), quote=True)


def visible(text: str, breaks: bool = False) -> str:
    """A text as HTML: newlines ⏎ (with ``breaks`` also ended there), tabs →, other control characters as ␀ to ␟; what
    has no width as its name."""
    shown = "".join(_MARKED_SIGNS.get(letter) or plain(letter) for letter in text)
    return shown.replace(_MARKED_SIGNS["\n"], _MARKED_SIGNS["\n"] + "<br>") if breaks else shown


def markdown(text: str) -> str:
    """A text as Markdown that shows just these characters, for the labels that Streamlit reads as Markdown; signs for
    those that nobody sees.

    Streamlit also draws ``->`` and the like as arrows; an invisible word joiner between the two keeps them apart.
    """
    return _MARKDOWN.sub(r"\\\1", _ARROWS.sub("\\1\u2060", with_signs(text)))


_MARKED_SIGNS = {letter: f'<span class="pa-sign">{sign}</span>' for letter, sign in [*SIGNS.items(), ("␣", "␣")]}


# --- pieces ----------------------------------------------------------------------------------------------------


def context(
    text: str | None,
    token: str | None,
    offset: float | None,
    before: int = CONTEXT_BEFORE,
    after: int = CONTEXT_AFTER,
) -> str:
    """A context on one line with its token marked, cut to the characters around it.

    Runs of spaces around the token are shown as one: indentation would fill the line. The token keeps all of its own.
    """
    if text is None or token is None or offset is None or pd.isna(offset):
        return NO_CONTEXT
    start = int(offset)
    left, right = (_RUNS.sub(" ", part) for part in (text[:start], text[start + len(token) :]))
    left = left if len(left) <= before else "…" + left[-before:]
    right = right if len(right) <= after else right[:after] + "…"
    return f'<span class="pa-context">{visible(left)}{_mark(token)}{visible(right)}</span>'


def around(text: str, token: str, offset: float, before: int, after: int) -> tuple[str, str, str]:
    """So many characters before a token, the token and those after it, as plain text on one line: `context` for what
    is drawn by a script."""
    start = int(offset)
    left, right = (_RUNS.sub(" ", part) for part in (text[:start], text[start + len(token) :]))
    return with_signs(left[-before:]), one_line(token, len(token) + 1), with_signs(right[:after])


def passage(
    text: str | None,
    token: str | None,
    offset: float | None,
    before: int = LINES_BEFORE,
    after: int = LINES_AFTER,
) -> str:
    """The lines around a token, which is marked, with their spaces as they are."""
    if text is None or token is None or offset is None or pd.isna(offset):
        return NO_CONTEXT
    start = int(offset)
    above, below = text[:start].split("\n"), text[start + len(token) :].split("\n")
    left = ("…" if len(above) > before else "") + "\n".join(above[-before:])
    right = "\n".join(below[:after]) + ("…" if len(below) > after else "")
    shown = visible(left, breaks=True) + _mark(token) + visible(right, breaks=True)
    return f'<div class="pa-context pa-passage">{shown}</div>'


def _mark(token: str) -> str:
    return f"<mark>{visible(spaces_shown(token)) or '∅'}</mark>"


def thumb(data: bytes | bytearray | None, height: int, alt: str = "") -> str:
    """A small picture in a line of text, so many pixels high; – where there is none to show."""
    source = picture(data)
    css = f"pa-thumb{_drawn_as(data)}"
    return f'<img src="{source}" alt="{plain(alt)}" height="{height}" class="{css}">' if source else "–"


def marked_token(tokens: Sequence[str], chosen: int) -> str:
    """A whole text, given as its tokens, with one of them marked."""
    parts = [_mark(token) if i == chosen else visible(token) for i, token in enumerate(tokens)]
    return f'<span class="pa-context">{"".join(parts)}</span>'


def picture(data: bytes | bytearray | None) -> str | None:
    """The data URI of a PNG or JPEG; None for anything else, so that no other type ever reaches the browser."""
    found = next((kind for magic, kind in _IMAGE_TYPES if data and bytes(data).startswith(magic)), None)
    return f"data:image/{found};base64,{base64.b64encode(bytes(data)).decode()}" if data and found else None


def few_pixels(data: bytes | bytearray | None) -> bool:
    """Whether the pixels of a picture are so few that they are drawn as squares."""
    return bool(_drawn_as(data))


def _drawn_as(data: bytes | bytearray | None) -> str:
    """The class of a picture whose pixels are to be seen: of so few, smoothing leaves a blur. Photos are smoothed."""
    if picture(data) is None:
        return ""
    try:
        opened = Image.open(io.BytesIO(bytes(data or b"")))  # reads no more than the size
    except UnidentifiedImageError:  # a damaged one, of which the browser shows what it can
        return ""
    with opened:
        return " pa-pixels" if max(opened.size) <= FEW_PIXELS else ""


def figure(data: bytes | bytearray | None, caption: str, alt: str = "", css: str = "") -> str:
    """A thumbnail with a caption, which is HTML already."""
    source = picture(data)
    drawn = f' class="{_drawn_as(data).strip()}"' if _drawn_as(data) else ""
    shown = (
        f'<img src="{source}" alt="{plain(alt)}"{drawn}>' if source else '<div class="pa-blank">no thumbnail</div>'
    )
    return f'<figure class="{css}">{shown}<figcaption>{caption}</figcaption></figure>'


def link(page: str, words: str, /, **state: object) -> str:
    """A link to a page of the explorer in a certain state; parameters that are None are left out."""
    return f'<a href="{plain(address_of(page, **state))}" target="_self">{plain(words)}</a>'


def saved_link(address: str, words: str) -> str:
    """A link to an address that somebody saved; words alone where it leads to no page of the explorer."""
    page = address.partition("?")[0]
    if not (page.isascii() and page.isalpha()):
        return plain(words)
    return f'<a href="{plain(address)}" target="_self">{plain(words)}</a>'


def address_of(page: str, /, **state: object) -> str:
    """The address of a page in a certain state, as `link` has it; a list stands as several values of its name."""
    given = {name: value for name, value in state.items() if value is not None}
    return f"{page}?{urlencode(given, doseq=True)}"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values in a row; the values are HTML already."""
    return (
        '<div class="pa-facts">'
        + "".join(f'<span><span class="pa-muted">{plain(name)}</span> {value}</span>' for name, value in pairs)
        + "</div>"
    )


def number(value: Any, digits: int = 4) -> str:
    """A number with so many significant digits, – where there is none."""
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if not isinstance(value, float):
        return f"{value:,}"
    shown = f"{value:#.{digits}g}"  # with the zeros that say how exact it is
    return shown.rstrip(".") if "e" not in shown else f"{value:.{digits}g}"


def sentence(note: str) -> str:
    """A remark with a capital, unless it begins with an identifier, and a full stop."""
    if not note:
        return note
    first = note.split(maxsplit=1)[0].rstrip(".,;:!?")
    begin = note[0] if _IDENTIFIER.search(first) else note[0].upper()
    return f"{begin}{note[1:]}{'' if note.endswith(('.', '!', '?', ':')) else '.'}"


def words(value: Any) -> str:
    """A label or prediction as HTML, – where there is none."""
    return "–" if value is None or pd.isna(value) else visible(one_line(str(value)))


# --- wholes ----------------------------------------------------------------------------------------------------


def table(heads: Sequence[tuple[str, str, str]], rows: Iterable[Sequence[str]]) -> str:
    """A table; ``heads`` are (title, what it means, CSS class) of each column, cells are HTML already."""
    top = "".join(f'<th class="{css}" title="{plain(hint)}">{plain(title)}</th>' for title, hint, css in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{css}">{cell}</td>' for (_, _, css), cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    focus = "" if "<a " in body else ' tabindex="0" role="group" aria-label="Table"'  # what scrolls is reached by Tab
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="pa pa-scroll"{focus}>{table}</div>'


def bars(rows: Iterable[tuple[str, float, str]], css: str = "") -> str:
    """Bars, a line each: a name, which is HTML already, a share of the longest that there could be, and words."""
    lines = "".join(
        f'<span>{name}</span><span class="pa-bar" aria-hidden="true"><i style="width: {share:.1%}"></i></span>'
        f"<span>{plain(words)}</span>"
        for name, share, words in rows
    )
    return f'<div class="pa-bars {css}">{lines}</div>'


def grid(figures: Iterable[str], css: str = "") -> str:
    return f'<div class="pa pa-grid {css}">{"".join(figures)}</div>'


def error(message: str) -> str:
    """An error's own sentence; what it puts in backquotes is set as code, and the database's caret stays in place."""
    shown = plain(message)
    if "\n" in message:
        return f'<div class="pa pa-error" role="alert"><pre class="pa-mono">{shown}</pre></div>'
    return f'<div class="pa pa-error" role="alert">{_with_code(shown)}</div>'


def notes(lines: Iterable[str | None]) -> str:
    """Remarks as sentences; those that are None are left out. What they put in backquotes is set as code."""
    shown = "".join(f'<p class="pa-note">{_with_code(plain(sentence(line)))}</p>' for line in lines if line)
    return f'<div class="pa">{shown}</div>'


def _with_code(shown: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
