"""HTML for what people look at: a token marked in its context, thumbnails, tables of both, an error as a sentence.

Whatever comes from a data set or a user passes `plain` on its way into HTML: a text that holds ``<script>`` is shown
as those characters. The browser's sanitiser (Streamlit runs DOMPurify) is a second wall, not the first.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import pandas as pd

CONTEXT_BEFORE, CONTEXT_AFTER = 64, 40
"""Characters shown either side of a token: with the columns beside it a line of a 1,280 pixel window."""

LABEL_LENGTH = 24  # characters of a token in a pill or a table cell

_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")  # all ASCII punctuation: CommonMark lets each be escaped
_IMAGE_TYPES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))

STYLE = """
<style>
.pa { font-size: 0.875rem; line-height: 1.45; }
.pa code, .pa-mono { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.8125rem; }
.pa-muted { opacity: 0.65; }
.pa-context {
  font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.8125rem; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate;
}
.pa-context mark, .pa mark {
  color: inherit; font-weight: 600; padding: 0.05em 0.15em; border-radius: 0.2em; background: rgba(230, 159, 0, 0.32);
  box-shadow: inset 0 -2px 0 #e69f00;
}
.pa-sign { opacity: 0.45; font-weight: 400; }
.pa-scroll { overflow-x: auto; }
.pa table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 0; }
.pa th {
  text-align: left; font-weight: 600; font-size: 0.75rem; white-space: nowrap; padding: 0.3rem 0.7rem 0.3rem 0;
  border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 30%, transparent);
}
.pa td {
  padding: 0.4rem 0.7rem 0.4rem 0; vertical-align: top; border: 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 12%, transparent);
}
.pa th.pa-number, .pa td.pa-number { text-align: right; white-space: nowrap; }
.pa td.pa-wide { min-width: 20rem; width: 60%; }
.pa td.pa-key { white-space: nowrap; }
.pa-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.75rem, 1fr)); gap: 0.75rem; }
.pa-grid figure, figure.pa-one {
  margin: 0; padding: 0.5rem; border-radius: 0.5rem; border: 1px solid color-mix(in srgb, currentColor 15%, transparent);
}
figure.pa-one { width: 9rem; }
.pa figure img {
  width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 0.25rem; image-rendering: pixelated; display: block;
  background: color-mix(in srgb, currentColor 6%, transparent);
}
.pa figure .pa-blank {
  aspect-ratio: 1; display: grid; place-items: center; opacity: 0.6; border-radius: 0.25rem;
  background: color-mix(in srgb, currentColor 6%, transparent);
}
.pa figcaption { padding-top: 0.35rem; font-size: 0.75rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
.pa-facts { display: flex; flex-wrap: wrap; gap: 0.15rem 1.5rem; margin-top: 0.35rem; }
.pa-facts b { font-weight: 600; }
.pa-note { font-size: 0.8125rem; opacity: 0.75; margin: 0.15rem 0; }
.pa-error {
  padding: 0.75rem 1rem; border-radius: 0.5rem; border-left: 4px solid #d55e00; background: rgba(213, 94, 0, 0.12);
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.9rem;
}
.pa-error pre { margin: 0; padding: 0; background: none; white-space: pre-wrap; }
</style>
"""


# --- characters ------------------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """Any value as characters of HTML, in text and in attributes."""
    return html.escape(str(text), quote=True)


def visible(text: str) -> str:
    """A text as HTML on one line: newlines ⏎, tabs →, other control characters as their pictures (␀ to ␟)."""
    return "".join(_SIGNS.get(letter) or plain(letter) for letter in text)


def one_line(text: str, length: int = LABEL_LENGTH) -> str:
    """A text as plain characters on one line, cut to a length; a text of spaces alone shows them as ␣."""
    shown = "".join(_LETTERS.get(letter, letter) for letter in text)
    shown = "␣" * len(shown) if shown and not shown.strip() else shown
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def markdown(text: str) -> str:
    """A text as Markdown that shows just these characters, for the labels that Streamlit reads as Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


_LETTERS = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\n": "⏎", "\t": "→", "\x7f": "␡", "\r": "␍"}
_SIGNS = {letter: f'<span class="pa-sign">{sign}</span>' for letter, sign in _LETTERS.items()}


# --- pieces ----------------------------------------------------------------------------------------------------


def context(
    text: str | None,
    token: str | None,
    offset: float | None,
    before: int = CONTEXT_BEFORE,
    after: int = CONTEXT_AFTER,
) -> str:
    """A context with its token marked, cut to the characters around it."""
    if text is None or token is None or offset is None or pd.isna(offset):
        return '<span class="pa-muted">no context</span>'
    start, end = int(offset), int(offset) + len(token)
    first, last = max(0, start - before), min(len(text), end + after)
    left = ("…" if first else "") + visible(text[first:start])
    right = visible(text[end:last]) + ("…" if last < len(text) else "")
    return f'<span class="pa-context">{left}<mark>{visible(token) or "∅"}</mark>{right}</span>'


def marked_token(tokens: Sequence[str], chosen: int) -> str:
    """A whole text, given as its tokens, with one of them marked."""
    parts = [f"<mark>{visible(token)}</mark>" if i == chosen else visible(token) for i, token in enumerate(tokens)]
    return f'<span class="pa-context">{"".join(parts)}</span>'


def picture(data: bytes | bytearray | None) -> str | None:
    """The data URI of a PNG or JPEG; None for anything else, so that no other type ever reaches the browser."""
    found = next((kind for magic, kind in _IMAGE_TYPES if data and bytes(data).startswith(magic)), None)
    return f"data:image/{found};base64,{base64.b64encode(bytes(data)).decode()}" if data and found else None


def figure(data: bytes | bytearray | None, caption: str, alt: str = "", css: str = "") -> str:
    """A thumbnail with a caption, which is HTML already."""
    source = picture(data)
    shown = f'<img src="{source}" alt="{plain(alt)}">' if source else '<div class="pa-blank">no thumbnail</div>'
    return f'<figure class="{css}">{shown}<figcaption>{caption}</figcaption></figure>'


def link(page: str, words: str, **state: object) -> str:
    """A link to a page of the explorer in a certain state; parameters that are None are left out."""
    given = {name: value for name, value in state.items() if value is not None}
    return f'<a href="{plain(page)}?{plain(urlencode(given))}" target="_self">{plain(words)}</a>'


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
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.{digits}g}"


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
    return f'<div class="pa pa-scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def grid(figures: Iterable[str]) -> str:
    return f'<div class="pa pa-grid">{"".join(figures)}</div>'


def error(message: str) -> str:
    """An error's own sentence; what it puts in backquotes is set as code, the database's caret stays in its column."""
    shown = plain(message)
    if "\n" in message:
        return f'<div class="pa pa-error" role="alert"><pre class="pa-mono">{shown}</pre></div>'
    return f'<div class="pa pa-error" role="alert">{re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)}</div>'


def notes(lines: Iterable[str | None]) -> str:
    """Remarks under a table; those that are None are left out."""
    return '<div class="pa">' + "".join(f'<p class="pa-note">{plain(line)}</p>' for line in lines if line) + "</div>"
