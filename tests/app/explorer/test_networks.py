"""Networks are loaded ahead of the first question, once for all who ask."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import atlas
from app.explorer import networks
from app.explorer.views.look import UPLOAD_OPEN
from atlas.errors import WeightsError
from tests.app.explorer.running import computed, opened

IMAGE = "demo-inceptionv1"
WAIT = 60.0


def test_a_network_is_loaded_ahead_once(demo_atlas: Path):
    """It says what it is at; whoever asks is handed the one that was loaded."""
    with atlas.open(demo_atlas) as a:
        record = a.catalog.network(IMAGE)
    share, line = networks.Loading(IMAGE).state()
    assert share == 0 and re.fullmatch(f"Loading network {IMAGE}: its libraries, \\d+ s", line)
    loading = networks.ahead(record)
    assert loading.ended.wait(WAIT) and loading.state()[0] == 1
    handed = []
    for _ in range(2):
        with networks.held(networks.SECONDS, record, lambda: None) as network:
            handed.append(network)
    assert handed[0] is handed[1] and handed[0].info.name == IMAGE


def test_a_failed_load_is_told_when_asked(demo_atlas: Path, tmp_path: Path):
    with atlas.open(demo_atlas) as a:
        record = replace(a.catalog.network(IMAGE), weights=str(tmp_path / "gone.safetensors"))
    loading = networks.ahead(record)
    assert loading.ended.wait(WAIT) and loading.state()[0] < 1
    with (
        pytest.raises(WeightsError, match=r"gone\.safetensors"),
        networks.held(networks.SECONDS, record, lambda: None),
    ):
        pass


def test_a_page_loads_before_it_is_asked(demo_atlas: Path):
    """What an image is uploaded in was opened, and nothing is uploaded yet."""
    networks._loading.clear()
    app = opened(demo_atlas, "look", network=IMAGE)
    assert not networks._loading, "an example that is stored needs no network"
    app.session_state[UPLOAD_OPEN] = True
    computed(app)
    [((name, _), loading)] = networks._loading.items()
    assert name == IMAGE and loading.ended.wait(WAIT)
