"""The Overview page: what the atlas holds, where each site leads, and whether all is well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import atlas
import query
from query.store.contents import polytope_counts
from tests.app.explorer.running import errors, metrics, opened, press, tables, words
from tests.atlases import built_once
from tests.query.networks.test_comparison import two_steps

TEXT, IMAGE = "demo-gpt2", "demo-inceptionv1"


def test_overview_shows_what_the_atlas_holds(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = query.info(a)
        counts = polytope_counts(a, IMAGE).set_index("site")
        density = query.class_density(a, network=IMAGE, pairs=200, resamples=1).set_index("span")
    app = opened(demo_atlas, "about", network=IMAGE)
    assert errors(app) == []
    sites = held["sites"]
    expected = [2, held["networks"]["n_examples"].sum(), (sites["n_codes"] > 0).sum(), sites["n_codes"].sum()]
    assert metrics(app) == [f"{number:,}" for number in [*expected, len(held["clusterings"])]]
    mine = sites[(sites["network"] == IMAGE) & (sites["n_codes"] > 0)]
    rows = {row[0]: row for table in tables(app) for row in table}
    for site in mine["site"]:
        assert rows[site][6] == f"{counts.loc[site, 'occupancy']:#.3g}".rstrip(".")
    measured = density.loc["inception5a->:full"]
    assert rows["inception5a:full"][7] == f"{measured['intra_mean']:#.3g} | {measured['inter_mean']:#.3g}"
    empty = ((sites["network"] == IMAGE) & (sites["scope"] == "full") & (sites["n_codes"] == 0)).sum()
    assert f"{empty} full sites of {IMAGE} hold no codes" in words(app)


def test_every_site_leads_on(demo_atlas: Path):
    app = opened(demo_atlas, "about", network=TEXT)
    shown = "".join(part.value for part in app.html)
    [strip] = re.findall(r'<nav class="pa-strip".*?</nav>', shown)
    assert "blocks.1.mlp" in strip and f'href="cluster?network={TEXT}&amp;target=blocks.1.mlp"' in strip
    for page in ("look", "atlas", "neurons"):
        assert f'href="{page}?network={TEXT}&amp;target=blocks.2.mlp"' in shown
    assert f'href=".?network={IMAGE}"' in shown


def test_the_check_finds_what_is_damaged(small: Path):
    with atlas.open(small, writable=True) as a:
        a.execute(
            """
            update codes set n_active = n_active + 1
            where example_id = 25 and site_id = (select site_id from sites where name = 'blocks.3.mlp')
            """
        )
    app = press(opened(small, "about"), "Check the atlas")
    assert any(sentence.startswith("1 of ") for sentence in errors(app))
    assert "1 codes have another number of gates on, the first at example 25" in words(app)


@pytest.mark.slow
def test_a_sound_atlas_passes_every_check(built: Path):
    with atlas.open(built) as a:
        n = len(query.verify(a))
    assert f"All {n:,} checks passed." in words(opened(built, "about", network="words", check=1))


@pytest.mark.slow
def test_checkpoints_stand_beside_each_other(tmp_path_factory: pytest.TempPathFactory, demo_atlas: Path):
    """With the flips and fates that `compare` counts; of networks of other sites nothing is said."""
    path = built_once(tmp_path_factory, "steps.atlas", two_steps)
    with atlas.open(path) as a:
        steps = query.compare(a, networks=["step-0", "step-1", "step-2"]).steps
    app = opened(path, "about", network="step-1")
    assert errors(app) == []
    rows = [row for table in tables(app) for row in table if "→" in row[0]]
    assert [row[1] for row in rows] == steps["site"].tolist()
    assert [row[3] for row in rows] == [f"{share:.2%}" for share in steps["share"]]
    stays = int(steps["stays"].dropna().iloc[0])
    assert f"{stays} stays" in rows[steps["stays"].notna().to_numpy().nonzero()[0][0]][5]
    assert "Networks beside each other" not in [head.value for head in opened(demo_atlas, "about").subheader]
