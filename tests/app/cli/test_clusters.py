"""Naming a cluster from the command line."""

from pathlib import Path

import pytest

import atlas
from query.clustering.names import borne_name
from tests.app.cli.command import Run

SITE = ("--site", "blocks.3.mlp", "--network", "words")


def test_a_name_and_a_note_of_a_cluster(small: Path, polytope: Run):
    """They are given one by one, and taken away together."""
    assert "cluster 1 of clustering 3 is called 'left'" in polytope("name", small, 1, "left", *SITE).out
    polytope("name", small, 1, "--note", "seen twice", *SITE)
    [listed] = polytope("names", small, "--format", "json").rows()
    assert (listed["name"], listed["note"], listed["target"]) == ("left", "seen twice", "blocks.3.mlp")
    assert "left" in polytope("clusters", small, *SITE).out
    assert "bears no name" in polytope("name", small, 1, "--remove", *SITE).out
    with atlas.open(small) as a:
        assert borne_name(a, clustering=3, cluster=1).name is None


def test_terminals_say_names_files_numbers(small: Path, polytope: Run):
    polytope("name", small, 1, "left", *SITE)
    with atlas.open(small) as a:
        example = borne_name(a, clustering=3, cluster=1).medoid
    asked = ("nearest", small, "--example", example, *SITE, "-k", 3)
    clusters = [row["cluster"] for row in polytope(*asked, "--format", "json").rows()]
    assert 1 in clusters and polytope(*asked).out.count("left #1") == clusters.count(1)
    assert "left #1" in polytope("membership", small, "--example", example, *SITE).out
    assert "left #1 of clustering 3" in polytope("members", small, 1, *SITE).out


@pytest.mark.parametrize("words", [(), ("left", "--remove")])
def test_what_is_to_be_done_must_be_said(small: Path, polytope: Run, words: tuple[str, ...]):
    assert polytope("name", small, 1, *words, *SITE).refuses("give a NAME or --note, or --remove")


def test_tags_are_put_on_by_a_command(small: Path, polytope: Run):
    assert "2 examples bear the tag 'odd'" in polytope("tag", small, "odd", 1, 3).out
    assert "1 example bears the tag 'odd'" in polytope("tag", small, "odd", 1, "--remove").out
    assert [row["example_id"] for row in polytope("tags", small, "--format", "json").rows()] == [3]
    assert polytope("views", small, "--format", "json").rows() == []
