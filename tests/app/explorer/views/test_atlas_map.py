"""The Atlas: a map and its clusters, one selection for both, and its address and its SQL say which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.point_map import in_words
from app.explorer.views.atlas_map import simplified
from query.layout.layouts import layout_of
from query.layout.regions import MOST_CORNERS, Region
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    no_error,
    standing,
    state,
)
from tests.app.explorer.running import errors, ids, opened, press, scripts, words

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"


def shown(app: AppTest) -> dict:
    """What the map is told, its points apart."""
    [drawn] = [part.proto for part in app.get("bidi_component") if part.proto.component_name == "polytope_map"]
    return json.loads(drawn.json)


@pytest.mark.parametrize("lasso", [False, True])
def test_a_region_lists_who_lies_in_it(demo_atlas: Path, lasso: bool):
    with atlas.open(demo_atlas) as a:
        number = layout_of(a, a.catalog.target(site=IMAGE_SITE)).layout_id
        points = query.layout_points(a, number)
        (x0, x1), (y0, y1) = (points[axis].quantile([0.1, 0.8]) for axis in ("x", "y"))
        corners = (x0, y0, x1, y1, x0, y1) if lasso else (x0, y0, x1, y1)
        region = Region.of(corners)
        found = query.layout_examples(a, number, region, limit=36)
    assert 0 < found.attrs["size"] < len(points)
    app = opened(demo_atlas, "atlas", network=IMAGE, target=IMAGE_SITE, within=str(region))
    kind = "polygon of 3 corners" if lasso else "box"
    assert errors(app) == []
    assert app.header[-1].value == f"{found.attrs['size']:,} of {len(points):,} examples in this {kind}"
    assert ids(app) == found["example_id"].tolist()
    with atlas.open(demo_atlas) as a:  # the query that stands beside the map, as it stands there
        [beside] = scripts(app, "plaintext")
        assert len(query.sql(a, beside)) == found.attrs["size"]
    assert shown(app)["outline"] == [list(corner) for corner in region.corners]
    press(app, "Clear the region")
    assert shown(app)["outline"] == [] and "within" not in app.query_params


def test_one_selection_for_map_and_list(demo_atlas: Path):
    """The cluster of the address is chosen in the list and stands out on the map, by its name."""
    with atlas.open(demo_atlas) as a:
        named = query.made_names(a, site=SITE, network=TEXT).set_index("cluster")
        members = query.members(a, site=SITE, network=TEXT, cluster=1, limit=8)["example_id"].tolist()
    app = opened(demo_atlas, "atlas", network=TEXT, target=SITE, cluster=1)
    told = shown(app)
    assert errors(app) == [] and len(told["kinds"]) == 1 + len(named)
    assert told["kinds"][told["chosen"]]["name"] == app.selectbox(key="cluster").value
    assert app.selectbox(key="cluster").value.endswith(" #1")
    brief = "".join(part.value for part in app.html if "pa-brief" in part.value)
    assert all(f"example={member}&amp;" in brief for member in members)
    whole = shown(opened(demo_atlas, "atlas", network=TEXT, target=SITE))
    assert whole["chosen"] is None and whole["points"] == told["points"]  # which the browser has already


def test_a_site_without_a_map_says_how(demo_atlas: Path):
    """A site without a map says how to make one, and lists its clusters all the same."""
    app = opened(demo_atlas, "atlas", network=TEXT, target="blocks.1.mlp")
    assert errors(app) == [] and len(app.dataframe) == 1
    assert scripts(app, "sh")[0] == f"polytope layout {demo_atlas} --site blocks.1.mlp --network {TEXT}"
    assert f"{SITE} (codes)" in words(app)


def test_a_bad_region_is_a_sentence(demo_atlas: Path):
    """A region that is none is a sentence beside the map."""
    app = opened(demo_atlas, "atlas", network=TEXT, target=SITE, within="1,2,<b>", colour="distance", layout=99)
    layout, region = errors(app)
    assert layout.startswith("the address asks for layout 99; expected ")
    assert region == "a region of a map is numbers with commas between them, got '1,2,<b>'"
    assert shown(app)["chosen"] is None


def test_an_outline_keeps_few_corners():
    """A drawn outline keeps few of its corners."""
    outline = [(float(i), float(i % 7)) for i in range(500)]
    kept = simplified(outline)
    assert 3 <= len(kept) <= MOST_CORNERS and set(kept) <= set(outline)
    assert simplified(outline[:4]) == outline[:4]


@pytest.mark.parametrize("network", [TEXT, IMAGE])
def test_the_pointer_is_told_of_an_example(demo_atlas: Path, network: str):
    """Its token in its context, or its picture."""
    with atlas.open(demo_atlas) as a:
        record = a.catalog.network(network)
        example = a.value("select min(example_id) from examples where network_id = $1", [record.network_id])
        told = in_words(a, record, example)
        token = a.value("select token from examples where example_id = $1", [example])
    assert told["example"] == example and f"example {example}" in told["words"]
    assert told["picture"].startswith("data:image/") if token is None else token.strip() in told["token"]


class TestInABrowser:
    pytestmark = IN_BROWSER
    NAMES = "() => document.querySelector('.pa-map').map.names.map(({ words, x, y }) => [words, x, y])"
    DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    """Names stand elsewhere once the next frame is painted."""
    VIEW = "() => JSON.stringify(document.querySelector('.pa-map').map.view)"
    POINT = """() => {
        const { map } = document.querySelector('.pa-map'), { points } = map, i = points.n - 1;
        return map.to(points.x[i] / 65535, points.y[i] / 65535);
    }"""

    def dragged(self, page: Page, *ways: tuple[float, float]) -> None:
        box = standing(page, page.locator(".pa-map"))
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ways]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()

    def within(self, page: Page) -> Region:
        """The region that the address of a page names, once it does."""
        eventually(page, lambda: "within" in state(page), True)
        return Region.parse(state(page)["within"])

    def test_a_map_answers_the_pointer(self, server: str, open_page: OpenPage):
        """A box, an outline, the wheel, what stands under the pointer, a name that is clicked, a point that is."""
        page = open_page(address(server, "atlas", network=IMAGE, target=IMAGE_SITE))
        answered(page)
        page.get_by_role("button", name="Drag draws a box").click()
        self.dragged(page, (0.02, 0.02), (0.98, 0.6))
        expect(page.get_by_text("examples in this box")).to_be_visible()
        assert len(self.within(page).corners) == 2
        answered(page)
        page.get_by_role("button", name="Drag draws an outline").click()
        self.dragged(page, (0.1, 0.1), (0.9, 0.15), (0.85, 0.8), (0.5, 0.5), (0.15, 0.9))
        expect(page.get_by_text("examples in this polygon")).to_be_visible()
        answered(page)
        box = standing(page, page.locator(".pa-map"))
        page.get_by_role("button", name="Drag moves").click()
        before = page.evaluate(self.VIEW)
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.wheel(0, -300)
        eventually(page, lambda: page.evaluate(self.VIEW) != before, True)
        page.get_by_role("button", name="The whole map").click()
        page.evaluate(self.DRAWN)
        _, x, y = page.evaluate(self.NAMES)[0]
        page.mouse.click(box["x"] + x, box["y"] + y)
        eventually(page, lambda: state(page).get("cluster", "").isdecimal(), True)
        eventually(page, lambda: "within" in state(page), False)
        answered(page)
        box = standing(page, page.locator(".pa-map"))
        x, y = page.evaluate(self.POINT)
        page.mouse.move(box["x"] + x, box["y"] + y)
        expect(page.locator(".pa-map-tip img")).to_be_visible()
        no_error(page)
        page.mouse.click(box["x"] + x, box["y"] + y)
        expect(page.locator("h1")).to_have_text("Look")

    def test_recolouring_keeps_the_zoom(self, server: str, open_page: OpenPage):
        """Another colour, another theme leave the map zoomed, and its canvas the same."""
        page = open_page(address(server, "atlas", network=TEXT, target=SITE))
        answered(page)
        page.evaluate("() => { window.canvas = document.querySelector('.pa-map canvas'); }")
        page.get_by_role("button", name="Zoom in").click()
        zoomed = page.evaluate(self.VIEW)
        page.get_by_role("radio", name="distance").click()
        address_says(page, colour="distance")
        answered(page)
        expect(page.get_by_label("coloured by distance")).to_be_visible()
        page.emulate_media(color_scheme="dark")
        answered(page)
        no_error(page)
        assert page.evaluate(self.VIEW) == zoomed and page.evaluate("() => window.canvas.isConnected")
