"""Random networks of convolutions with batch norm, residual sums and max-pooling, and a tiny one to do by hand."""

import copy
from types import SimpleNamespace

import torch
from torch import nn

from atlas.network import GateRange, Site
from ingest.networks.blocks import convolution_blocks, normed_weight
from ingest.networks.tails import NoPooling, PiecewiseTail, Pooling


class ConvStage(NoPooling):
    """z = bn(conv(h)), then ReLU, and with ``residual`` h on top."""

    def __init__(self, site, module, residual):
        self.gates = ((site.name, site.layout[0]),)
        self._module, self._residual, self._grid = module, residual, site.unit_shape

    def preactivations(self, state):
        return self._module(state[0]).flatten(1)

    def advance(self, state, preactivations):
        after = preactivations.unflatten(1, self._grid).relu()
        return (after + state[0],) if self._residual else (after,)


class BlockedStage(ConvStage):
    """The same without a residual sum, its blocks known."""

    def blocks(self, state):
        conv, *norms = self._module if isinstance(self._module, nn.Sequential) else [self._module]
        weight = normed_weight(SimpleNamespace(conv=conv, bn=norms[0])) if norms else conv.weight.detach()
        return convolution_blocks(weight, state[0].shape[1:], padding=conv.padding)


class PoolStage:
    gates = ()

    def blocks(self, state):
        return ()

    def __init__(self, pool):
        self._pool = pool

    def preactivations(self, state):
        return state[0].new_zeros((len(state[0]), 0))

    def windows(self, state):
        return self._pool.windows(state[0])

    def switches(self, state):
        return self._pool.switches(state[0])

    def advance(self, state, preactivations):
        return (self._pool(state[0]),)


def full_site(name, ordinal, shape):
    channels, rows, columns = shape
    count = channels * rows * columns
    layout = (GateRange(f"{name}.conv", 0, count, (rows, columns)),)
    return Site(f"{name}:full", ordinal, count, count, "relu", True, "full", shape, layout)


def grid_tail(layers, start):
    """A tail of ``layers``: (convolution module, shape of its output, residual) or a MaxPool2d."""
    stages, sites = [], []
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            stages.append(PoolStage(Pooling.of(layer)))
            continue
        module, shape, residual = layer
        sites.append(full_site(f"layer{len(sites) + 1}", len(sites) + 1, shape))
        stages.append((ConvStage if residual else BlockedStage)(sites[-1], module, residual))

    def precise():
        doubled = [
            layer if isinstance(layer, nn.MaxPool2d) else (copy.deepcopy(layer[0]).double(), *layer[1:])
            for layer in layers
        ]
        return grid_tail(doubled, start)

    weight = next(parameter for layer in layers if isinstance(layer, tuple) for parameter in layer[0].parameters())
    return PiecewiseTail(
        full_site("start", 0, start),
        sites,
        stages,
        lambda activations: (activations.unflatten(1, start),),
        lambda state: state[0].flatten(1),
        names=[str(i) for i in range(sites[-1].n_gates)],
        like=weight,
        precise_tail=precise,
    )


def random_convolution(inputs, outputs):
    """With a batch norm of random statistics and offsets."""
    norm = nn.BatchNorm2d(outputs)
    for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 2), (norm.bias.data, -1, 1)):
        values.uniform_(low, high)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm).eval().requires_grad_(False)


def random_grid_tail(seed):
    """18 units, 60 gates in three sites, and a pooling with overlapping windows between the first two; of even seeds
    with a residual sum, of odd ones with blocks that are known."""
    torch.manual_seed(seed)
    return grid_tail(
        [
            (random_convolution(2, 4), (4, 3, 3), False),
            nn.MaxPool2d(2, stride=1),
            (random_convolution(4, 4), (4, 2, 2), seed % 2 == 0),
            (random_convolution(4, 2), (2, 2, 2), False),
        ],
        (2, 3, 3),
    )


def pooled_first_tail(seed):
    """18 units that are pooled, then 20 gates in two sites."""
    torch.manual_seed(seed)
    layers = (random_convolution(2, 3), (3, 2, 2), False), (random_convolution(3, 2), (2, 2, 2), False)
    return grid_tail([nn.MaxPool2d(2, stride=1), *layers], (2, 3, 3))


def wide_grid_tail(residual):
    """2,048 units and 6,144 gates in three sites."""
    torch.manual_seed(0)
    shape = (32, 8, 8)
    return grid_tail([(random_convolution(32, 32), shape, residual and place == 1) for place in range(3)], shape)


def pooled_pixel_tail():
    """Four units in a square, pooled to one, and one gate: max(x) > 1."""
    module = nn.Conv2d(1, 1, 1)
    module.weight.data.fill_(1)
    module.bias.data.fill_(-1)
    return grid_tail([nn.MaxPool2d(2), (module.requires_grad_(False), (1, 1, 1), False)], (1, 2, 2))
