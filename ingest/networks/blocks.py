"""Convolutions as blocks: at each place a dense matrix from the entries under the kernel to all channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atlas.tails import Block


def normed_weight(convolution: Any) -> Float[Tensor, "outputs channels rows columns"]:
    """The weights of a convolution with the batch norm behind it, in evaluation: one linear map but for offsets."""
    norm = convolution.bn
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight: Tensor = convolution.conv.weight * scale[:, None, None, None]
    return weight.detach()


def convolution_blocks(
    weight: Float[Tensor, "outputs channels rows columns"],
    shape: tuple[int, ...],
    *,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
    first_input: int = 0,
    first_output: int = 0,
) -> Iterator[Block]:
    """A block a place of the output. The input has this ``shape`` (channels, rows, columns) and begins at entry
    ``first_input`` of the state; the output begins at preactivation ``first_output``."""
    numbers = 1 + torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(1, *shape)
    kernel = weight.shape[2], weight.shape[3]
    under = torch.nn.functional.unfold(numbers, kernel, padding=padding, stride=stride)[0].long().numpy()
    rows = weight.flatten(1).T.contiguous()
    for place, entries in enumerate(under.T):
        columns = np.flatnonzero(entries)  # 0 beyond the edges
        outputs = first_output + np.arange(len(weight)) * under.shape[1] + place
        yield Block(outputs, first_input + entries[columns] - 1, columns, rows)
