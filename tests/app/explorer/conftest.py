"""What pages are run with."""

import importlib.metadata

import pytest


@pytest.fixture(autouse=True)
def no_installed_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest looks for components of Streamlit in all that is installed, which takes four times as long as most
    pages. The explorer brings its own along."""
    monkeypatch.setattr(importlib.metadata, "distributions", list)
