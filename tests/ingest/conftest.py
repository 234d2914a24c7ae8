"""Images and a network of them that is small enough to make for every run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.networks.googlenet import build_googlenet
from ingest.networks.image_inputs import preprocess

IMAGE_SIZE = 64
LAB = Path(__file__).parents[3] / "shared" / "lab"


@pytest.fixture(scope="session")
def lab() -> Path:
    """Real trained networks; they lie beside the repository, not in it."""
    if not LAB.is_dir():
        pytest.skip(f"no trained networks at {LAB}")
    return LAB


@pytest.fixture(scope="session")
def noise() -> list[Image.Image]:
    """Images of coarse coloured noise, of a size that needs resizing."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (9, 12, 16, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((96, 72)) for image in pixels]


@pytest.fixture(scope="session")
def narrow_inception(tmp_path_factory: pytest.TempPathFactory, noise: list[Image.Image]) -> Path:
    """A GoogLeNet a quarter as wide, 10 classes, with auxiliary classifiers and lively batch norms."""
    torch.manual_seed(0)
    model = build_googlenet(10, width=0.25, aux_logits=True).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, mean=1, std=0.2)
            torch.nn.init.normal_(module.bias, std=0.5)
            module.momentum = None
    torch.nn.init.normal_(model.fc.weight)
    with torch.no_grad():
        model(preprocess(noise, IMAGE_SIZE, (0.5,) * 3, (0.25,) * 3))
    path = tmp_path_factory.mktemp("inception") / "narrow.pt"
    torch.save(model.state_dict(), path)
    return path
