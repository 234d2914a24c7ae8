"""Keys that work everywhere but in a field, links to copy, and a page within another."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from app.explorer.parts.box import LINK_LIMIT, PLACES
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    says,
    state,
)
from tests.app.explorer.views.test_look_inputs import digit
from tests.app.explorer.views_by_hand import IMAGE, SITE, TEXT

pytestmark = IN_BROWSER


def copied(page: Page, button: str, told: str) -> dict[str, list[str]]:
    """What a link names that a button copies."""
    page.get_by_label(button).click()
    expect(page.get_by_role("status").filter(has_text=told)).to_be_visible()
    return parse_qs(urlsplit(page.evaluate("navigator.clipboard.readText()")).query)


def test_keys_links_and_an_embedded_page(server: str, open_page: OpenPage):
    page = open_page(address(server, "look", network=TEXT, target=SITE))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answered(page)
    page.keyboard.press("p")
    tray = page.locator(".pa-tray [aria-pressed]")
    eventually(page, tray.count, 1)
    answered(page)
    page.keyboard.press("?")
    expect(page.locator("dialog.pa-keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.pa-keys")).to_be_hidden()
    named = copied(page, "Copy a link to this view", "Link copied")
    assert named.items() >= {"network": [TEXT], "target": [SITE]}.items()
    assert "pin" not in named, "this page speaks of none"
    assert copied(page, "Copy a link to embed, without the sidebar", "Link to embed copied")["embed"] == ["true"]
    page.goto(page.evaluate("navigator.clipboard.readText()"))
    answered(page)
    expect(page.get_by_role("link", name="Open in the explorer")).to_be_visible()
    expect(page.locator(".pa-tray")).to_be_hidden()
    expect(page.get_by_role("link", name="Claims")).to_have_count(0)


@pytest.mark.slow
def test_a_link_says_what_it_can_not_hold(server: str, open_page: OpenPage):
    """An image that was uploaded and a long text: the link names no example that was shown before."""
    for network, kind in ((IMAGE, "image"), (TEXT, "text")):
        page = open_page(address(server, "look", network=network))
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        answered(page)
        eventually(page, lambda page=page: "example" in state(page), True)
        if kind == "image":
            page.get_by_role("button", name="Upload an image").click()
            picture = {"name": "four.png", "mimeType": "image/png", "buffer": digit(4)}
            page.locator('input[type="file"]').set_input_files(files=[picture])
        else:
            page.locator("textarea").first.fill("x" * (LINK_LIMIT + 1))
            page.keyboard.press("Enter")
        says(page, "the address of this page")
        address_says(page, example=None)
        link = copied(page, "Copy a link to this view", f"Link copied, without the {kind}: no link holds it")
        assert link["network"] == [network] and not {"example", *PLACES} & {*link} - {"token"}


def test_a_field_keeps_its_letters(server: str, open_page: OpenPage):
    page = open_page(address(server, "sql", network=TEXT, target=SITE))
    answered(page)
    page.keyboard.press("/")
    field = page.locator("textarea").first
    expect(field).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("p?/")
    expect(field).to_have_value("p?/")
    expect(page.locator("dialog.pa-keys")).to_be_hidden()
