"""Running a page without a browser, and reading what it shows."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, Element, Node

LASTING = 120.0
"""Seconds that a page may take on a busy machine."""


def opened(path: Path, page: str, /, **address: object) -> AppTest:
    """A page of the explorer whose address says this, once all on it is computed."""
    app = AppTest.from_function(_draw, args=(str(path), page), default_timeout=LASTING)
    for name, value in address.items():
        app.query_params[name] = str(value)
    return computed(app)


def _draw(path: str, page: str) -> None:
    """Streamlit runs the text of this function by itself."""
    from pathlib import Path

    from app.explorer import main
    from app.explorer.access import reading

    [render] = [render for _, name, _, render in main.PAGES if name == page]
    with reading(Path(path)) as a:
        render(main.choose(a, False))


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
