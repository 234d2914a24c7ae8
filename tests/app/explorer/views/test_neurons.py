"""The Neurons page: what activates a unit, how units rank, and directions beside them."""

from __future__ import annotations

import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.glance import LISTED
from app.explorer.parts.kinds import TOP
from app.explorer.views.neurons import TELLING
from query.neurons.effects import unit_effects
from tests.app.explorer.running import column, errors, figures, opened, press, words
from tests.networks import shipped

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"


def test_a_unit_shows_its_top_and_its_gate(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.unit(a, 7, site=SITE, network=TEXT, k=TOP)
    app = opened(demo_atlas, "neurons", network=TEXT, target=SITE, unit=7)
    assert errors(app) == []
    top = found.table[found.table["part"] == "top"]
    assert highest(app) == top["example_id"].tolist()
    assert column(app, 1) == [f"{x:#.3g}" for x in top["activation"]]
    assert f"is above 0 in {found.n_on / found.n:.1%} of {found.n:,} examples" in words(app)
    labels = found.composition[found.composition["what"] == "label"].groupby("part")["n"].sum()
    commonest = top["label"].value_counts()
    assert f"{commonest.iloc[0] / labels['top']:.0%}, of all " in words(app)
    assert f"Its highest {len(top)} bear {commonest.size} labels ({commonest.index[0]} the commonest" in words(app)
    more = top["token"].nunique() - LISTED
    assert more > 0 and f"and {more} more" in words(app) and "polysemantic" not in words(app)
    assert len(figures(app)) == 2
    press(app, "Next")
    assert app.number_input(key="unit").value == 8
    links = "".join(part.value for part in app.html)
    assert re.search(r'href="sql\?query=[^"]*is_on%28code%2C\+8%29', links)


def test_a_unit_of_a_block_has_another_gate(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.unit(a, 100, site=IMAGE_SITE, network=IMAGE, k=TOP)
    assert found.gate not in (None, 100)
    app = opened(demo_atlas, "neurons", network=IMAGE, target=IMAGE_SITE, unit=100, colour="label")
    assert errors(app) == [] and f"is_on(code, {found.gate})" in words(app)
    assert highest(app) == found.table.loc[found.table["part"] == "top", "example_id"].tolist()


def highest(app: AppTest) -> list[int]:
    """The examples whose activations are links; those of its whole range are linked by their ids."""
    links = r'<a href="look\?example=(\d+)\b[^"]*"[^>]*>(?!\1<)[\d.,e+-]+</a>'
    return [int(number) for part in app.html for number in re.findall(links, part.value)]


def test_an_effect_is_that_of_the_query(demo_atlas: Path):
    """It is asked for once, and then shown of every unit."""
    with atlas.open(demo_atlas) as a:
        reader = shipped("demo:inceptionv1")
        found, beside = (unit_effects(a, unit, reader=reader, site=IMAGE_SITE) for unit in (100, 101))
    app = opened(demo_atlas, "neurons", network=IMAGE, target=IMAGE_SITE, unit=100, effect="true")
    assert errors(app) == [] and "mean of its highest 8 examples" in words(app)
    for effects in (found, beside):
        shown = [f"{effect:+.3g}" for effect in effects["effect"]]
        raised = [each for each in shown if each.startswith("+")]
        numbers = re.findall(r"<span>([+-][\d.e-]+)</span>", "".join(part.value for part in app.html))
        assert numbers == raised + [each for each in shown[::-1] if each.startswith("-")]
        press(app, "Next")


def test_neurons_open_on_the_ranking(demo_atlas: Path):
    app = opened(demo_atlas, "neurons", network=IMAGE, target=IMAGE_SITE)
    assert errors(app) == [] and app.segmented_control(key="section").value == "Ranking"
    assert len(column(app, 1)) == 25 and ids_of_pieces(app)
    heads = re.findall(r"<th [^>]*>([^<]*)</th>", "".join(part.value for part in app.html))
    assert len(set(heads)) == len(heads), "no two columns are headed alike"
    with atlas.open(demo_atlas) as a:
        ranked = query.units(a, site=IMAGE_SITE, network=IMAGE).set_index("unit")
        one = query.unit(a, 100, site=IMAGE_SITE, network=IMAGE, k=TOP)
    assert ranked["top"][100] == (one.table["part"] == "top").sum(), "both places tell of one top"


def test_a_unit_that_does_not_exist_is_said(demo_atlas: Path):
    app = opened(demo_atlas, "neurons", network=TEXT, target=SITE, unit=99999)
    assert f"a unit of site {SITE}, which has 512, numbered from 0" in errors(app)[0]
    assert app.number_input(key="unit").value == 0
    app = opened(demo_atlas, "neurons", network=TEXT, target="blocks.0.mlp->")
    assert errors(app) == []
    assert "A span (blocks.0.mlp->) has gates but no units of its own." in words(app)


def test_the_ranking_is_that_of_the_query(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.units(a, site=IMAGE_SITE, network=IMAGE)
    telling = found[found["top"] >= TELLING]
    expected = telling.sort_values(["label_entropy", "unit"], ascending=[False, True], kind="stable")["unit"]
    here = {"network": IMAGE, "target": IMAGE_SITE, "section": "Ranking", "page": 2}
    app = opened(demo_atlas, "neurons", **here, order="Highest entropy of labels")
    assert errors(app) == []
    assert column(app, 1) == [str(unit) for unit in expected.tolist()[25:50]]
    tops = found.set_index("unit").loc[expected.tolist()[25:50], "examples"]
    assert ids_of_pieces(app) == [example for top in tops for example in top], "each row shows its examples"


def ids_of_pieces(app: AppTest) -> list[int]:
    links = r'<a href="look\?example=(\d+)[^"]*"[^>]*class="pa-piece"'
    return [int(number) for part in app.html for number in re.findall(links, part.value)]


def test_directions_are_fitted_on_request(demo_atlas: Path):
    """Directions are fitted when asked for."""
    app = opened(demo_atlas, "neurons", network=IMAGE, target=IMAGE_SITE, section="Directions")
    assert errors(app) == [] and figures(app) == []
    press(app, "Compute")
    assert len(figures(app)) == 1 and "Computed now and not stored." in words(app)
    assert set(column(app, 1)) <= {"nmf", "pca", "random"}
