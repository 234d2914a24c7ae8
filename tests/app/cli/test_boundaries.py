"""`polytope boundaries`, `exits`, `neighbor-polytopes`, `region`: the answers of the functions, on the demo."""

import os
import shutil
import signal
from pathlib import Path

import pytest

import atlas
import query
from app.cli.statuses import INTERRUPTED
from ingest.networks import load_network
from tests.app.cli.command import Run
from tests.forked import running

SPAN = "inception5a->:full"


@pytest.fixture(scope="module")
def images(demo_atlas: Path) -> list[int]:
    with atlas.open(demo_atlas) as a:
        rows = a.rows("select example_id from examples where token is null order by example_id limit 2")
    return [example for (example,) in rows]


def test_boundaries_are_those_of_the_query(demo_atlas: Path, polytope: Run, images: list[int]):
    printed = polytope("boundaries", demo_atlas, "--example", images[0], "--span", SPAN, "-k", 3, "--format", "json")
    with atlas.open(demo_atlas) as a:
        reader = load_network("demo:inceptionv1", device="cpu")
        expected = query.boundaries(a, example=images[0], span=SPAN, k=3, reader=reader)
    assert [row["distance"] for row in printed.rows()] == expected.table["distance"].tolist()
    assert f"x lies on {expected.tied:,} boundaries" in printed.err


def test_exits_neighbours_and_regions(demo_atlas: Path, polytope: Run, images: list[int]):
    asked = (demo_atlas, "--example", images[0], "--span", SPAN)
    shares = polytope("exits", *asked, "--directions", 20, "--format", "json").rows()
    assert sum(row["share"] for row in shares if row["by"] == "kind") == pytest.approx(1)
    beyond = polytope("neighbor-polytopes", *asked, "-k", 2, "--format", "json").rows()
    assert len(beyond) == 2 and {"map_change", "prediction", "examples"} <= set(beyond[0])
    between = polytope("region", demo_atlas, *images, "--span", SPAN)
    assert between.status == 0 and "boundaries apart" in between.out
    assert polytope("boundaries", *asked, "-k", 0).refuses("k is 0")


def test_a_smooth_network_is_linearised(demo_atlas: Path, polytope: Run):
    """Beside each linear distance stands where the gate really flips on that way."""
    asked = ("boundaries", demo_atlas, "--text", "def main():", "--span", "blocks.1.mlp->", "-k", 3)
    printed = polytope(*asked, "--format", "json")
    assert "linearisation at x" in printed.err
    for row in printed.rows():
        assert row["facet"] is None and row["met"] == pytest.approx(row["distance"], rel=0.2)
    beyond = polytope("neighbor-polytopes", *asked[1:], "--format", "json").rows()
    assert all(row["map_change"] is None and row["verified"] for row in beyond)


def test_boundaries_of_many_are_stored(demo_atlas: Path, polytope: Run, tmp_path: Path):
    shutil.copytree(demo_atlas, tmp_path / "own.atlas")
    stored = polytope("store-boundaries", tmp_path / "own.atlas", "--span", SPAN, "-k", 2, "--examples", 3)
    assert "boundaries of 3 examples at inception5a->:full" in stored.out + stored.err
    rows = polytope("sql", tmp_path / "own.atlas", "from boundaries", "--format", "json").rows()
    assert [row["rank"] for row in rows] == [1, 2] * 3


def test_ctrl_c_ends_a_long_look(
    demo_atlas: Path, images: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of a sketch that would take an hour, once its bar is there: it ends with the status of shells."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar although nobody sees it
    os.mkfifo(errors := tmp_path / "errors")
    words = ("--example", str(images[0]), "--span", SPAN, "--sketch", "5000000")
    with (
        running("app.cli.main", "boundaries", str(demo_atlas), *words, stderr=errors) as command,
        errors.open("rb", buffering=0) as said,
    ):
        seen = b""
        while b"boundaries" not in seen and (some := said.read(4096)):
            seen += some
        os.kill(command.pid, signal.SIGINT)
        while some := said.read(4096):
            seen += some
        command.join()
        assert command.exitcode == INTERRUPTED and b"Traceback" not in seen, seen.decode()
