"""Naming a cluster from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import atlas
from app.cli.main import cli
from atlas.errors import UsageError
from query.clustering.names import borne_name

SITE = ("--site", "blocks.3.mlp", "--network", "words")


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "three.atlas"))


def polytope(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_name_and_a_note_are_given_one_by_one_and_taken_away_together(path: Path):
    assert "cluster 1 of clustering 3 is called 'left'" in polytope("name", path, 1, "left", *SITE)
    polytope("name", path, 1, "--note", "seen twice", *SITE)
    [listed] = json.loads(polytope("names", path, "--format", "json"))
    assert (listed["name"], listed["note"], listed["target"]) == ("left", "seen twice", "blocks.3.mlp")
    assert "left" in polytope("clusters", path, *SITE)
    assert "bears no name" in polytope("name", path, 1, "--remove", *SITE)
    with atlas.open(path) as a:
        assert borne_name(a, clustering=3, cluster=1).name is None


@pytest.mark.parametrize("words", [(), ("left", "--remove")])
def test_what_is_to_be_done_must_be_said(path: Path, words: tuple[str, ...]):
    with pytest.raises(UsageError, match="give a NAME or --note, or --remove"):
        polytope("name", path, 1, *words, *SITE)
