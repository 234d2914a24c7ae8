"""What a unit adds to the logits, against the last layer's own weights and against a network run without it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import atlas
import ingest
from atlas.errors import UsageError
from atlas.network import Site
from query.neurons.effects import entries_of, unit_effects
from tests.atlases import add_vectors

POINTS = np.random.default_rng(3).normal(size=(30, 2)).round(2)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = 0, -1  # a unit that is never on
    return model.eval()


@pytest.fixture(scope="module")
def vectors(model: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("effects") / "vectors.atlas"
    network = ingest.network(model, inputs="vector", name="small", classes=["a", "b", "c"])
    add_vectors(path, network, [(str(i), None, point) for i, point in enumerate(POINTS)])
    return path


def test_an_effect_is_what_the_weights_say(vectors: Path, model: nn.Sequential):
    """After the last layer's units: the weight times the activation, about its mean over the outputs."""
    reader = ingest.network(model, inputs="vector", name="small", classes=["a", "b", "c"])
    with atlas.open(vectors) as a:
        [site] = [site.name for site in a.catalog.sites if site.n_units == 4]
        found = unit_effects(a, 1, reader=reader, site=site, k=5, outputs=1)
        with pytest.raises(UsageError, match=r"unit 3 of .* is at or below 0 in all 30 examples"):
            unit_effects(a, 3, reader=reader, site=site)
        with pytest.raises(UsageError, match="has 4 units, numbered from 0"):
            unit_effects(a, 4, reader=reader, site=site)
    with torch.no_grad():
        unit = model[:2](torch.from_numpy(POINTS.astype(np.float32)))[:, 1].numpy()
    weights = model[2].weight[:, 1].detach().numpy()
    highest = np.sort(unit)[::-1][:5]
    expected = np.outer(highest, weights - weights.mean())
    order = np.argsort(-expected.mean(axis=0))
    assert found["output"].tolist() == [order[0], order[-1]] and found["n"].tolist() == [5, 5]
    assert found["name"].tolist() == ["abc"[order[0]], "abc"[order[-1]]]
    np.testing.assert_allclose(found["effect"], expected.mean(axis=0)[order[[0, -1]]], rtol=1e-5)
    np.testing.assert_allclose(found["high"], expected.max(axis=0)[order[[0, -1]]], rtol=1e-5)
    np.testing.assert_allclose(found["low"], expected.min(axis=0)[order[[0, -1]]], rtol=1e-5)
    assert found.attrs["examples"] == [int(place) + 1 for place in np.argsort(-unit)[:5]]


def test_a_channel_is_set_everywhere():
    """A unit of one position is a channel of the whole tensor: at all positions of it, and of no other channel."""
    position, full = (Site("conv", 0, n, n, "relu", True, scope, shape) for n, scope, shape in SITES)
    assert entries_of(position, full, 1).tolist() == [6, 7, 8, 9, 10, 11]
    assert entries_of(full, full, 5).tolist() == [5]
    with pytest.raises(UsageError, match=r"unit 1 of conv is no channel of conv, whose activation has the shape 9"):
        entries_of(position, Site("conv", 0, 9, 9, "relu", True, "full", (9,)), 1)


SITES: list[tuple[int, Literal["position", "full"], tuple[int, ...]]] = [
    (3, "position", (3,)),
    (18, "full", (3, 2, 3)),
]
