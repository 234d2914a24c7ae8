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

from .plain_text import SIGNS, one_line

CONTEXT_BEFORE, CONTEXT_AFTER = 64, 40
"""Characters shown either side of a token: with the columns beside it a line of a 1,280 pixel window."""

LINES_BEFORE, LINES_AFTER = 5, 2  # shown of a passage, the token's own line counted on both sides

NO_CONTEXT = '<span class="pa-muted">no context</span>'

_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")  # all ASCII punctuation: CommonMark lets each be escaped
_ARROWS = re.compile("([-<>=~])")
_RUNS = re.compile(" {2,}")
_IMAGE_TYPES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))

STYLE = """
<style>
[data-testid="stMainBlockContainer"] { padding: 2.75rem 2.5rem 4rem; }
[data-testid="stApp"]:has([data-testid="stExpandSidebarButton"]) [data-testid="stMainBlockContainer"] {
  padding-top: 4.25rem;
}
@media (max-width: 48rem) { [data-testid="stMainBlockContainer"] { padding: 4.25rem 1.25rem 4rem; } }
:is(a, button, summary, [role="tab"], [role="radio"], [role="slider"], .pa-scroll):focus-visible {
  outline: 2px solid light-dark(#0072b2, #56b4e9) !important; outline-offset: 2px;
}
[data-testid="stMain"]:focus-visible { outline: 2px solid light-dark(#0072b2, #56b4e9); outline-offset: -2px; }
[data-testid="stMainBlockContainer"] h1 { font-size: 1.9rem; padding: 0 0 0.5rem; }
[data-testid="stMainBlockContainer"] h3 { font-size: 1.2rem; padding: 0.75rem 0 0.25rem; }
.st-key-query textarea { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.8125rem; }
.stHorizontalBlock[class*="st-key-take-"] { gap: 0.75rem; }
[class*="st-key-take-"] button[kind="tertiary"] {
  min-height: 0; padding: 0; border: 0; line-height: 1; opacity: 0.65;
}
[class*="st-key-take-"] button[kind="tertiary"] p { font-size: 0.75rem; line-height: 1.6; }
[class*="st-key-take-"] button[kind="tertiary"]:is(:hover, :focus-visible) { opacity: 1; }
.stHorizontalBlock.st-key-counts { display: grid; grid-template-columns: repeat(4, 1fr); }
@media (max-width: 64rem) { .stHorizontalBlock.st-key-counts { grid-template-columns: repeat(2, 1fr); } }
.pa { font-size: 0.875rem; line-height: 1.45; }
.pa h4 { font-size: 1rem; padding: 0.6rem 0 0; margin: 0; }
.pa code, .pa-mono, .pa td.pa-code { font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.8125rem; }
.pa-muted { opacity: 0.65; }
.pa a { color: light-dark(#0072b2, #56b4e9); text-decoration: none; }
.pa a:hover { text-decoration: underline; }
.pa-passage {
  padding: 0.6rem 0.8rem; border-radius: 0.5rem;
  border: 1px solid color-mix(in srgb, currentColor 15%, transparent);
}
.pa-context {
  font-family: "Source Code Pro", ui-monospace, monospace; font-size: 0.8125rem; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate;
}
.pa-context mark, .pa mark {
  color: inherit; font-weight: 600; padding: 0.05em 0.15em; border-radius: 0.2em; background: rgba(230, 159, 0, 0.32);
  box-shadow: inset 0 -2px 0 #e69f00;
}
.pa td.pa-small { font-size: 0.75rem; }
.pa-sign { opacity: 0.45; font-weight: 400; }
.pa-scroll {
  --ground: light-dark(#fff, #171614); --shade: light-dark(rgba(0, 0, 0, 0.22), rgba(255, 255, 255, 0.28));
  overflow-x: auto; background:
    linear-gradient(to right, var(--ground) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--ground) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 0.75rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 0.75rem 100% no-repeat scroll;
}
.pa table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 0; }
.pa th {
  text-align: left; font-weight: 600; font-size: 0.75rem; white-space: nowrap; padding: 0.3rem 1.1rem 0.3rem 0;
  border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 30%, transparent);
}
.pa td {
  padding: 0.4rem 1.1rem 0.4rem 0; vertical-align: top; border: 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 12%, transparent);
}
.pa th.pa-number, .pa td.pa-number { text-align: right; white-space: nowrap; }
.pa td.pa-wide { min-width: 20rem; width: 60%; }
.pa td.pa-key { white-space: nowrap; }
.pa td.pa-gates { min-width: 9rem; max-width: 16rem; }
.pa-thumb { image-rendering: pixelated; vertical-align: middle; border-radius: 0.2rem; }
.pa-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.75rem, 1fr)); gap: 0.75rem; }
.pa figure {
  margin: 0; padding: 0.5rem; border-radius: 0.5rem;
  border: 1px solid color-mix(in srgb, currentColor 15%, transparent);
}
.pa figure img {
  width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 0.25rem; image-rendering: pixelated;
  display: block;   background: color-mix(in srgb, currentColor 6%, transparent);
}
.pa figure .pa-blank {
  aspect-ratio: 1; display: grid; place-items: center; opacity: 0.6; border-radius: 0.25rem;
  background: color-mix(in srgb, currentColor 6%, transparent);
}
.pa figcaption { padding-top: 0.35rem; font-size: 0.75rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
.pa figure.pa-one { max-width: 12rem; }
.pa-facts { display: flex; flex-wrap: wrap; gap: 0.15rem 1.5rem; margin-top: 0.35rem; }
.pa-facts b { font-weight: 600; }
.pa-beside { opacity: 0.75; padding-bottom: 0.5rem; }
.pa ol.pa-path { display: flex; flex-wrap: wrap; gap: 0.4rem 0; list-style: none; margin: 0; padding: 0; }
.pa ol.pa-path li {
  flex: 0 1 8.5rem; min-width: 6.5rem; padding: 0.35rem 0.9rem 0.35rem 0.6rem; margin: 0; font-size: 0.8125rem;
  line-height: 1.35; overflow-wrap: anywhere;
  border-left: 3px solid color-mix(in srgb, currentColor 25%, transparent);
}
.pa ol.pa-path li.pa-here { border-left-color: #e69f00; background: rgba(230, 159, 0, 0.12); }
.pa-path small { display: block; font-size: 0.75rem; opacity: 0.75; }
.pa-bar {
  height: 4px; border-radius: 2px; margin: 0.15rem 0; background: color-mix(in srgb, currentColor 14%, transparent);
}
.pa-bar i { display: block; height: 100%; border-radius: 2px; background: light-dark(#0072b2, #56b4e9); }
.pa-written { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 46rem; unicode-bidi: isolate; }
.pa-name { font-weight: 600; unicode-bidi: isolate; }
.pa-strip { display: flex; gap: 3px; overflow-x: auto; padding: 2px; }
.pa-strip a {
  min-width: 4.85rem; padding: 0.45rem 0.4rem; border-radius: 0.35rem; font-size: 0.75rem; line-height: 1.35;
  background: color-mix(in srgb, #0072b2 calc(var(--share) * 55%), transparent); overflow-wrap: anywhere;
  border: 1px solid color-mix(in srgb, currentColor 25%, transparent);
}
.pa .pa-strip a { color: inherit; }
.pa-strip a.pa-here { outline: 2px solid #e69f00; }
.pa-strip b, .pa-strip small { display: block; }
.pa-strip b { font-size: 0.68rem; }
.pa-strip small { font-size: 0.7rem; opacity: 0.8; }
.pa-note { font-size: 0.8125rem; opacity: 0.75; margin: 0.15rem 0; }
[data-testid="stHorizontalBlock"] > :has(> [class*="st-key-asked-"]) { flex: 1 0 100%; }
.pa-code { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: 0.5rem; }
.pa-code summary { cursor: pointer; padding: 0.5rem 0.9rem; font-size: 0.875rem; border-radius: inherit; }
.pa-code summary:hover { background: color-mix(in srgb, currentColor 5%, transparent); }
.pa-code summary:focus-visible { outline: 2px solid light-dark(#0072b2, #56b4e9); }
.pa-code p { margin: 0 0.9rem 0.6rem; font-size: 0.875rem; }
.pa-script { position: relative; margin: 0 0.6rem 0.6rem; }
.pa-script pre {
  margin: 0; padding: 0.7rem 4rem 0.7rem 0.9rem; border-radius: 0.4rem; font-size: 0.8125rem; line-height: 1.5;
  white-space: pre-wrap; overflow-wrap: anywhere; color: inherit;
  background: color-mix(in srgb, currentColor 5%, transparent);
}
.pa-script code { padding: 0; background: none; color: inherit; font-size: inherit; }
.pa-script button {
  all: unset; position: absolute; top: 0.6rem; right: 0.8rem; cursor: pointer; font-size: 0.75rem; opacity: 0.65;
}
.pa-script button:hover { opacity: 1; text-decoration: underline; }
.pa-script button:focus-visible { opacity: 1; outline: 2px solid light-dark(#0072b2, #56b4e9); outline-offset: 2px; }
.pa-script :is(.k, .kn, .kc, .ow, .nb) { color: light-dark(#005a8f, #7cc4f2); }
.pa-script :is(.s, .s1, .s2, .sa) { color: light-dark(#00684c, #5fd3ad); }
.pa-script :is(.mi, .mf) { color: light-dark(#9a4a00, #f0a860); }
.pa-script :is(.c, .c1) { opacity: 0.65; }
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


def visible(text: str, breaks: bool = False) -> str:
    """A text as HTML: newlines ⏎ (with ``breaks`` also ended there), tabs →, other control characters as ␀ to ␟; what
    has no width as its name."""
    shown = "".join(_MARKED_SIGNS.get(letter) or plain(letter) for letter in text)
    return shown.replace(_MARKED_SIGNS["\n"], _MARKED_SIGNS["\n"] + "<br>") if breaks else shown


def markdown(text: str) -> str:
    """A text as Markdown that shows just these characters, for the labels that Streamlit reads as Markdown.

    Streamlit also draws ``->`` and the like as arrows; an invisible word joiner between the two keeps them apart.
    """
    return _MARKDOWN.sub(r"\\\1", _ARROWS.sub("\\1\u2060", text))


_MARKED_SIGNS = {letter: f'<span class="pa-sign">{sign}</span>' for letter, sign in SIGNS.items()}


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
    return f"<mark>{visible(token) or '∅'}</mark>"


def thumb(data: bytes | bytearray | None, height: int, alt: str = "") -> str:
    """A small picture in a line of text, so many pixels high; – where there is none to show."""
    source = picture(data)
    return f'<img src="{source}" alt="{plain(alt)}" height="{height}" class="pa-thumb">' if source else "–"


def marked_token(tokens: Sequence[str], chosen: int) -> str:
    """A whole text, given as its tokens, with one of them marked."""
    parts = [_mark(token) if i == chosen else visible(token) for i, token in enumerate(tokens)]
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


def link(page: str, words: str, /, **state: object) -> str:
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
    if not isinstance(value, float):
        return f"{value:,}"
    shown = f"{value:#.{digits}g}"  # with the zeros that say how exact it is
    return shown.rstrip(".") if "e" not in shown else f"{value:.{digits}g}"


def sentence(note: str) -> str:
    """A remark with a capital and a full stop."""
    return f"{note[0].upper()}{note[1:]}{'' if note.endswith(('.', '!', '?', ':')) else '.'}" if note else note


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
