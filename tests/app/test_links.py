"""Links from page to page: as quick as a click, and as good as opening their address; and code that is copied."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from app import browser
from tests.app.browsing import IN_BROWSER, OpenPage, address, answered, eventually, ids, state

TEXT, SITE = "demo-gpt2", "blocks.0.mlp"


@pytest.mark.parametrize("name", [browser.FIGURES, browser.TABLES])
def test_the_scripts_that_are_fetched_ahead_are_there(name: str):
    assert len(browser._scripts(name)) == 1


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_link_shows_what_its_address_shows_without_loading_the_explorer_anew(
        self, server: str, open_page: OpenPage
    ):
        page = open_page(address(server, "", network=TEXT))
        answered(page)
        page.evaluate("() => { window.same = true; }")

        page.locator('.pa table a[href^="search"]').first.click()
        expect(page.locator("h1")).to_have_text("Search")
        answered(page)
        eventually(page, lambda: state(page).get("target"), SITE)
        assert page.evaluate("() => window.same")
        expect(page.get_by_role("combobox", name="Site or span")).to_have_value(SITE)
        shown = ids(page)
        whole = open_page(page.url)
        answered(whole)
        assert shown and ids(whole) == shown
        whole.close()

        page.go_back()  # one step
        expect(page.locator("h1")).to_have_text("Overview")
        page.go_forward()
        expect(page.locator("h1")).to_have_text("Search")
        eventually(page, lambda: ids(page), shown)
        assert page.evaluate("() => window.same")

        row = page.locator('.pa table a[href^="example"]').first
        with page.context.expect_page() as opened:  # for another tab
            row.click(modifiers=["ControlOrMeta"])
        expect(opened.value.locator("h1")).to_have_text("Example")
        expect(page.locator("h1")).to_have_text("Search")
        assert address(server, "example").split("?")[0] in opened.value.url
        opened.value.close()

    def test_folded_code_is_copied_to_the_letter(self, server: str, open_page: OpenPage):
        page = open_page(address(server, "search", network=TEXT))
        answered(page)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_text("Code for this").first.click()
        script = page.locator(".pa-script").filter(visible=True).first
        script.get_by_role("button", name="Copy").click()
        expect(script.get_by_role("button", name="Copied")).to_be_visible()
        code = page.evaluate("() => navigator.clipboard.readText()")
        assert (
            code.startswith("import atlas, query\n\nwith atlas.open(") and code == script.locator("code").inner_text()
        )
