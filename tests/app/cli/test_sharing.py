"""`polytope push` and `pull`: there and back, and what stops them."""

from pathlib import Path

import pytest

from tests.app.cli.command import Run


def test_atlas_goes_there_and_back(built: Path, tmp_path: Path, polytope: Run):
    place, path = tmp_path / "place", tmp_path / "x.atlas"
    sent = polytope("push", built, place, "--license", "cc0-1.0", "--title", "Small")
    assert sent.status == 0 and " files, " in sent.out and ", were sent now" in sent.out
    assert "license: cc0-1.0" in (place / "README.md").read_text("utf-8")
    again = polytope("push", built, place, "--license", "cc0-1.0", "--title", "Small")
    assert "; 0 of them, 0 B, were sent now" in again.out
    back = polytope("pull", place, path, "--tables", "codes, activations, clusters")
    assert back.status == 0 and "383 examples, with the digests that were pushed" in back.out
    near = ("nearest", "--example", 40, "--site", "blocks.3.mlp", "--format", "csv")
    assert polytope(near[0], path, *near[1:]).out == polytope(near[0], built, *near[1:]).out


def test_what_stops_it_is_one_message(built: Path, tmp_path: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch):
    assert polytope("pull", tmp_path, tmp_path / "x.atlas").refuses("holds no atlas.json: no atlas was pushed there")
    assert polytope("push", built, "nowhere://x").refuses("can't be reached")
    assert polytope("push", tmp_path / "none.atlas", tmp_path / "place").refuses("does not exist")
    assert not (tmp_path / "x.atlas").exists()
