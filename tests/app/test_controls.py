"""The commands that add untrained networks read the examples that the trained one read."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import atlas
from app.cli.commands import cli
from app.controls import adding_controls


@pytest.mark.slow
def test_controls_read_the_same_examples(demo_atlas: Path, tmp_path: Path):
    """The fixtures sampled otherwise than by default: 20 tokens a text from its first on, and 100 digits of 599."""
    path = Path(shutil.copytree(demo_atlas, tmp_path / "a folder" / "own.atlas"))
    seen = "select input_id, position from examples join networks using (network_id) where name = $1 order by all"
    sites = (
        "select sites.name, n_codes, n_activations from sites join networks using (network_id) "
        "where networks.name = $1 and n_codes > 0 order by all"
    )
    for network, control in (
        ("demo-gpt2", "demo-gpt2-random-0"),
        ("demo-inceptionv1", "demo-inceptionv1-random-raw-0"),
    ):
        with atlas.open(path) as a:
            line = adding_controls(a, network)[-1]
        words = shlex.split(line)
        assert words[:3] == ["polytope", "ingest", str(path)]
        ended = CliRunner().invoke(cli, words[1:])
        assert ended.exit_code == 0, ended.output
        with atlas.open(path) as a:
            assert a.rows(seen, [control]) == a.rows(seen, [network]) != []
            assert a.rows(sites, [control]) == a.rows(sites, [network])
