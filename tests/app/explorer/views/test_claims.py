"""The page of claims: verdicts first, each unfolding; what is not measured in a line with what measures it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import atlas
from query.experiments import load, run
from query.experiments.report import stored_verdicts
from tests.app.explorer.running import column, computed, errors, figures, opened, press, scripts, words

IMAGE, TEXT, FULL_SITE = "demo-inceptionv1", "demo-gpt2", "inception5b:full"


def claims(app: AppTest) -> list[str]:
    """The claims with a verdict, each as its verdict and sentence."""
    return [re.sub(r":\w+\[\*\*|:small\[|\*\*|[\]\\]", "", part.label) for part in app.expander]


def means(cells: list[str]) -> list[str]:
    """A column of the table of measurements, without its intervals."""
    return [cell.split(" [")[0] for cell in cells]


def test_verdicts_are_those_of_the_report(measured_atlas: Path):
    """What is not measured has a line and a button, or says why it can't be measured."""
    with atlas.open(measured_atlas) as a:
        found = stored_verdicts(a, IMAGE)
    stored = found[found["experiment_id"].notna()]
    app = opened(measured_atlas, "claims", network=IMAGE)
    assert errors(app) == [] and figures(app) == []
    of_density = found["section"].isin(["density", "depth"])  # measured, though not as the claims ask
    assert len(claims(app)) == len(stored) + of_density.sum()
    for sentence in stored["claim"]:
        assert any(sentence in label for label in claims(app))
    waiting = found[found["experiment_id"].isna() & ~of_density]
    shown = words(app)
    assert all(sentence in shown for sentence in waiting["claim"])
    lacking = [because for because in waiting["because"] if not because.startswith("not stored yet")]
    assert all(because in shown for because in lacking)
    assert len([each for each in app.button if each.label == "Measure"]) == len(waiting) - len(lacking)


def test_a_stored_measurement_is_not_redone(measured_atlas: Path):
    """Density was asked for otherwise than the claim asks: it unfolds with what is stored."""
    with atlas.open(measured_atlas) as a:
        table = load(a, 2).table
    app = opened(measured_atlas, "claims", network=IMAGE, target=FULL_SITE, **{"claim-density": "true"})
    assert errors(app) == [] and len(figures(app)) == 1
    assert app.selectbox(key="measurement").value == "Experiment 2: pairs 60, resamples 60"
    assert column(app, 1, 1) == table["span"].tolist()
    assert column(app, 2, 1) == ["trained"] * len(table)
    assert means(column(app, 6, 1)) == [f"{ratio:#.4g}" for ratio in table["ratio"]]
    assert "Stored as experiment 2." in words(app)
    lines = scripts(app, "sh")
    assert any("polytope experiment density" in line and "--pairs 60" in line for line in lines)
    for part in ("--weights random:0 ", "--data builtin:digits-heldout ", "--full inception5a,inception5b "):
        assert part in lines[-1]


def test_a_link_measures_what_it_says(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = run(a, "density", network=IMAGE, pairs=200, seed=3).table
    app = opened(demo_atlas, "claims", network=IMAGE, target=FULL_SITE, pairs=200, seed=3)
    assert errors(app) == [] and column(app, 1, 1) == found["span"].tolist()
    for place, name in ((4, "intra_mean"), (5, "inter_mean"), (6, "ratio")):
        assert means(column(app, place, 1)) == [f"{value:#.4g}" for value in found[name]]


@pytest.mark.slow
def test_a_button_measures_a_claim(measured_atlas: Path):
    """It moves up among the verdicts, for as long as the network is the same."""
    app = opened(measured_atlas, "claims", network=IMAGE)
    before = claims(app)
    app.button(key="measure-neuron").click()
    computed(app)
    [new] = set(claims(app)) - set(before)
    assert "Neurons are polysemantic" in new and "".join(app.query_params["measured"]) == "neuron"
    app.session_state["claim-neuron"] = True
    computed(app)
    assert "Computed now and not stored." in words(app) and len(figures(app)) == 1
    app.selectbox(key="network").select(TEXT)
    assert "measured" not in computed(app).query_params


def test_the_report_can_be_taken_along(measured_atlas: Path):
    app = opened(measured_atlas, "claims", network=IMAGE, show="Report")
    press(app, "Write the report")
    assert any(part.proto.label.startswith("Download report.html") for part in app.get("download_button"))
