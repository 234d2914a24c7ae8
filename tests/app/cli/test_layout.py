"""`polytope layout` and `polytope export`: maps are made, listed and taken elsewhere."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pandas as pd

import atlas
import query
from query.layout.layouts import layout_of
from tests.app.cli.test_main import Run, polytope  # noqa: F401  (a fixture)

SITE, IMAGE_SITE = "blocks.2.mlp", "inception5b"


def test_a_map_is_made_once_and_listed(demo_atlas: Path, polytope: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "copy.atlas"
    shutil.copytree(demo_atlas, path)
    made = polytope("layout", path, "--site", SITE, "--space", "activations", "--neighbors", 8)
    assert made.status == 0 and "euclidean" in made.out and f"polytope app {path}, page Map" in made.err
    with atlas.open(path) as a:
        number = layout_of(a, a.catalog.target(site=SITE), "activations").layout_id
    again = polytope("layout", path, "--site", SITE, "--space", "activations", "--neighbors", 8)
    assert again.status == 0 and again.out.startswith(f"layout {number}")
    listed = polytope("layout", path)
    assert listed.status == 0 and IMAGE_SITE in listed.out and "activations" in listed.out
    refused = polytope("layout", path, "--span", "blocks.0.mlp->", "--space", "activations")
    assert refused.status == 1 and "has codes but no activations of its own" in refused.err


def test_an_export_prints_the_command_that_opens_it(demo_atlas: Path, polytope: Run, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "a map.parquet"
    written = polytope("export", demo_atlas, "--site", SITE, "--embedding-atlas", file)
    with atlas.open(demo_atlas) as a:
        points = query.layout_points(a, layout_of(a, a.catalog.target(site=SITE)).layout_id)
    assert written.status == 0 and f"wrote {len(points):,} examples" in written.out
    command = shlex.split(written.out.splitlines()[-1])
    assert command == [
        "embedding-atlas",
        str(file),
        "--x",
        "x",
        "--y",
        "y",
        "--text",
        "text",
        "--neighbors",
        "neighbors",
    ]
    table = pd.read_parquet(file)
    assert table["example_id"].tolist() == points["example_id"].tolist()
    missing = polytope("export", demo_atlas, "--site", "blocks.0.mlp", "--embedding-atlas", file)
    assert missing.status == 1 and "polytope layout" in missing.err
