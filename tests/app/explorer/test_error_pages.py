"""An atlas of another version, and one that is damaged, each say so on every page, and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

import atlas
from atlas.errors import StoreError
from atlas.store.statements import DATABASE
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, answered, drawn, no_error, photograph, serving

pytestmark = IN_BROWSER

HEADER = 4096
"""Bytes at the start of a DuckDB file that say where all else is; three copies of a header of that size."""


def sentence(path: Path) -> str:
    with pytest.raises(StoreError) as refused, atlas.open(path):
        pass
    return str(refused.value)


@pytest.mark.slow
def test_other_versions_and_damage_are_said(demo_atlas: Path, tmp_path: Path, open_page: OpenPage):
    """An atlas of another version and a damaged one say so."""
    path = tmp_path / "old.atlas"
    shutil.copytree(demo_atlas, path)
    whole = (path / DATABASE).read_bytes()
    with atlas.open(path, writable=True) as a:
        a.execute("update meta set value = '0' where key = 'schema_version'")
    with serving(path) as server:
        old = sentence(path)
        assert "version 0" in old
        for place in ("", "look"):
            page = open_page(f"{server}/{place}")
            expect(page.locator(".pa-error")).to_have_text(old.replace("`", ""))
            expect(page.locator("h1")).to_be_visible()
        photograph(page, "error-version")

        (path / DATABASE).write_bytes(whole[:HEADER] + bytes(3 * HEADER) + whole[4 * HEADER :])
        broken = sentence(path)
        assert broken != old and str(path) in broken
        page.reload()
        drawn(page)
        expect(page.locator(".pa-error")).to_have_text(broken.replace("`", ""))
        expect(page.locator("body")).not_to_contain_text("Traceback", use_inner_text=True)
        photograph(page, "error-damaged")

        (path / DATABASE).write_bytes(whole)
        page.reload()
        answered(page)
        no_error(page)
