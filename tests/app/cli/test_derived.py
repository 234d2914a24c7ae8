"""Commands that store what is computed from an atlas, and filters of `polytope nearest`."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import atlas
import query
from tests.app.cli.test_main import Run, polytope

__all__ = ["polytope"]


@pytest.fixture
def own(demo_atlas: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(demo_atlas, tmp_path / "own.atlas"))


def test_a_filtered_answer_is_that_of_the_query_layer(demo_atlas: Path, polytope: Run) -> None:
    with atlas.open(demo_atlas) as a:
        example, label = a.rows("select example_id, label from examples where token is not null order by 1 limit 1")[
            0
        ]
        wanted = {"label": label, "where": "position > 3 and token <> ''"}
        expected = query.nearest(a, example=example, site="blocks.1.mlp", k=4, **wanted)
    options = ("--label", label, "--where", wanted["where"], "-k", 4, "--format", "json")
    answer = polytope("nearest", demo_atlas, "--example", example, "--site", "blocks.1.mlp", *options)
    assert [row["example_id"] for row in json.loads(answer.out)] == expected["example_id"].tolist()
    refused = polytope("nearest", demo_atlas, "--example", example, "--site", "blocks.1.mlp", "--where", "colour = 1")
    assert refused.status == 1 and "where is 'colour = 1'" in refused.err


def test_an_approximate_index_prints_its_recall_and_answers_say_that_they_are(own: Path, polytope: Run) -> None:
    built = polytope("index", own, "--kind", "ivf", "--site", "inception4c")
    printed = re.search(r"built ivf of inception4c: recall@10 (\S+), measured on 50 codes \(nlist", built.out)
    assert built.status == 0 and printed is not None
    with atlas.open(own) as a:
        example = a.value("select min(example_id) from codes join sites using (site_id) where name = 'inception4c'")
        assert f"{a.value('select recall from indexes where recall is not null'):.4f}" == printed.group(1)
    asked = ("nearest", own, "--example", example, "--site", "inception4c")
    assert "approximate search with the ivf index (recall@10" in polytope(*asked).err
    assert "approximate" not in polytope(*asked, "--exact").err
    assert polytope("verify", own).status == 0
    assert polytope("index", own, "--kind", "flat").status == 0
    assert "approximate" not in polytope(*asked).err
    impossible = polytope("index", own, "--kind", "ivf", "--site", "inception4c", "--recall", 1.2)
    assert impossible.status == 1 and "recall to reach is 1.2" in impossible.err


def test_neighbors_of_all_examples_become_a_table(own: Path, polytope: Run) -> None:
    stored = polytope("neighbors", own, "--all", "--site", "inception4c", "-k", 3)
    assert stored.status == 0 and "stored 3 neighbours of each of 100 examples" in stored.out
    rows = polytope("sql", own, "select * from neighbors order by example_id, rank limit 3", "--format", "csv").out
    table = pd.read_csv(io.StringIO(rows))
    with atlas.open(own) as a:
        expected = query.nearest(a, example=int(table["example_id"][0]), site="inception4c", k=3)
    assert table["neighbor_id"].tolist() == expected["example_id"].tolist()
    listed = polytope("neighbors", own)
    assert listed.status == 0 and "inception4c" in listed.out and "yes" in listed.out
    refused = polytope("neighbors", own, "--site", "inception4c")
    assert refused.status == 1 and "add --all" in refused.err
    too_many = polytope("neighbors", own, "--all", "--site", "inception4c", "-k", 100)
    assert too_many.status == 1 and "99 others for each" in too_many.err
