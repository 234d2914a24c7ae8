"""The search page: what it shows is what the query layer answers."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_digits

import atlas
import query
from app.explorer.views.search import LINK_LIMIT
from atlas.network import Network
from ingest.datasets.images import decode_image
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices
from ingest.run.run import ingest
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    cells,
    eventually,
    ids,
    no_error,
    photograph,
    says,
)
from tests.app.explorer.running import computed, opened, words

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


NEAREST = -1
"""The place of the table of nearest polytopes: the last."""


def test_search_from_an_example_shows_the_rows_of_the_query(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        example = a.value("select max(example_id) from examples where network_id = 2") - 3
        found = query.nearest(a, example=example, site=SITE, network=TEXT, k=7)
        where = query.membership(a, example=example, site=SITE, network=TEXT)
        assert found["distance"].min() > 0
    page = open_page(address(server, "search", network=TEXT, target=SITE, example=example, k=7))
    answered(page)
    no_error(page)
    eventually(page, lambda: cells(page, 2, NEAREST), [f"{distance:,}" for distance in found["distance"]])
    eventually(page, lambda: ids(page), found["example_id"].tolist())
    marks = page.locator(".pa table mark")
    tokens = [token.strip() for token in found["token"]]
    eventually(page, lambda: [words.replace("⏎", "\n").strip() for words in marks.all_inner_texts()], tokens)
    lies = "lies in no cluster" if where.cluster < 0 else f"lies in cluster {where.cluster} of clustering"
    says(page, found.attrs["exact_note"][1:], "In the same polytope: 0", lies)

    page.get_by_text("Code for this").click()
    code = page.locator("code.language-sql")
    expect(code).to_contain_text("limit 7")
    sql = code.inner_text()
    with atlas.open(demo_atlas) as a:
        assert query.sql(a, sql)["example_id"].tolist() == found["example_id"].tolist()
    page.get_by_label("Nearest").fill("4")
    page.get_by_label("Nearest").press("Enter")
    expect(page.locator(".pa table tbody tr")).to_have_count(4)
    address_says(page, k=4)
    again = open_page(page.url)
    answered(again)
    address_says(again, k=4)
    eventually(again, lambda: ids(again), found["example_id"].tolist()[:4])


def test_filters_are_part_of_the_search(server: str, open_page: OpenPage, demo_atlas: Path):
    wanted = {"label": "3", "where": "loss < 1"}
    with atlas.open(demo_atlas) as a:
        found = query.nearest(a, example=5, site=FULL_SITE, network=IMAGE, k=3, radius=300, **wanted)
    state = {"network": IMAGE, "target": FULL_SITE, "example": 5, "k": 3, "radius": 300}
    page = open_page(address(server, "search", **state, **wanted))
    answered(page)
    no_error(page)
    eventually(page, lambda: ids(page), found["example_id"].tolist())
    expect(page.get_by_text(f"of {found.attrs['n_searched']:,} of 100 codes")).to_be_visible()
    photograph(page, "search-images")

    page.get_by_role("textbox", name="Where (SQL)").fill("nonsense = 1")
    page.get_by_role("textbox", name="Where (SQL)").press("Enter")
    expect(page.locator(".pa-error")).to_contain_text("where is 'nonsense = 1'")
    answered(page)
    page.get_by_role("textbox", name="Where (SQL)").fill("")
    page.get_by_role("textbox", name="Where (SQL)").press("Enter")
    expect(page.locator(".pa-error")).to_have_count(0)
    address_says(page, where=None)
    nobody = open_page(address(server, "search", **state, label="no such label"))
    expect(nobody.locator(".pa-error")).to_contain_text("has label 'no such label'")


def test_who_shares_the_polytope_is_told_from_who_lies_near(server: str, open_page: OpenPage, demo_atlas: Path):
    """Of the fullest polytope, which holds more than are asked for."""
    with atlas.open(demo_atlas) as a:
        example, n, network, site = a.rows(
            "select first_example, occupancy, network, site from polytopes order by occupancy desc, 1 limit 1"
        )[0]
        found = query.nearest(a, example=example, site=site, network=network, k=n - 1 + 4)
    assert n - 1 > 4 and (found["distance"] > 0).sum() == 4
    page = open_page(address(server, "search", network=network, target=site, example=example, k=4))
    answered(page)
    expect(page.get_by_text(f"In the same polytope: {n - 1:,}")).to_be_visible()
    same, outside = (found[found["distance"] == 0], found[found["distance"] > 0])
    eventually(page, lambda: ids(page), [*same["example_id"][:24], *outside["example_id"]])
    photograph(page, "search-same")


def test_search_over_a_typed_span(server: str, open_page: OpenPage, demo_atlas: Path):
    span = "blocks.0.mlp->blocks.2.mlp"
    with atlas.open(demo_atlas) as a:
        example = a.value("select min(example_id) from examples where network_id = 2")
        found = query.nearest(a, example=example, span=span, network=TEXT)
    page = open_page(address(server, "search", network=TEXT))
    answered(page)
    field = page.get_by_test_id("stSidebar").get_by_role("combobox").last
    field.fill(span)
    field.press("Enter")
    expect(page.get_by_text("searched: all codes, block by block")).to_be_visible()
    eventually(page, lambda: ids(page), found["example_id"].tolist())


def test_search_from_a_pasted_text(server: str, open_page: OpenPage, demo_atlas: Path, networks: dict[str, Network]):
    text = "import asyncio\n\nasync def main() -> None:\n    await"
    reader = networks["demo:gpt2"]
    n_tokens = len(reader.tokenize(text).ids)
    page = open_page(address(server, "search", network=TEXT, target=SITE, by="Text"))
    answered(page)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Text", exact=True).press("Control+Enter")
    pills = page.get_by_test_id("stButtonGroup").last.get_by_role("radio")
    expect(pills).to_have_count(n_tokens, timeout=COMPUTING)
    for token in (-1, 0):
        with atlas.open(demo_atlas) as a:
            asked = {"text": text, "token": token, "site": SITE, "network": TEXT, "reader": reader}
            found, where = query.nearest(a, **asked), query.membership(a, **asked)
        answered(page)
        pills.nth(token).click()
        named = page.locator(".pa", has_text=found.attrs["subject"][1:]).first
        expect(named).to_be_visible(timeout=COMPUTING)  # to place it loads hdbscan
        answered(page)
        eventually(page, lambda: ids(page), found["example_id"].tolist())
        densities = [f"{density:#.4g}" for density in found["density"][found["distance"] > 0]]
        eventually(page, lambda: cells(page, 3, NEAREST), densities)
        lies = "would lie in no cluster" if where.cluster < 0 else f"would lie in cluster {where.cluster} "
        expect(page.locator(".pa", has_text=lies).first).to_be_visible()
    no_error(page)
    photograph(page, "search-text")

    address_says(page, text=text, token=0)
    again = open_page(page.url)
    answered(again)
    expect(again.get_by_label("Text", exact=True)).to_have_value(text)
    eventually(again, lambda: ids(again), found["example_id"].tolist())
    again.get_by_label("Text", exact=True).fill("x = 1\n" * (1 + LINK_LIMIT // 6))
    again.get_by_label("Text", exact=True).press("Control+Enter")
    expect(again.get_by_text("too long for a link")).to_be_visible()
    address_says(again, text=None)


def test_a_token_that_is_not_seen_is_shown_by_a_sign(server: str, open_page: OpenPage):
    page = open_page(address(server, "search", network=TEXT, target=SITE, by="Text", text="a\u202eb   ", token=4))
    says_what = page.get_by_text("Token 4 ('␣␣␣') of the text")
    expect(says_what).to_be_visible(timeout=COMPUTING)
    pills = page.get_by_test_id("stButtonGroup").last.get_by_role("radio")
    expect(pills).to_have_text(["a", "‹RLO›", "‹RLO›", "b", "␣␣␣"])  # two tokens have each a part of its bytes
    answered(page)
    no_error(page)


def digit(place: int) -> bytes:
    """One of scikit-learn's digits as a file."""
    encoded = io.BytesIO()
    Image.fromarray((load_digits().images[place] * 255 / 16).astype("uint8")).save(encoded, "PNG")
    return encoded.getvalue()


def test_search_from_an_uploaded_digit(
    server: str, open_page: OpenPage, demo_atlas: Path, networks: dict[str, Network]
):
    data = digit(3)
    with atlas.open(demo_atlas) as a:
        image, reader = decode_image(data), networks["demo:inceptionv1"]
        found = query.nearest(a, image=image, site=FULL_SITE, network=IMAGE, reader=reader)
    page = open_page(address(server, "search", network=IMAGE, target=FULL_SITE, by="Image"))
    answered(page)
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "<b>three</b>.png", "mimeType": "image/png", "buffer": data})
    expect(page.locator(".pa-grid figure")).to_have_count(len(found), timeout=COMPUTING)
    answered(page)
    eventually(page, lambda: ids(page), found["example_id"].tolist())
    expect(page.locator("figcaption", has_text="<b>three</b>.png")).to_be_visible()
    photograph(page, "search-upload")

    upload.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG no more"})
    expect(page.locator(".pa-error")).to_contain_text("broken.png is no JPEG, PNG")
    answered(page)
    huge = io.BytesIO()
    Image.new("1", (6000, 6000)).save(huge, "PNG")  # 5 kB that unpack to 36 million pixels
    upload.set_input_files({"name": "huge.png", "mimeType": "image/png", "buffer": huge.getvalue()})
    expect(page.locator(".pa-error")).to_contain_text("huge.png has 6000 x 6000 pixels; at most 25,000,000")


def test_an_uploaded_file_that_is_stored_says_as_which_example(networks: dict[str, Network], tmp_path: Path):
    """And that example has its code; the same pixels in another file are not known."""
    path, folder = tmp_path / "files.atlas", tmp_path / "files"
    folder.mkdir()
    for place in (3, 4, 5):
        (folder / f"{place}.png").write_bytes(digit(place))
    files = open_dataset(str(folder), kind="image")
    ingest(path, networks["demo:inceptionv1"], files, Choices(sites=("inception5b",)), cluster=False)
    with atlas.open(path) as a:
        of_file = "select example_id from examples join dataset_inputs using (input_id) where key = '4.png'"
        example = a.value(of_file)
    app = opened(path, "search", network=IMAGE, by="Image")
    for data, known in ((digit(4), True), (digit(4) + b"\0", False)):
        app.file_uploader[0].set_value(("<b>four</b>.png", data, "image/png"))
        computed(app)
        assert "<b>four</b>.png" in words(app)
        assert (f"stored as example {example}" in words(app)) == known == ("stored as" in words(app))
        shared, _ = (part.value for part in app.html if "pa-grid" in part.value)
        assert re.findall(r"example=(\d+)", shared) == [str(example)]
