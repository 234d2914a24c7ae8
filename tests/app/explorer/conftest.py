"""What pages are run with."""

import importlib.metadata

import pytest
from streamlit import config

OFF = ("browser.gatherUsageStats", "runner.magicEnabled", "runner.postScriptGC")


@pytest.fixture(autouse=True)
def no_installed_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest looks for components of Streamlit in all that is installed, which takes four times as long as most
    pages. The explorer brings its own along."""
    monkeypatch.setattr(importlib.metadata, "distributions", list)


@pytest.fixture(scope="session", autouse=True)
def as_served() -> None:
    """What `polytope serve` switches off, so that pages run here as they do there. A collection of all garbage after
    each run, and counts of calls, would take as long as what a page does."""
    for name in OFF:
        config.set_option(name, False)
