"""Start: a figure of this atlas whatever it can read, what a polytope is, and where its questions lead."""

from __future__ import annotations

import re
from pathlib import Path

import atlas
from query.experiments.archive import load, stored
from tests.app.explorer.running import errors, figures, opened, words

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def test_a_stored_slice_is_the_figure(measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        [row] = load(a, int(stored(a, "slice", IMAGE)["experiment_id"].iloc[0])).tables["summary"].to_dict("records")
    app = opened(measured_atlas, "start", network=IMAGE, target=FULL_SITE)
    [figure] = figures(app)
    assert errors(app) == [] and any("boundaries" in (trace.get("name") or "") for trace in figure["data"])
    flip = f"of the {row['gates']:,} gates of inception5b: {row['gates_crossed']:,} of them flip in this plane"
    assert flip in words(app) and f"part it into {row['polytopes']:,} polytopes" in words(app)
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


def test_what_the_atlas_holds_is_folded(built: Path):
    """Nothing of it is asked before somebody opens it."""
    here = {"network": "words", "target": "blocks.2.mlp"}
    assert len(opened(built, "start", **here).metric) == 0
    assert len(opened(built, "start", **here, about="true").metric) == 5
