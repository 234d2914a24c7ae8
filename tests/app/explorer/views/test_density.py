"""The density page: measurements that are stored, one made now, and a pair gate by gate."""

from __future__ import annotations

from pathlib import Path

import atlas
import query
from query.experiments import load, run
from tests.app.explorer.running import column, errors, metrics, opened, scripts, words

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def number(value: float) -> str:
    return f"{value:#.4g}"


def means(cells: list[str]) -> list[str]:
    """A column of the table of measurements, without its intervals."""
    return [cell.split(" [")[0] for cell in cells]


def test_a_stored_measurement_is_not_redone(measured_atlas: Path):
    """A stored measurement needs no computing."""
    with atlas.open(measured_atlas) as a:
        table = load(a, 2).table
    app = opened(measured_atlas, "density", network=IMAGE, target=FULL_SITE)
    assert errors(app) == []
    assert app.selectbox(key="measurement").value == "Experiment 2: pairs 60, resamples 60"
    assert column(app, 1) == table["span"].tolist()
    assert column(app, 2) == ["trained"] * len(table)
    assert means(column(app, 6)) == [number(ratio) for ratio in table["ratio"]]
    assert "Stored as experiment 2." in words(app)
    lines = scripts(app, "sh")[-1]
    for part in ("--weights random:0 ", "--data builtin:digits-heldout ", "--full inception5a,inception5b "):
        assert part in lines


def test_a_link_measures_what_it_says(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = run(a, "density", network=IMAGE, pairs=200, seed=3).table
        pair = query.density(a, 2, 9, site=FULL_SITE, network=IMAGE)
        apart = query.gates_apart(a, 2, 9, site=FULL_SITE, network=IMAGE)
    app = opened(demo_atlas, "density", network=IMAGE, target=FULL_SITE, pairs=200, seed=3, x=2, y=9)
    assert errors(app) == [] and column(app, 1) == found["span"].tolist()
    for place, name in ((4, "intra_mean"), (5, "inter_mean"), (6, "ratio")):
        assert means(column(app, place)) == [number(value) for value in found[name]]
    assert metrics(app)[:2] == [number(pair.density), f"{pair.hamming:,}"]
    assert len(apart.gates) == pair.hamming
    [site] = apart.sites.to_dict("records")
    expected = [FULL_SITE, f"{site['on_x']:,}", f"{site['on_y']:,}", f"{site['differ']:,}"]
    assert [column(app, place, 1)[0] for place in (1, 3, 4, 5)] == expected
    signs = ["+" if on == 2 else "−" for on in apart.gates["on_in"][:3]]
    first = " ".join(f"{sign}{gate}" for sign, gate in zip(signs, apart.gates["gate"][:3], strict=True))
    assert column(app, 6, 1)[0].startswith(first)


def test_what_has_no_density_is_explained(demo_atlas: Path):
    app = opened(demo_atlas, "density", network=IMAGE, target="inception5b", span="inception4c->:full")
    [sentence] = errors(app)
    assert "needs the codes of inception4d:full" in sentence and "which were not ingested" in sentence
    assert column(app, 1), "the rest of the page is shown"
