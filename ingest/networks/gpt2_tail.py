"""A causal language model from one token's MLP hidden vector onward, with the rest of its sequence held fixed.

Attention is causal, so the vector of token p reaches what comes before p nowhere: keys and values of those tokens are
computed once. All points then run as so many versions of token p, each at position p, attending to the tokens before
it and to itself: the cost of a point is that of one token. Versions run *in a row each*, as a model writes the next
token of many texts, which every attention can do; or *side by side*, as one row of tokens whose mask keeps them
apart. That copies no keys (half the time after 150 tokens of GPT-2, a seventh after 900), but takes an attention that
heeds nothing but its mask: torch's, with no window shorter than the sequence and no distances of its own (ALiBi).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import DynamicCache

from atlas.errors import UnknownName, UnsupportedNetwork, UsageError, WidthError
from atlas.network import Site, TokenWindow
from atlas.tails import GateSettings, TailReading

from .packing import pack_bits
from .tails import as_wanted, wanted_of

if TYPE_CHECKING:
    from .gpt2 import CausalLanguageModel

BATCH_BYTES = 1 << 26
"""Bytes of the largest thing that a batch fills: its logits, its mask, or copies of a block's keys and values. 300
points of GPT-2 small side by side, 70 in a row each after 150 tokens."""

MOST_POINTS = 1024

LOGITS = "logits"

MATCH = 1e-3
"""How near logits and preactivations must come to those of a whole pass, relative to their own size and to the root
mean square of all: sums in another order, through every block."""

TRIED = 2
"""Versions of the token that a tail is checked with: more than one, so that they would disturb each other."""

STOPPED = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError)
"""What an attention raises that can't be run so; it is code of others. The refusal of the model says what it was."""


class StoredKeys(DynamicCache):
    """The same keys and values of the tokens before for every row of a batch; what a run adds is not kept."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        before: Any = self.layers[layer_idx]
        layer: Any = copy.copy(before)
        self.layers[layer_idx] = layer
        if before.is_initialized:
            rows = len(key_states)
            layer.keys = before.keys.expand(rows, *before.keys.shape[1:])
            layer.values = before.values.expand(rows, *before.values.shape[1:])
        try:
            return super().update(key_states, value_states, layer_idx, *args, **kwargs)
        finally:
            self.layers[layer_idx] = before

    @classmethod
    @torch.no_grad()
    def of(cls, bridge: Any, tokens: Int64[Tensor, "1 tokens"]) -> StoredKeys:
        read, stored = DynamicCache(config=(config := bridge.original_model.config)), cls(config=config)
        if tokens.shape[1]:
            bridge(tokens, use_cache=True, past_key_values=read)
        stored.layers = read.layers
        return stored

    @property
    def numbers_a_row(self) -> int:
        """How many numbers are copied for a row, in the block that stores most."""
        layers: list[Any] = self.layers
        return max((x.keys.numel() + x.values.numel() for x in layers if x.is_initialized), default=0)


class TokenTail:
    """The blocks after ``blocks.i.mlp`` at one token of a fixed sequence, as a `Tail`. Never exact."""

    exact = False

    def __init__(
        self,
        network: CausalLanguageModel,
        site: Site,
        window: TokenWindow,
        bos: int | None,
        gate_hooks: dict[str, str],
    ) -> None:
        """Raises `UsageError` unless the window has one position, `UnsupportedNetwork` where the architecture can't
        be run token by token with the same result."""
        if len(window.positions) != 1:
            raise UsageError(f"a tail replaces the vector of one token, got {len(window.positions)} positions")
        self._network, self._bridge, self._gate_hooks = network, network.bridge, gate_hooks
        self.site = site
        self.later = tuple(other for other in network.sites if other.ordinal > site.ordinal)
        parameter = next(network.bridge.original_model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        place = int(window.positions[0])
        before = [] if bos is None else [bos]
        self._before = torch.tensor([[*before, *window.ids[:place].tolist()]], dtype=torch.int64, device=self.device)
        self._token = int(window.ids[place])
        self._stored = network.keys_of(self._before)
        # The tied or untied output matrix has one row an output.
        self.n_outputs = int(self._bridge.original_model.get_output_embeddings().weight.shape[0])
        wanted = self._whole_passes()
        # Other attentions than torch's keep masks of their own, whose windows show with more versions than are tried.
        self._side_by_side = self._bridge.original_model.config._attn_implementation == "sdpa"
        self._side_by_side = self._side_by_side and not self._difference(*wanted)
        difference = "" if self._side_by_side else self._difference(*wanted)
        if difference:
            raise UnsupportedNetwork(
                f"{network.info.name} ({network.info.architecture}) can't be run from {site.name} onward: one token "
                f"beside stored keys and values is not what the whole sequence makes of it ({difference}). Expected "
                "a decoder whose tokens reach later ones through keys and values of attention alone, as GPT-2, OPT, "
                "Llama, Mistral and BLOOM are"
            )
        copied = self._before.shape[1] if self._side_by_side else self._stored.numbers_a_row
        widest = max(self.n_outputs, copied)
        self.batch = max(1, min(MOST_POINTS, BATCH_BYTES // (parameter.element_size() * widest)))

    @property
    def remark(self) -> str:
        smooth = "" if self.site.nonlinearity == "relu" else f"{self.site.nonlinearity}, "
        return (
            f"the vector of one token at {self.site.name} is replaced, all other tokens of its sequence stay as they "
            f"are, and codes and logits are read at that token alone; {smooth}attention and LayerNorm are not "
            "piecewise linear: codes are signs of preactivations, not exact regions"
        )

    def output_name(self, output: int) -> str:
        return self._network.token_text(output)

    def logits(self, activations: Float[Tensor, "points units"]) -> Float[Tensor, "points outputs"]:
        """Logits of the next token; autograd works through it. Raises `WidthError` for another width."""
        return self._run(activations, {})

    def preactivations(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site]
    ) -> tuple[Float[Tensor, "points outputs"], dict[str, Float[Tensor, "points gates"]]]:
        """Logits, and preactivations of later blocks at the token; with gradients."""
        seen = self._asked(codes)
        return self._run(activations, seen), seen

    @torch.no_grad()
    def read(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], *, switches: bool = False
    ) -> TailReading:
        """Logits and packed codes at the token. There is no max-pooling: switches, if asked for, are of width 0."""
        logits, seen = self.preactivations(activations, codes)
        none = np.zeros((len(activations), 0), np.uint8) if switches else None
        return TailReading(logits.to(torch.float32).cpu().numpy(), _packed(seen), none)

    @torch.no_grad()
    def read_set(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], settings: GateSettings
    ) -> TailReading:
        """Logits and packed codes at the token with gates set. Raises `WidthError`, `UnknownName`."""
        seen = self._asked([settings.site]) and self._asked(codes)
        logits = self._run(activations, seen, settings)
        return TailReading(logits.to(torch.float32).cpu().numpy(), _packed(seen))

    def _asked(self, codes: Sequence[Site]) -> dict[str, Tensor]:
        """Where the preactivations of these sites will be kept."""
        names = [site.name for site in self.later]
        for site in codes:
            if site.name not in names:
                raise UnknownName(
                    f"no codes of {site.name} after {self.site.name}; the sites after it are "
                    f"{', '.join(names) or 'none'}"
                )
        return {site.name: torch.empty(0) for site in codes}

    def _run(
        self, activations: Tensor, seen: dict[str, Tensor], settings: GateSettings | None = None
    ) -> Float[Tensor, "points outputs"]:
        """Logits of a batch; ``seen`` gets the preactivations of the sites that are its keys, after any setting."""
        if activations.ndim != 2 or activations.shape[1] != self.site.n_units:
            raise WidthError(
                f"activations of {self.site.name} are rows of {self.site.n_units} numbers, got shape "
                f"{tuple(activations.shape)}"
            )
        points = activations.to(self.device, self.dtype)

        def replace(values: Tensor, hook: Any) -> Tensor:
            return points.reshape(values.shape)

        def look(name: str) -> Any:
            def keep(values: Tensor, hook: Any) -> None:
                seen[name] = values.reshape(len(points), -1)

            return keep

        hooks = [(f"{self.site.name}.out.hook_in", replace)]
        if settings is not None:
            wanted, epsilon = wanted_of(settings, points).to(self.device), settings.epsilon

            def set_gates(values: Tensor, hook: Any) -> Tensor:
                return as_wanted(values.reshape(wanted.shape), wanted, epsilon).reshape(values.shape)

            hooks.append((self._gate_hooks[settings.site.name], set_gates))
        hooks += [(self._gate_hooks[name], look(name)) for name in seen]
        n, length = len(points), self._before.shape[1]
        apart: dict[str, Any] = {}
        if self._side_by_side:
            position = torch.full((1, n), length, device=self.device)
            apart = {"attention_mask": _own_and_before(n, length, points), "position_ids": position}
        shape = (1, n) if self._side_by_side else (n, 1)
        with self._bridge.hooks(fwd_hooks=hooks):
            logits: Tensor = self._bridge(
                torch.full(shape, self._token, device=self.device),
                use_cache=True,
                past_key_values=self._stored,
                **apart,
            )
        return logits.reshape(n, -1)

    @torch.no_grad()
    def _whole_passes(self) -> tuple[Float[Tensor, "tried units"], dict[str, Float[Tensor, "tried width"]]]:
        """Points away from the activation (Gaussian, of its norm), and what whole passes make of them: preactivations
        by site, and `LOGITS`."""
        points, seen = torch.empty(0), {}
        whole = torch.cat([self._before, torch.full((1, 1), self._token, device=self.device)], dim=1)

        def replace(values: Tensor, hook: Any) -> Tensor:
            nonlocal points
            values = values.clone()
            rows = values.reshape(TRIED, -1, self.site.n_units)
            noise = torch.randn(TRIED, self.site.n_units, generator=torch.Generator().manual_seed(0))
            size = float(rows[0, -1].square().mean().sqrt()) or 1.0
            points = rows[:, -1] = size * noise.to(self.device, self.dtype)
            return values

        def look(name: str) -> Any:
            def keep(values: Tensor, hook: Any) -> None:
                seen[name] = values.reshape(TRIED, -1, values.shape[-1])[:, -1]

            return keep

        hooks = [(f"{self.site.name}.out.hook_in", replace)]
        hooks += [(self._gate_hooks[site.name], look(site.name)) for site in self.later]
        with self._bridge.hooks(fwd_hooks=hooks):
            seen[LOGITS] = self._bridge(whole.expand(TRIED, -1), use_cache=False)[:, -1]
        return points, seen

    @torch.no_grad()
    def _difference(self, points: Tensor, expected: dict[str, Tensor]) -> str:
        """How what comes of the points differs from what whole passes make of them; nothing where it agrees."""
        if self._stored.get_seq_length() != self._before.shape[1]:
            return "it stores no keys and values of the tokens before"
        try:
            logits, seen = self.preactivations(points, self.later)
        except STOPPED as error:
            return f"it stops with {type(error).__name__}: {error}"
        for name, given in (*seen.items(), (LOGITS, logits)):
            wanted = expected[name]
            size = float(wanted.square().mean().sqrt())
            if not torch.allclose(given, wanted, rtol=MATCH, atol=MATCH * size):
                return f"{name} differ by up to {float((given - wanted).abs().max()) / size:.2g} of their size"
        return ""


def _packed(seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: pack_bits(values > 0).cpu().numpy() for name, values in seen.items()}


def _own_and_before(n: int, length: int, points: Tensor) -> Float[Tensor, "1 1 points keys"]:
    """What is added to the scores of n versions of a token: each attends to the tokens before it and to itself."""
    others = torch.full((n, n), torch.finfo(points.dtype).min, dtype=points.dtype, device=points.device)
    return torch.cat([others.new_zeros(n, length), others.fill_diagonal_(0)], dim=1)[None, None]
