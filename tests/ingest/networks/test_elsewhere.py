"""Networks are made again in other processes, and read the same there."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ray import cloudpickle
from torch import nn

import ingest
from atlas.network import ImageView, Network, TokenWindow, VectorView
from ingest.networks import load_network
from ingest.networks.registry import again_of
from tests.networks import word_network

Models = Callable[[str], Path]


class Doubling(nn.Module):
    """A module of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(2 * self.layer(x))


def language_model(tiny_model: Models, noise: list[Image.Image]) -> tuple[Network, Any]:
    window = TokenWindow(np.array([1, 2, 3]), np.array([0, 2]))
    return load_network(str(tiny_model("gpt2")), device="cpu", max_length=10, name="mine"), window


def inception(tiny_model: Models, noise: list[Image.Image]) -> tuple[Network, Any]:
    """A control whose statistics come from inputs that no other process has."""
    options = {"weights": "random:3", "image_size": 64, "calibration": noise, "device": "cpu"}
    return load_network("demo:inceptionv1", **options), ImageView(noise[0])


def module(tiny_model: Models, noise: list[Image.Image]) -> tuple[Network, Any]:
    return ingest.network(Doubling().eval(), inputs="vector"), VectorView(np.array([0.5, -1, 2], np.float32))


def words(tiny_model: Models, noise: list[Image.Image]) -> tuple[Network, Any]:
    return word_network(), TokenWindow(np.array([1, 2, 3]), np.array([0, 2]))


@pytest.mark.parametrize("made", [language_model, inception, module, words])
def test_it_reads_the_same_elsewhere(
    made: Callable[..., tuple[Network, Any]],
    tiny_model: Models,
    noise: list[Image.Image],
) -> None:
    network, view = made(tiny_model, noise)
    again = pickle.loads(cloudpickle.dumps(again_of(network)))(device="cpu")
    assert (again.info, again.sites) == (network.info, network.sites)
    one, other = (each.read([view], network.sites, network.sites) for each in (network, again))
    for site in network.sites:
        assert (one.codes[site.name] == other.codes[site.name]).all()
        np.testing.assert_array_equal(one.activations[site.name], other.activations[site.name])
