"""The density of a pair, gate by gate."""

from __future__ import annotations

from pathlib import Path

import atlas
import query
from tests.app.explorer.running import column, errors, metrics, opened

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def test_a_pair_is_that_of_the_query(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        pair = query.density(a, 2, 9, site=FULL_SITE, network=IMAGE)
        apart = query.gates_apart(a, 2, 9, site=FULL_SITE, network=IMAGE)
    app = opened(demo_atlas, "density", network=IMAGE, target=FULL_SITE, x=2, y=9)
    assert errors(app) == [] and metrics(app)[:2] == [f"{pair.density:#.4g}", f"{pair.hamming:,}"]
    assert len(apart.gates) == pair.hamming
    [site] = apart.sites.to_dict("records")
    expected = [FULL_SITE, f"{site['on_x']:,}", f"{site['on_y']:,}", f"{site['differ']:,}"]
    assert [column(app, place)[0] for place in (1, 3, 4, 5)] == expected
    signs = ["+" if on == 2 else "−" for on in apart.gates["on_in"][:3]]
    first = " ".join(f"{sign}{gate}" for sign, gate in zip(signs, apart.gates["gate"][:3], strict=True))
    assert column(app, 6)[0].startswith(first)


def test_what_has_no_density_is_explained(demo_atlas: Path):
    app = opened(demo_atlas, "density", network=IMAGE, target="inception5b", span="inception4c->:full", x=2)
    [sentence] = errors(app)
    assert "needs the codes of inception4d:full" in sentence and "which were not ingested" in sentence
