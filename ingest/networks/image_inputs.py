"""How images become the input of a network, whichever it is, and what a person may say about that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, resize

from atlas.errors import UsageError
from atlas.store.disk import no_file

IMAGE_SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""How ImageNet images are fed to torchvision's networks (its `ImageClassification` preset)."""

MOST_NAME_BYTES = 16_000_000
"""Of a file of class names: 100,000 names of 160 letters."""

MODES = {1: "L", 3: "RGB"}
"""How Pillow calls images of so many channels."""


@dataclass(frozen=True)
class ImageOptions:
    """How images are read. None: as the weights say, else 224 pixels and ImageNet's statistics.

    ``mean`` and ``std`` have a number a channel of 0..1 values: three, or one for images in grey. ``classes`` is a
    text file with one name a line, or the names.
    """

    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    classes: Path | Sequence[str] | None = None


def settled(asked: ImageOptions, known: ImageOptions) -> dict[str, Any]:
    """What `NetworkInfo.reading` holds of how images are fed: the user's word, or the weights', or the default."""
    size = first(asked.image_size, known.image_size, IMAGE_SIZE)
    if size < 1:
        raise UsageError(f"image_size {size} is impossible; expected a number of pixels, {IMAGE_SIZE} by default")
    mean = list(first(asked.mean, known.mean, IMAGENET_MEAN))
    std = list(first(asked.std, known.std, IMAGENET_STD))
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in MODES or (name == "std" and min(numbers) <= 0):
            raise UsageError(
                f"{name} {numbers} is impossible; expected three numbers{' above 0' if name == 'std' else ''}, for "
                "red, green and blue, or one for images in grey"
            )
    if len(mean) != len(std):
        raise UsageError(f"mean {mean} and std {std} are of different channels; give as many numbers of both")
    return {"image_size": size, "mean": mean, "std": std}


def first(*choices: Any) -> Any:
    """The first that is not None."""
    return next(choice for choice in choices if choice is not None)


def class_names(classes: Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names that the user gave, all different; None if he gave none.

    Those that occur again are told apart by the number of their class: ImageNet has two cranes, ``crane (134)``, a
    bird, and ``crane (517)``.
    """
    if classes is None:
        return None
    names = tuple(_class_lines(Path(classes)) if isinstance(classes, (str, Path)) else classes)
    counts = Counter(names)
    distinct = tuple(f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names))
    taken = [name for name, count in Counter(distinct).items() if count > 1]
    if taken:
        raise UsageError(f"class names must differ; {taken[0]!r} occurs more than once")
    return distinct


def _class_lines(path: Path) -> list[str]:
    if (what := no_file(path)) is not None:
        raise UsageError(f"class names {path} {what}; expected a text file, a name a line")
    if path.exists() and path.stat().st_size > MOST_NAME_BYTES:
        raise UsageError(
            f"class names {path} has {path.stat().st_size:,} bytes; at most {MOST_NAME_BYTES:,} are read"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"class names {path} can't be read ({error}); expected a text file, a name a line"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def preprocess(
    images: Sequence[Image.Image], size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "images channels size size"]:
    """Images of any size and mode as a batch: RGB or grey, resized to `size` x `size`, 0..1, less `mean`, over `std`.

    The image is squeezed into the square rather than cropped, so that all of it is seen and a position of a feature
    map means the same relative place in every image. The resize is torchvision's, bilinear with antialiasing, of
    8-bit tensors.
    """
    if not images:
        return torch.empty(0, len(mean), size, size)
    mode = MODES[len(mean)]
    pixels = [resize(pil_to_tensor(image.convert(mode)), [size, size], antialias=True) for image in images]
    return normalize(torch.stack(pixels).float() / 255, list(mean), list(std))
