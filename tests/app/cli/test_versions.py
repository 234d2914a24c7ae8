"""`polytope versions`, `vacuum`, `convert`, and `ingest --segmented`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import atlas
import query
from tests.app.cli.command import Run
from tests.atlases import add_texts
from tests.networks import word_network, word_texts

pytestmark = pytest.mark.slow


def test_an_atlas_is_converted_and_back(
    built: Path, segmented: Callable[[int], Path], tmp_path: Path, polytope: Run
) -> None:
    """An atlas of segments made into one of tables answers as the first one did."""
    back = tmp_path / "back.atlas"
    made = polytope("convert", segmented(3), back)
    assert made.status == 0 and "with the same digests, in tables" in made.out
    near = ("--example", 40, "--site", "blocks.3.mlp", "--format", "csv")
    assert polytope("nearest", back, *near).out == polytope("nearest", built, *near).out
    assert polytope("convert", built, back).refuses("exists already; give the name of a new folder")
    with atlas.open(back) as a:
        assert query.verify(a)["ok"].all()


def test_versions_are_listed_and_removed(tmp_path: Path, built: Path, polytope: Run) -> None:
    path, data = tmp_path / "new.atlas", tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": f"{word} is a word of {word}"}) + "\n" for word in ("iron", "pear")))
    words = ("--network", "demo:gpt2", "--data", data, "--skip-first", 0, "--sites", "blocks.1.mlp", "--no-cluster")
    assert polytope("ingest", path, *words, "--segmented").status == 0
    listed = json.loads(polytope("versions", path, "--format", "json").out)
    assert [row["version"] for row in listed] == [1, 2] and listed[1]["segments"] == 2
    assert "in the atlas already" in polytope("ingest", path, *words).out
    assert "1 version and" in polytope("vacuum", path, "--days", 0).out
    assert [row["version"] for row in json.loads(polytope("versions", path, "--format", "json").out)] == [2]
    assert polytope("verify", path).status == 0
    assert polytope("versions", built).refuses("has no versions; `polytope convert` makes a segmented one")
    assert polytope("vacuum", built).refuses("is no segmented atlas and has no versions")
    assert polytope("ingest", built, *words, "--segmented").refuses("keeps its codes in tables; `polytope convert")


def test_an_address_has_versions_too(s3: str, tmp_path: Path, polytope: Run) -> None:
    """Brought to a bucket and back, listed, and rid of old versions: what is said names the address."""
    here, there, back = tmp_path / "a.atlas", f"{s3}/a.atlas", tmp_path / "back.atlas"
    add_texts(here, word_network(), word_texts(4))
    for old, new in ((here, there), (there, back)):
        assert f"{new} holds what {old} holds, with the same digests" in polytope("convert", old, new).out
    assert polytope("convert", there, f"{s3}/b.atlas").refuses(
        f"{there} is segmented already; copy its files to {s3}"
    )
    numbers = [row["version"] for row in json.loads(polytope("versions", there, "--format", "json").out)]
    removed = polytope("vacuum", there, "--days", 0).out
    assert removed.startswith(f"{numbers[-1] - 1} version") and f"were removed from {there}" in removed
    left = json.loads(polytope("versions", there, "--format", "json").out)
    assert [row["version"] for row in left] == numbers[-1:] and polytope("verify", there).status == 0
