"""What the browser does on every page: code is copied, and scripts are fetched ahead."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, expect

from app.explorer import browser
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, answered

TEXT = "demo-gpt2"


def test_the_script_for_tables_that_is_fetched_ahead_is_there():
    assert len(browser._scripts(browser.TABLES)) == 1


class TestInABrowser:
    pytestmark = IN_BROWSER

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

    def test_folded_code_is_copied_where_there_is_no_clipboard(self, server: str, open_page: OpenPage):
        """As on a page that came unencrypted from another machine. What is copied ends before the last line break."""
        page = open_page(address(server, "search", network=TEXT))
        answered(page)
        page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page.get_by_text("Code for this").first.click()
        script = page.locator(".pa-script").filter(visible=True).first
        script.get_by_role("button", name="Copy").click()
        expect(script.get_by_role("button", name="Copied")).to_be_visible()
        page.evaluate("() => document.body.append(document.createElement('textarea'))")
        pasted = page.locator("body > textarea")
        pasted.focus()
        page.keyboard.press("Control+V")
        expect(pasted).to_have_value(script.locator("code").inner_text().rstrip())

    def test_code_that_was_unfolded_stays_so_when_it_changes(self, server: str, open_page: OpenPage):
        page = open_page(address(server, "search", network=TEXT, k=5))
        answered(page)
        folds = page.locator("details.pa-code")
        others = folds.count() - 1
        assert others > 0
        page.get_by_text("Code for this").last.click()
        code = folds.last.locator("code.language-python")
        for k in ("7", "9"):
            page.get_by_label("Nearest").fill(k)
            page.get_by_label("Nearest").press("Enter")
            expect(code).to_contain_text(f"k={k}")
            expect(code).to_be_visible()
        expect(page.locator("details.pa-code:not([open])")).to_have_count(others)
        page.get_by_text("Code for this").last.click()
        expect(code).not_to_be_visible()
        page.get_by_label("Nearest").fill("5")
        page.get_by_label("Nearest").press("Enter")
        expect(code).to_contain_text("k=5")
        expect(code).not_to_be_visible()

    def test_a_figure_that_can_not_be_drawn_is_a_sentence(
        self, server: str, tabs: BrowserContext, open_page: OpenPage
    ):
        tabs.route("**/plotly.min.js", lambda route: route.abort())
        page = open_page(address(server, "neurons", network=TEXT))
        answered(page)
        expect(page.locator(".pa-error").filter(visible=True).first).to_have_text(
            re.compile(r"^This figure can't be drawn: http\S+/plotly\.min\.js can't be loaded\.$")
        )
        tabs.unroute("**/plotly.min.js")
