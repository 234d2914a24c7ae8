"""The normalisation that a language model's MLP reads the residual stream through, run by itself.

Block i's MLP reads ``blocks.{i}.ln2`` (LayerNorm or RMSNorm) of the residual stream. That it does is seen, not
presumed: what is computed from the residual stream alone must be the preactivations of the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from atlas.errors import UnsupportedNetwork
from atlas.network import Site, TokenWindow

if TYPE_CHECKING:
    from .gpt2 import CausalLanguageModel

NORM = "ln2"
"""TransformerLens' name of the normalisation before a block's MLP."""

MATCH = 1e-4
"""How near preactivations computed from the residual stream must come, relative to the largest: float32 sums."""


def before_norm(
    network: CausalLanguageModel, batch: Sequence[TokenWindow], sites: Sequence[Site], gate_hooks: Mapping[str, str]
) -> dict[str, Float32[np.ndarray, "examples width"]]:
    """The residual stream before each site's normalisation, at the windows' positions.

    Raises `UnsupportedNetwork` where a site's gates are no function of it: no normalisation there, or another input.
    """
    hooks = {site.name: f"blocks.{site.ordinal}.{NORM}.hook_in" for site in sites}
    missing = [name for name, hook in hooks.items() if hook not in network.bridge.hook_dict]
    if missing:
        raise UnsupportedNetwork(
            f"{network.info.name} has no normalisation of its own before {missing[0]}: TransformerLens shows no "
            f"{hooks[missing[0]]}; GPT-2, Llama, Qwen and Pythia have one"
        )
    gates = {f"gates of {site.name}": gate_hooks[site.name] for site in sites}
    seen = network.look(batch, {**hooks, **gates})
    for site in sites:
        _, found = after_norm(network.bridge, site, seen[site.name], gate_hooks[site.name])
        whole = seen[f"gates of {site.name}"]
        if len(whole) and np.abs(found - whole).max() > MATCH * np.abs(whole).max():
            raise UnsupportedNetwork(
                f"{network.info.name}: the gates of {site.name} do not follow from blocks.{site.ordinal}.{NORM} of "
                "the residual stream alone, so scaling it is no question of that normalisation; expected a block as "
                "in GPT-2, Llama, Qwen or Pythia"
            )
    return {site.name: seen[site.name] for site in sites}


@torch.inference_mode()
def after_norm(
    bridge: Any, site: Site, residual: Float32[np.ndarray, "points width"], gate_hook: str
) -> tuple[Float32[np.ndarray, "points width"], Float32[np.ndarray, "points gates"]]:
    """The normalised residual stream, and the preactivations of the site's gates that follow from it."""
    parameter = next(bridge.original_model.parameters())
    block = bridge.blocks[site.ordinal]
    normalised = getattr(block, NORM)(torch.from_numpy(residual).to(parameter.device, parameter.dtype)[None])
    # The layer that makes the gates, by itself: some MLPs take the residual stream as well, some are no module.
    gates = getattr(block.mlp, gate_hook.split(".")[-2])(normalised)
    return _flat(normalised), _flat(gates)


def _flat(values: Tensor) -> Float32[np.ndarray, "points width"]:
    return values.reshape(-1, values.shape[-1]).to(torch.float32).cpu().numpy()
