"""torchvision's GoogLeNet (InceptionV1) at any width."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import GoogLeNet
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux

RGB_CHANNELS = 3
SMALLEST_IMAGE = 15
"""Pixels a side. The first convolution halves them, rounded up, and three poolings of 3 by 2 need 2, so 4, so 8."""
CONV1_CHANNELS = 64  # the channels of torchvision's first convolution; `width_of` compares with them
FEATURES = 1024  # what torchvision's last block hands to `fc`
AUX_FLAT = 2048  # an auxiliary head flattens 128 channels at 4 x 4 positions
AUX_HIDDEN = 1024


def build_googlenet(
    num_classes: int, width: float = 1.0, aux_logits: bool = False, transform_input: bool = False
) -> GoogLeNet:
    """torchvision's GoogLeNet with every channel count multiplied by `width`, randomly initialised.

    Topology and names of the blocks are torchvision's own; at width 1 the network is exactly
    `torchvision.models.googlenet(weights=None, init_weights=True)`, down to the random numbers drawn.

    Raises:
        ValueError: `width` does not leave a whole number of channels everywhere (0.125, 0.25, 0.5, 1, 2 ... do).
    """
    conv = partial(_scaled_conv, width)
    blocks = [conv, partial(Inception, conv_block=conv), partial(_scaled_aux, width)]
    model = GoogLeNet(
        num_classes, aux_logits=aux_logits, transform_input=transform_input, init_weights=True, blocks=blocks
    )
    if width != 1:
        model.fc = _initialised(nn.Linear(_scaled(FEATURES, width), num_classes))
    return model


def width_of(state_dict: Mapping[str, Tensor]) -> float:
    """The width that `build_googlenet` needs for these weights, from the first convolution's channels."""
    first = state_dict.get("conv1.conv.weight")
    if first is None:
        raise ValueError(f"no 'conv1.conv.weight' among {len(state_dict)} weights; expected torchvision's GoogLeNet")
    if first.ndim == 0:
        raise ValueError("'conv1.conv.weight' is a single number; expected torchvision's GoogLeNet")
    return len(first) / CONV1_CHANNELS


def _scaled(channels: int, width: float) -> int:
    scaled = channels * width
    if scaled < 1 or scaled != int(scaled):
        raise ValueError(f"width {width} makes {channels} channels {scaled:g}; expected a whole number above 0")
    return int(scaled)


def _scaled_conv(width: float, in_channels: int, out_channels: int, **kwargs: Any) -> BasicConv2d:
    # No block inside the network has as few as 3 channels, so 3 can only be the image.
    inputs = in_channels if in_channels == RGB_CHANNELS else _scaled(in_channels, width)
    return BasicConv2d(inputs, _scaled(out_channels, width), **kwargs)


def _scaled_aux(width: float, in_channels: int, num_classes: int, dropout: float) -> InceptionAux:
    aux = InceptionAux(in_channels, num_classes, conv_block=partial(_scaled_conv, width), dropout=dropout)
    if width != 1:  # the linear layers do not come from a factory; torchvision initialises them with all the others
        hidden = _scaled(AUX_HIDDEN, width)
        aux.fc1 = nn.Linear(_scaled(AUX_FLAT, width), hidden)
        aux.fc2 = nn.Linear(hidden, num_classes)
    return aux


def _initialised(linear: nn.Linear) -> nn.Linear:
    """The layer with weights drawn as torchvision draws those of its GoogLeNet."""
    nn.init.trunc_normal_(linear.weight, mean=0.0, std=0.01, a=-2, b=2)
    return linear
