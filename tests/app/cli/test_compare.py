"""`polytope ingest --checkpoint-glob` and `polytope compare`: a series of weights in one atlas."""

from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

import atlas
import query
from atlas.errors import UsageError
from ingest.networks.checkpoints import find_checkpoints
from ingest.networks.demo import INCEPTIONV1_WEIGHTS
from tests.app.cli.command import Run

DATA = ("--data", "builtin:digits-heldout", "--limit", 12, "--sites", "conv1,conv2", "--no-cluster")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """The shipped weights as step 9, and moved a little as step 10."""
    with safetensors.safe_open(INCEPTIONV1_WEIGHTS, framework="pt") as opened:
        metadata = opened.metadata()
    state = load_file(INCEPTIONV1_WEIGHTS)
    save_file(state, tmp_path / "step-9.safetensors", metadata)
    torch.manual_seed(0)
    state["conv2.conv.weight"] += 0.1 * torch.randn_like(state["conv2.conv.weight"])
    save_file(state, tmp_path / "step-10.safetensors", metadata)
    return tmp_path


@pytest.mark.slow
def test_a_series_is_ingested_and_compared(series: Path, polytope: Run):
    """Each file is a network; given again, nothing is done. What the first layers read the same does not flip."""
    path = series / "series.atlas"
    command = ("ingest", path, "--network", "inceptionv1", "--checkpoint-glob", series / "step-*.safetensors", *DATA)
    first = polytope(*command)
    assert first.status == 0 and first.out.count("is in the atlas: 12 examples") == 2
    assert polytope(*command).out.count("is in the atlas already") == 2
    with atlas.open(path) as a:
        assert [network.name for network in a.catalog.networks] == ["step-9", "step-10"]
        expected = query.compare(a, k=10)
    steps = polytope("compare", path, "--table", "steps", "--format", "json").rows()
    assert [row["site"] for row in steps] == ["conv1", "conv2"]
    assert [row["flips"] for row in steps] == expected.steps["flips"].tolist()
    assert steps[0]["flips"] == 0 < steps[1]["flips"]
    printed = polytope("compare", path, "--networks", "step-9,step-10", "-k", 3)
    assert printed.status == 0 and "step-9, step-10: 12 examples of 12 inputs" in printed.out
    assert "examples that move most" in printed.out and "no density of these networks" in printed.err
    assert polytope("compare", path, "--format", "json").refuses("say which with --table")
    assert polytope("compare", path, "--networks", "step-9").refuses("name two or more")
    assert polytope(*command, "--weights", "random:0").refuses("give one of the two")


def test_checkpoints_are_called_by_files(tmp_path: Path):
    """By their folders where files are called alike; numbers count as numbers."""
    for step in (900, 1000, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").touch()
    names = ["checkpoint-20", "checkpoint-900", "checkpoint-1000"]
    assert [name for name, _ in find_checkpoints(f"{tmp_path}/*/model.safetensors")] == names
    assert [name for name, _ in find_checkpoints(f"{tmp_path}/checkpoint-*", "run")] == [f"run-{n}" for n in names]
    with pytest.raises(UsageError, match="matches no file"):
        find_checkpoints(f"{tmp_path}/*.pt")
    (tmp_path / "checkpoint-20" / "model.pt").touch()
    with pytest.raises(UsageError, match="several files that would be called checkpoint-20"):
        find_checkpoints(f"{tmp_path}/*/model.*")
