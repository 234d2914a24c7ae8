"""A ReLU perceptron on two half moons: the network of the plane whose polytopes can be looked at.

It is trained when it is loaded, in less than a second, and always to the same weights: in double precision by one
thread, all points at once, and rounded further than another machine's order of sums could be seen.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import torch
from torch import Tensor, nn

from ..datasets.sources import open_dataset

SOURCE = "demo:two-moons"

WIDTH = 16
"""Gates of each of the two hidden layers: enough to separate the moons, few enough to draw all their boundaries."""

CLASSES = ("upper", "lower")

STEPS, RATE = 300, 0.02
DECAY = 1e-3
"""Weight decay: without it boundaries wander off to where no data lies."""

DIGITS = 4
"""Decimals of the weights. Sums in another order differ by 1e-10 or so after training."""


def build_moons() -> nn.Sequential:
    """The network with initial weights."""
    first = nn.Sequential(nn.Linear(2, WIDTH), nn.ReLU())
    second = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(OrderedDict(first=first, second=second, out=nn.Linear(WIDTH, len(CLASSES))))


@cache
def trained_moons() -> dict[str, Tensor]:
    """The state dict of the network, trained on ``builtin:two-moons-train``."""
    items = list(open_dataset("builtin:two-moons-train", kind="vector").items())
    points = torch.tensor([item.content.tolist() for item in items], dtype=torch.float64)  # type: ignore[union-attr]
    labels = torch.tensor([CLASSES.index(str(item.label)) for item in items])  # type: ignore[union-attr]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            model = build_moons().double()
            optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
            for _ in range(STEPS):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(points), labels).backward()
                optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return {name: tensor.round(decimals=DIGITS).float() for name, tensor in model.state_dict().items()}
