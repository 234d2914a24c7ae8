"""The explorer under attack: hostile words on every page, files that are no pictures, two tabs, many page loads."""

from __future__ import annotations

import gc
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app.explorer.main import OLD, PAGES
from app.explorer.moved import Moved
from app.plain_text import SIGNS
from tests.app.cli.test_hostile_words import MARKUP, SITE, build
from tests.app.explorer.running import computed, errors, opened, words
from tests.atlases import built_once

pytestmark = pytest.mark.filterwarnings("ignore")

RAW_MARKDOWN = re.compile(r"(?<!\\):red\\?\[y|(?<!\\)\$x|(?<!\\)\[p\]")
"""What Streamlit would colour, set as a formula, or fetch as a picture."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of which text, key, label, site, network, data set and cluster bear such words."""
    return built_once(tmp_path_factory, "hostile.atlas", build)


def marked_up(app: AppTest) -> Iterator[str]:
    """All texts of a page that Streamlit reads as Markdown."""
    for kind in ("markdown", "caption", "title", "subheader", "info", "warning", "error", "success"):
        yield from (str(part.value) for part in app.get(kind) if hasattr(part, "value"))
    for kind in ("button", "checkbox", "radio", "toggle", "button_group", "download_button"):
        for part in app.get(kind):
            yield part.proto.label
            yield from map(str, getattr(part.proto, "options", ()))


HERE = [(page[1], page[-1]) for page in (*OLD, *PAGES) if not isinstance(page[-1], Moved)]
DRAWN = {render: path for path, render in HERE}
"""One address of each view."""


@pytest.mark.parametrize("page", DRAWN.values())
def test_hostile_words_are_words(page: str, hostile: Path):
    """No letter that hides, no tag and no Markdown of the data reaches a page as what it would do there."""
    app = opened(hostile, page, target=SITE)
    for part in app.html:
        assert ":red[y] <b>" not in part.value and not (SIGNS.keys() - {"\n"}) & set(part.value)
    assert [text for text in marked_up(app) if RAW_MARKDOWN.search(text)] == []


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


UPLOADS = {
    "no byte": (b"", "is empty"),
    "a text": (b"<svg onload=alert(1)>", "is no JPEG, PNG"),
    "half a picture": (encoded(Image.new("RGB", (60, 60), "red"), "JPEG")[:400], "does not decode"),
    "100 megapixels": (encoded(Image.new("1", (10_000, 10_000))), "has 10000 x 10000 pixels; at most 25,000,000"),
    "a picture of numbers": (encoded(Image.new("F", (4, 4)), "TIFF"), "has 32-bit pixels"),
    "an archive": (b"PK\x03\x04" + bytes(400), "is no JPEG, PNG"),
}


def test_uploads_of_no_use_are_refused(built: Path):
    """Each in a sentence that names the file, one after the other in one tab."""
    app = opened(built, "look", network="pixels", target="conv1")
    for name, (data, said) in UPLOADS.items():
        app.file_uploader[0].set_value((f"{name} {MARKUP}.png".replace("/", ""), data, "image/png"))
        [error] = errors(computed(app))
        assert said in error and name in error, error


def test_two_tabs_keep_their_own(built: Path):
    """However the runs of two tabs alternate, each shows what it does alone."""
    tabs = [opened(built, "look", network="words", example=example) for example in (20, 350)]
    alone = [words(tab) for tab in tabs]
    assert alone[0] != alone[1]
    for _ in range(2):
        assert [words(computed(tab)) for tab in tabs] == alone


def test_a_choice_that_a_filter_took_away(built: Path):
    """A cluster, label or place that is there no more is a sentence, and the page goes on."""
    app = opened(built, "look", network="words", target="blocks.3.mlp", example=20, label="fruit", k=10)
    assert errors(app) == []
    for name, value in (
        ("label", "rust"),
        ("cluster", "99"),
        ("target", "conv1"),
        ("k", "100000"),
        ("example", "9999"),
    ):
        app.query_params[name] = value
        computed(app)
    for name in ("label", "cluster", "target", "k"):
        del app.query_params[name]
    app.query_params["example"] = "20"
    assert errors(computed(app)) == []


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def grown(path: Path) -> int:
    """Bytes by which memory grows over six page loads."""
    before = resident()
    for page in ("start", "sql", "look") * 2:
        opened(path, page)
    return resident() - before


def test_page_loads_leave_memory_flat(built: Path):
    """What is filled once, or grows with a thread, does so in one round of four; what each load leaves, in all."""
    assert any(grown(built) < 12e6 for _ in range(4))
