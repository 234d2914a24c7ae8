"""Running a page without a browser, and reading what it shows."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, Element, Node

LASTING = 120.0
"""Seconds that a page may take on a busy machine."""


def opened(path: Path, page: str, /, **address: object) -> AppTest:
    """A page of the explorer whose address says this, once all on it is computed."""
    _parse_torch()
    app = AppTest.from_function(_draw, args=(str(path), page), default_timeout=LASTING)
    for name, value in address.items():
        app.query_params[name] = [str(each) for each in value] if isinstance(value, list) else str(value)
    return computed(app)


@cache
def _parse_torch() -> None:
    """Have torch parse its own code for derivatives now: before Python 3.11.8 that fails in a thread of its own,
    beside one that parses the text of a page."""
    torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _draw(path: str, page: str) -> None:
    """Streamlit runs the text of this function by itself."""
    from pathlib import Path

    import atlas
    from app.explorer import main
    from app.explorer.parts import about, pins, tray
    from app.explorer.view import explained

    places = {name: render for _, name, _, render in main.PAGES} | {name: render for _, name, render in main.OLD}
    render = (places | {"about": about.draw})[page]  # a part of Start, looked at without its figure
    pins.begin(page)
    with explained(), atlas.open(Path(path)) as a:
        view = main.choose(a, False)
        tray.draw(view)
        render(view)


def computed(app: AppTest) -> AppTest:
    """Run the page until nothing on it is being computed."""
    until = time.monotonic() + LASTING
    app.run()
    while any(button.label == "Stop" for button in app.button):
        assert time.monotonic() < until
        app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    """What can be read of all HTML on a page."""
    return "\n".join(_text(part.value) for part in app.html)


def errors(app: AppTest) -> list[str]:
    """The sentences of errors on a page."""
    return [_text(part.value) for part in app.html if "pa-error" in part.value]


def metrics(app: AppTest) -> list[str]:
    return [metric.value for metric in app.metric]


def figures(app: AppTest) -> list[dict[str, Any]]:
    """The figures of a page, as Plotly is given them."""
    parts = [part.proto for part in app.get("bidi_component") if part.proto.component_name == "polytope_figure"]
    return [json.loads(json.loads(part.json)["figure"]) for part in parts]


def ids(app: AppTest) -> list[int]:
    """Example ids of tables and of grids, in the order shown; not that of what a page is about."""
    chosen = [part.proto for part in app.get("bidi_component") if part.proto.component_name == "polytope_gallery"]
    if chosen:
        return [int(item["id"]) for part in chosen for item in json.loads(part.json)["items"]]
    links = r'<a href="look\?[^"]*"[^>]*>(\d+)</a>'
    shown = [part.value for part in app.html if "<table" in part.value or "pa-grid" in part.value]
    return [int(number) for each in shown for number in re.findall(links, each)]


def column(app: AppTest, number: int, table: int = 0) -> list[str]:
    """A column of a table, both told by their place: columns from 1 on, tables from 0, the last of them -1."""
    return [row[number - 1] for row in tables(app)[table]]


def press(app: AppTest, label: str) -> AppTest:
    """Click the only button of that label, and wait for what it leads to."""
    [button] = [button for button in app.button if button.label == label]
    button.click()
    return computed(app)


def tables(app: AppTest) -> list[list[list[str]]]:
    """The cells of every table, row by row."""
    return [
        [
            [_text(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", part.value.partition("<tbody>")[2], re.DOTALL)
        ]
        for part in app.html
        if "<tbody>" in part.value
    ]


def parts(node: Node) -> Iterator[Element]:
    """What is on a page or in a part of it, in order."""
    if isinstance(node, Block):
        for child in node.children.values():
            yield from parts(child)
    elif isinstance(node, Element):
        yield node


def scripts(app: AppTest, language: str) -> list[str]:
    """The code of a page in a language, to the letter."""
    return [code.value for code in app.code if code.language == language]


def _text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))
