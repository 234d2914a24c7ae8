"""Every stored result, and what could be run."""

from __future__ import annotations

from pathlib import Path

import atlas
from query.experiments import EXPERIMENTS, find, load
from query.experiments.report import not_stored
from tests.app.explorer.running import column, errors, figures, opened, press, scripts, words

IMAGE, TEXT = "demo-inceptionv1", "demo-gpt2"


def test_a_stored_result_is_reproduced(measured_atlas: Path):
    """A stored result is drawn and reproduced."""
    with atlas.open(measured_atlas) as a:
        result = load(a, 1)
    app = opened(measured_atlas, "claims", network=IMAGE, experiment=1, table="grid")
    assert errors(app) == []
    assert column(app, 1) == ["3", "2", "1"] and column(app, 2) == ["occupancy", "density", "slice"]
    assert column(app, 4)[1:] == ["pairs 60, resamples 60", "a 1, b 4, c 9, size 24, span inception5a->:full"]
    assert column(app, 5) == ["yes"] * 3
    assert app.header[-1].value == "Experiment 1: slice" and len(figures(app)) == 1
    for note in result.notes:
        assert note[1:60] in words(app)
    [line] = scripts(app, "sh")
    assert line.startswith("polytope experiment slice")
    for part in ("--span 'inception5a->:full'", "--size 24", str(measured_atlas)):
        assert part in line
    assert f"The first 200 of {24 * 24} rows." in words(app) and len(app.dataframe[-1].value) == 200


def test_what_is_not_stored_has_its_command(measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        missing = not_stored(a, TEXT).set_index("kind")
    app = opened(measured_atlas, "claims", network=TEXT, show="Not stored", compute="occupancy")
    assert f"{len(missing)} of {len(EXPERIMENTS)} experiments have no current result" in words(app)
    assert scripts(app, "sh")[0] == missing.loc["occupancy", "command"] and figures(app) == []
    assert column(app, 2, table=-1) == [option.help for option in find("occupancy").fields.values()]
    press(app, "Compute")
    assert len(figures(app)) == 1 and "Computed now and not stored." in words(app)
    unknown = opened(measured_atlas, "claims", network=TEXT, experiment=1)
    assert "No result is stored for demo-gpt2" in words(unknown)
    none = opened(measured_atlas, "claims", network=IMAGE, experiment="7<b>")
    assert "no experiment 7<b> is stored of demo-inceptionv1" in errors(none)[0]
