"""The report as one HTML page that needs no connection: verdicts first, then every claim with figure and numbers."""

from __future__ import annotations

import html
import traceback
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from atlas import Atlas
from atlas.errors import NotStored
from atlas.store.catalog import NetworkRecord

from .claims import Claim
from .report import Block, cluster_table, command, failed

SYMBOLS = {"supported": "✓", "not supported": "✗", "undecided": "?", "not measured": "–", "failed": "!", "shown": "·"}
"""A verdict has a sign besides its colour, so that it reads without colour vision."""

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 2px solid #222; } h3 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: 14px; margin: 0.5rem 0; }
td, th { text-align: left; padding: 0.2rem 0.9rem 0.2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.verdict { display: inline-block; padding: 0 0.5rem; border: 2px solid; font-weight: 600; white-space: nowrap; }
.supported { color: #0072b2; } .not-supported { color: #b34700; border-style: dashed; }
.undecided { color: #555; border-style: dotted; } .not-measured, .failed, .shown { color: #777; border-color: #bbb; }
.rule, .notes, .why { color: #555; font-size: 14px; }
pre { background: #f2f2f2; padding: 0.5rem; overflow-x: auto; font-size: 13px; }
details { margin: 0.5rem 0; } .network { margin: 1.5rem 0 0.5rem; font-weight: 600; } a { color: #0072b2; }
"""


def page(atlas: Atlas, networks: Sequence[NetworkRecord], blocks: Sequence[Block]) -> str:
    """The whole page: the facts, every claim on every network, and the largest clusters (Appendix E)."""
    title, path = f"The polytope lens on {PurePath(atlas.address).name}", atlas.address
    facts = [f"{record.name}: {record.architecture}, weights {record.weights_digest[:12]}" for record in networks]
    cluster_tables: dict[str, tuple[str, pd.DataFrame]] = {}
    for record in networks:
        try:
            cluster_tables[record.name] = cluster_table(atlas, record)
        except NotStored as error:
            facts.append(f"Appendix E: {error}")
        except Exception as error:  # as of a figure
            facts.append(f"Appendix E: {failed(error)}")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{_text(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(fact)}</p>" for fact in facts),
        _overview(blocks),
    ]
    shown: set[int] = set()
    for part, members in groupby(blocks, key=lambda block: block.claim.part):
        parts.append(f"<h2>{_text(part)}</h2>")
        for claim, of_claim in groupby(members, key=lambda block: block.claim):
            parts.append(_section(claim, list(of_claim), path, shown))
    parts.append(_appendix(cluster_tables))
    parts.append("</body></html>")
    return "\n".join(parts)


def _overview(blocks: Sequence[Block]) -> str:
    """Every claim with its verdict on every network."""
    names = list(dict.fromkeys((block.network.name, block.kind) for block in blocks))
    head = "".join(f"<th>{_text(name)}<br><small>{_text(kind)}</small></th>" for name, kind in names)
    rows = []
    for claim, members in groupby(blocks, key=lambda block: block.claim):
        words = {block.network.name: block.word for block in members}
        cells = "".join(f"<td>{_badge(words[name]) if name in words else ''}</td>" for name, _ in names)
        rows.append(f"<tr><td><a href='#{claim.key}'>{_text(claim.sentence)}</a></td>{cells}</tr>")
    return f"<h2>Verdicts</h2><table><tr><th>Claim</th>{head}</tr>{''.join(rows)}</table>"


def _section(claim: Claim, blocks: Sequence[Block], atlas: str, shown: set[int]) -> str:
    parts = [f"<h3 id='{claim.key}'>{_text(claim.sentence)}</h3>"]
    if claim.rule:
        parts.append(f"<p class='rule'>Rule. {_text(claim.rule)}</p>")
    for block in blocks:
        parts.append(
            f"<p class='network'>{_text(block.network.name)} ({_text(block.kind)}): {_badge(block.word)}</p>"
        )
        if block.result is None:
            parts.append(f"<p class='why'>{_text(block.reason)}</p>")
            if block.failure is not None:
                parts.append(_trace(block.failure))
            continue
        if block.verdict is not None:
            parts.append(f"<p>{_text(block.verdict.because)}</p>")
        parts.append(_figure(block, shown))
        if block.numbers is not None:
            parts.append(numbers_table(block.numbers))
        parts.append(_repeat(block, atlas))
    return "\n".join(parts)


def _figure(block: Block, shown: set[int]) -> str:
    """The figure, once; a section that another measurement of the same result decides refers to it."""
    assert block.result is not None
    key = block.experiment_id if block.experiment_id is not None else id(block.result)
    if key in shown:
        return f"<p class='why'>The figure of this measurement stands above: <a href='#figure-{key}'>look</a>.</p>"
    shown.add(key)
    try:
        figure = block.result.figure().to_html(
            full_html=False, include_plotlyjs=False, config={"responsive": True}, div_id=f"plot-{key}"
        )
    except Exception as error:  # a mistake of ours: it is told, and the numbers stand
        figure = f"<p class='why'>No figure: {_text(failed(error))}</p>{_trace(error)}"
    return f"<div id='figure-{key}'>{figure}</div>"


def _trace(error: Exception) -> str:
    """All that is known of a failure, for whoever mends it."""
    trace = "".join(traceback.format_exception(error))
    return f"<details><summary>For a report of this mistake</summary><pre>{_text(trace)}</pre></details>"


def numbers_table(numbers: pd.DataFrame) -> str:
    """what, value [low, high], n; a row a number."""
    rows = "".join(
        f"<tr><td>{_text(row['what'])}</td><td class='number'>{_number(row['value'])}</td>"
        f"<td class='number'>{_ends(row['low'], row['high'])}</td><td class='number'>{_count(row['n'])}</td></tr>"
        for row in numbers.to_dict("records")
    )
    head = "<tr><th>Number</th><th>Value</th><th>Interval</th><th>n</th></tr>"
    return f"<details open><summary>Numbers</summary><table>{head}{rows}</table></details>"


def _repeat(block: Block, atlas: str) -> str:
    """The notes, and the command that measures this again."""
    assert block.result is not None
    notes = "".join(f"<li>{_text(note)}</li>" for note in block.result.notes)
    return (
        f"<details><summary>How it was measured</summary><ul class='notes'>{notes}</ul>"
        f"<pre>{_text(command(block.result.kind, block.result.options, block.network.name, atlas))}</pre></details>"
    )


def _appendix(tables: Mapping[str, tuple[str, pd.DataFrame]]) -> str:
    parts = ["<h2>Appendix E: examples of clusters</h2>"]
    for network, (title, table) in tables.items():
        rows = "".join(
            f"<tr><td class='number'>{row['label']}</td><td class='number'>{row['size']:,}</td>"
            f"<td class='number'>{_number(row['purity'])}</td><td>{_text(row['top_label'])}</td>"
            f"<td>{'<br>'.join(_text(sample) for sample in row['samples'])}</td></tr>"
            for row in table.to_dict("records")
        )
        head = "<tr><th>Cluster</th><th>Members</th><th>Purity</th><th>Label</th><th>Strongest members</th></tr>"
        parts.append(f"<p class='network'>{_text(network)}, {_text(title)}</p><table>{head}{rows}</table>")
    return "\n".join(parts) if tables else ""


def _badge(word: str) -> str:
    return f"<span class='verdict {word.replace(' ', '-')}'>{SYMBOLS[word]} {word}</span>"


def _number(value: Any) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _ends(low: Any, high: Any) -> str:
    return "–" if pd.isna(low) or pd.isna(high) else f"[{_number(low)}, {_number(high)}]"


def _count(n: Any) -> str:
    return _text(n) if isinstance(n, str) else f"{int(n):,}"


def _text(words: object) -> str:
    return html.escape(str(words))
