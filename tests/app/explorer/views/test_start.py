"""Start: a figure of this atlas whatever it can read, what a polytope is, and where its questions lead."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.explorer.views.start import NEARLY, SENTENCES, true_of
from atlas.network import ELSEWHERE, Site
from tests.app.explorer.running import errors, figures, opened, words

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def test_a_slice_is_the_figure(measured_atlas: Path):
    """A stored one where it is resolved, else a nearer one; the words beside it say of which gates it is."""
    app = opened(measured_atlas, "start", network=IMAGE, target=FULL_SITE)
    [figure] = figures(app)
    assert errors(app) == []
    [lines] = [trace["name"] for trace in figure["data"] if (trace.get("name") or "").startswith("boundaries of ")]
    assert "Inside it the network is one affine map." in words(app)
    areas = figure["data"][0]["customdata"]
    n = len(np.unique(np.frombuffer(base64.b64decode(areas["bdata"]), areas["dtype"])))
    said = re.search(r"gates of (\S+): ([\d,]+) of them flip .*, and part it into ([\d,]+) polytopes", words(app))
    assert said is not None and said[1] == lines.split()[2].rstrip(",") and said[3] == f"{n:,}"
    shown = "".join(part.value for part in app.html)
    [three] = re.findall(r'<div class="pa pa-three">.*?</div>', shown, re.DOTALL)
    assert len(re.findall(r'href="look\?example=\d+', three)) == 3
    [questions] = re.findall(r'<nav class="pa pa-questions".*?</nav>', shown, re.DOTALL)
    assert re.findall(r'href="(\w+)\?', questions) == ["look", "atlas", "between", "claims"]


def test_without_a_network_codes_are_shown(built: Path):
    """Of three examples of the atlas, with what keeps a slice from being drawn."""
    app = opened(built, "start", network="words", target="blocks.2.mlp")
    [figure] = figures(app)
    assert errors(app) == []
    assert [tick.split()[0] for tick in figure["layout"]["yaxis"]["ticktext"]] == ["a", "b", "c"]
    assert "No slice is drawn" in words(app)
    said = words(app)
    assert "nearly, not exactly, one affine map. Its units (gelu_new) are smooth" in said and "gate flips" not in said


def test_a_network_is_what_its_sites_say():
    """ReLU at one position tells of no more than that position; what breaks a site is named."""
    site = Site("one", 0, 4, 4, "relu", True)
    at_one_place = replace(site, exact=False, broken_by=ELSEWHERE)
    assert true_of([site, at_one_place, replace(at_one_place, broken_by="")], False) == SENTENCES
    normed = true_of([site, replace(site, exact=False, broken_by="layer norm in norm")], False)
    assert NEARLY in normed[1] and normed[1][1].endswith("layer norm in norm.") and normed[2] == SENTENCES[2]
    curved = replace(site, nonlinearity="relu, gelu", exact=False, broken_by="gelu in act")
    assert "(gelu) are smooth" in true_of([site, curved], False)[1][1]
    assert "attention" in true_of([replace(site, exact=False)], True)[1][1]


def test_what_the_atlas_holds_is_folded(built: Path):
    """Nothing of it is asked before somebody opens it."""
    here = {"network": "words", "target": "blocks.2.mlp"}
    assert len(opened(built, "start", **here).metric) == 0
    assert len(opened(built, "start", **here, about="true").metric) == 5
