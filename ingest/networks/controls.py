"""Untrained controls of a network (SCIENCE 4): initial weights, and batch norms calibrated on inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import UsageError

CALIBRATION_BATCH = 32
"""Inputs of one step of the calibration. Part of the definition of a control: another number, other statistics."""

Calibration = Sequence[Any] | Callable[[], Iterable[Any]]
"""Images or vectors, or a function that gives them."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def calibration_inputs(calibration: Calibration | None, weights: str) -> list[Any]:
    """The inputs that calibrate a control with these weights; `UsageError` without two."""
    if calibration is None:
        raise UsageError(
            f"weights {weights} need inputs to calibrate the batch-norm statistics of an untrained network; pass "
            f"`calibration`, or take {weights.replace('random', 'random-raw')} (its activations shrink to nothing)"
        )
    inputs = list(calibration() if callable(calibration) else calibration)
    if len(inputs) < 2:
        raise UsageError(f"calibration of {weights} got {len(inputs)} inputs; expected 2 or more, better hundreds")
    return inputs


def calibrate(model: nn.Module, inputs: Sequence[Any], prepare: Callable[[Sequence[Any]], Tensor]) -> None:
    """Set the running statistics of all batch norms by one pass over ``inputs`` in training mode, dropout off.

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
    n_batches = -(-len(inputs) // CALIBRATION_BATCH)
    with torch.no_grad():
        # Nearly equal batches: a last one of a single input would have no variance.
        for rows in torch.arange(len(inputs)).tensor_split(n_batches):
            model(prepare([inputs[row] for row in rows.tolist()]).double())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.float().eval()


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a network has batch norms to calibrate."""
    return any(isinstance(module, NORMS) and module.track_running_stats for module in model.modules())


@torch.no_grad()
def reset_by_itself(model: nn.Module, name: str) -> None:
    """Draw initial weights by each module's own ``reset_parameters``.

    Raises `UsageError` where parameters belong to none that has it, unless they are all equal, as scales and offsets
    are at first: what else they began as nobody says.
    """
    reset: set[int] = set()
    for module in model.modules():
        if callable(again := getattr(module, "reset_parameters", None)):
            again()
            reset |= {id(parameter) for parameter in module.parameters(recurse=False)}
        if isinstance(module, nn.MultiheadAttention):  # its own reset is private; this is what torch documents
            for weight in (module.in_proj_weight, module.q_proj_weight, module.k_proj_weight, module.v_proj_weight):
                if weight is not None:
                    nn.init.xavier_uniform_(weight)
                    reset.add(id(weight))
    for path, parameter in model.named_parameters():
        if id(parameter) not in reset and bool((parameter != parameter.reshape(-1)[0]).any()):
            raise UsageError(
                f"no untrained control of {name}: {path} belongs to a module without `reset_parameters`, so nothing "
                "says what it began as; add one, or go on without controls"
            )
