"""Links from page to page, and the way back: as quick as a click, and as good as opening the address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import atlas
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    ids,
)
from tests.app.explorer.views_by_hand import IMAGE, SITE, TEXT

pytestmark = IN_BROWSER

IMAGE_SITE = "inception5b"

MARKED = "() => { window.loaded = (window.loaded ?? 0) + 1; }"
LOADED = "() => window.loaded"


def examples(a: atlas.Atlas) -> list[int]:
    """Those of the text network."""
    found = a.rows("select example_id from examples join networks using (network_id) where kind = 'text' order by 1")
    return [int(example) for (example,) in found]


def shown(page: Page) -> tuple[str, list[str], str]:
    """What a page says, what its fields hold, and its address."""
    answered(page)
    main = page.get_by_test_id("stMain")
    fields = page.locator("input:not([type=radio], [type=checkbox]), textarea").all()
    return main.inner_text(), [field.input_value() for field in fields], page.url


def as_opened(page: Page, open_page: OpenPage, title: str) -> tuple[str, list[str], str]:
    """A page that was arrived at is what opening its address gives, and was not loaded."""
    expect(page.locator("h1")).to_have_text(title)
    answered(page)
    whole = open_page(page.url)
    found = shown(whole)
    whole.close()
    eventually(page, lambda: shown(page), found)
    assert page.evaluate(LOADED) == 1
    return found


def test_links_and_the_way_back_show_what_their_addresses_show_when_opened(
    server: str, open_page: OpenPage, demo_atlas: Path
):
    """Search and Example call their example alike: each keeps its own."""
    with atlas.open(demo_atlas) as a:
        first = examples(a)[0]
    about = first + 30
    page = open_page(address(server, "search", network=TEXT, target=SITE, example=about, k=7))
    page.evaluate(MARKED)
    search = shown(page)
    near = ids(page)[2]
    assert near not in (first, about)

    page.locator(f'.pa table a[href^="example?example={near}&"]').click()
    example = as_opened(page, open_page, "Example")
    address_says(page, example=near, network=TEXT)
    expect(page.get_by_label("Example (")).to_have_value(str(near))

    another = next(id for id in ids(page) if id not in (first, about, near))
    page.locator(f'.pa a[href^="example?example={another}&"]').first.click()  # the same page of another state
    address_says(page, example=another)
    other = as_opened(page, open_page, "Example")

    page.go_back()
    address_says(page, example=near)
    assert as_opened(page, open_page, "Example") == example
    page.go_back()
    assert as_opened(page, open_page, "Search") == search
    page.go_forward()
    page.go_forward()  # at once: the answer to the first comes later than this
    expect(page.get_by_label("Example (")).to_have_value(str(another))
    answered(page)
    address_says(page, example=another)
    assert as_opened(page, open_page, "Example") == other


def test_the_way_back_through_the_sidebar_has_a_step_for_a_click_and_keeps_what_pages_call_alike(
    server: str, open_page: OpenPage, demo_atlas: Path
):
    with atlas.open(demo_atlas) as a:
        known = examples(a)
        about = known[len(known) // 2]
    page = open_page(address(server, "search", network=TEXT, target=SITE, example=about, k=5000))
    page.evaluate(MARKED)
    expect(page.locator(".pa-error")).to_have_count(1)  # so many can't be had
    page.get_by_test_id("stSidebarNav").get_by_text("Example").click()
    expect(page.locator("h1")).to_have_text("Example")
    answered(page)
    field = page.get_by_label("Example (")
    begun = field.input_value()
    page.get_by_role("button", name="Next").click()
    expect(field).not_to_have_value(begun)
    answered(page)
    page.go_back()
    expect(field).to_have_value(begun)
    answered(page)
    page.go_back()
    as_opened(page, open_page, "Search")
    expect(page.get_by_label("Example (")).to_have_value(str(about))


def chosen(page: Page, label: str, option: str) -> None:
    """Choose in the sidebar, as someone who types it."""
    box = page.get_by_test_id("stSidebar").get_by_role("combobox", name=label)
    box.click()
    box.fill(option)
    box.press("Enter")


def test_the_way_back_has_a_step_for_every_choice_and_shows_what_was_there(
    server: str, open_page: OpenPage, demo_atlas: Path
):
    """Another network takes the site out of the address as well, and another way to search the example: one step."""
    with atlas.open(demo_atlas) as a:
        about, following = examples(a)[5:7]
    page = open_page(address(server, "search", network=TEXT, target="blocks.1.mlp", example=about))
    page.evaluate(MARKED)
    seen = [shown(page)]

    def act(does: Callable[[], None], **state: object) -> None:
        does()
        address_says(page, **state)
        eventually(page, lambda: shown(page)[0] != seen[-1][0], True)
        seen.append(shown(page))

    act(lambda: chosen(page, "Site or span", "blocks.0.mlp->"), target="blocks.0.mlp->")
    act(page.get_by_role("button", name="Next").click, example=following)
    act(lambda: page.get_by_role("radio", name="Text").click(force=True), by="Text")
    act(lambda: chosen(page, "Network", IMAGE))
    for before in reversed(seen[:-1]):
        page.go_back()
        eventually(page, lambda before=before: shown(page), before)
    for after in seen[1:]:
        page.go_forward()
        eventually(page, lambda after=after: shown(page), after)
    assert page.evaluate(LOADED) == 1


def test_what_is_the_default_anyway_makes_no_step_when_it_is_opened(server: str, open_page: OpenPage):
    page = open_page(address(server, "search", network=IMAGE, target=IMAGE_SITE, by="Example"))
    answered(page)
    assert "network=" not in page.url  # the first network
    page.go_back(wait_until="commit")
    eventually(page, lambda: page.url, "about:blank")


def test_an_arrow_key_that_is_held_down_is_one_step(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, "paths", network=IMAGE, span="inception5a->:full", example=7, run=1))
    slider = page.get_by_role("slider")
    expect(slider).to_be_visible(timeout=COMPUTING)
    answered(page)
    begun = slider.input_value()
    slider.focus()
    for _ in range(5):
        slider.press("ArrowLeft")
    address_says(page, alpha=0.75)
    answered(page)
    page.go_back()
    expect(slider).to_have_value(begun)


def test_a_link_for_another_tab_leaves_this_one_alone(server: str, open_page: OpenPage):
    page = open_page(address(server, "search", network=TEXT, target=SITE))
    answered(page)
    row = page.locator('.pa table a[href^="example"]').first
    with page.context.expect_page() as opened:
        row.click(modifiers=["ControlOrMeta"])
    expect(opened.value.locator("h1")).to_have_text("Example")
    opened.value.close()
    expect(page.locator("h1")).to_have_text("Search")


@pytest.mark.parametrize(
    ("path", "held"),
    [
        ("sql", {}),  # the first query to begin with
        ("clusters", {"cluster": "noise", "part": "Gates"}),  # the rows around it
        ("map", {"layout": 1, "colour": "label"}),  # told by its number
    ],
)
def test_the_way_back_begins_with_what_a_page_begins_with(
    measured_server: str, open_page: OpenPage, path: str, held: dict[str, object]
):
    page = open_page(address(measured_server, path, network=IMAGE, target=IMAGE_SITE, **held))
    page.evaluate(MARKED)
    title = page.locator("h1").inner_text()
    answered(page)
    page.get_by_test_id("stSidebarNav").get_by_text("Overview").click()
    expect(page.locator("h1")).to_have_text("Overview")
    answered(page)
    page.go_back()
    as_opened(page, open_page, title)
