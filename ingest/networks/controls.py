"""What untrained controls need besides random weights: batch norms calibrated on images (SCIENCE 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor, nn

from atlas.errors import UsageError

CALIBRATION_BATCH = 32
"""Images of one step of the calibration. Part of the definition of a control: another number, other statistics."""

CalibrationImages = Sequence[Image] | Callable[[], Iterable[Image]]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def calibration_images(calibration: CalibrationImages | None, weights: str) -> list[Image]:
    """The images that calibrate a control with these weights; `UsageError` without two."""
    if calibration is None:
        raise UsageError(
            f"weights {weights} need images to calibrate the batch-norm statistics of an untrained network; pass "
            f"`calibration`, or take {weights.replace('random', 'random-raw')} (its activations shrink to nothing)"
        )
    images = list(calibration() if callable(calibration) else calibration)
    if len(images) < 2:
        raise UsageError(f"calibration of {weights} got {len(images)} images; expected 2 or more, better hundreds")
    return images


def calibrate(model: nn.Module, images: Sequence[Image], prepare: Callable[[Sequence[Image]], Tensor]) -> None:
    """Set the running statistics of all batch norms by one pass over ``images`` in training mode, dropout off.

    The statistics are the mean over batches (``momentum=None``). Computed in double precision, so that the sums'
    order, which differs between machines, does not show in the float32 result: the digest stays the same.
    """
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    model.double().eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()  # the norms alone: dropout stays off
    n_batches = -(-len(images) // CALIBRATION_BATCH)
    with torch.no_grad():
        # Nearly equal batches: a last one of a single image would have no variance.
        for rows in torch.arange(len(images)).tensor_split(n_batches):
            model(prepare([images[row] for row in rows.tolist()]).double())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.float().eval()
