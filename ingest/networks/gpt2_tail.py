"""A causal language model from one token's MLP hidden vector onward, with the rest of its sequence held fixed.

Attention is causal, so the vector of token p reaches what comes before p nowhere: keys and values of those tokens are
computed once. All points then run together as so many versions of token p: each attends to the tokens before p and to
itself, at position p. The cost of a point is that of one token.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from atlas.errors import UnknownName, UnsupportedNetwork, UsageError, WidthError
from atlas.network import Site, TokenWindow
from atlas.tails import GateSettings, TailReading

from .packing import pack_bits
from .tails import as_wanted, wanted_of

if TYPE_CHECKING:
    from .gpt2 import CausalLanguageModel

BATCH_BYTES = 1 << 26
"""Bytes of logits and attention masks of a batch: 300 points of GPT-2 small."""

MOST_POINTS = 1024

MATCH = {"rtol": 1e-3, "atol": 1e-4}
"""How near the preactivations computed with stored keys and values must come to those of a whole pass, relative to
the largest: sums in another order, through every block."""

TRIED = 3
"""Versions of the token run when a tail checks itself: more than one, so that they would disturb each other."""


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
        self._cache = self._read_before()
        # The tied or untied output matrix has one row an output.
        self.n_outputs = int(self._bridge.original_model.get_output_embeddings().weight.shape[0])
        widest = max(self.n_outputs, self._before.shape[1])
        self.batch = max(1, min(MOST_POINTS, BATCH_BYTES // (parameter.element_size() * widest)))
        if len(self._before[0]) > network.longest_checked:  # a sliding window would show in longer ones alone
            self._check(window)
            network.longest_checked = len(self._before[0])

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

    @torch.no_grad()
    def _read_before(self) -> Any:
        """Keys and values of the tokens before the one that is replaced."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self._bridge.original_model.config)
        if self._before.shape[1]:
            self._bridge(self._before, use_cache=True, past_key_values=cache)
        return cache

    def _stored(self) -> Any:
        """The keys and values of the tokens before, in a cache of its own: a run adds to its cache."""
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        return cache

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
        with self._bridge.hooks(fwd_hooks=hooks):
            logits: Tensor = self._bridge(
                torch.full((1, n), self._token, device=self.device),
                use_cache=True,
                past_key_values=self._stored(),
                attention_mask=_own_and_before(n, length, self.device),
                position_ids=torch.full((1, n), length, device=self.device),
            )
        return logits[0]

    @torch.no_grad()
    def _check(self, window: TokenWindow) -> None:
        """Run the true activation and compare with the whole sequence read at once."""
        expected: dict[str, Tensor] = {}

        def look(values: Tensor, hook: Any) -> None:
            expected[hook.name] = values.reshape(-1, values.shape[-1])[-1]

        whole = torch.cat([self._before, torch.full((1, 1), self._token, device=self.device)], dim=1)
        names = [f"{self.site.name}.out.hook_in", *(self._gate_hooks[site.name] for site in self.later)]
        with self._bridge.hooks(fwd_hooks=[(name, look) for name in names]):
            logits = self._bridge(whole, use_cache=False)[0, -1]
        true = expected[names[0]]
        others = [true * (1 + step / TRIED) for step in range(1, TRIED)]  # what must not reach the first
        found, seen = self.preactivations(torch.stack([true, *others]), self.later)
        pairs = [(found[0], logits), *((seen[s.name][0], expected[self._gate_hooks[s.name]]) for s in self.later)]
        for given, wanted in pairs:
            slack = MATCH["rtol"] * float(wanted.abs().max()) + MATCH["atol"]
            if not torch.allclose(given, wanted, rtol=0, atol=slack):
                raise UnsupportedNetwork(
                    f"{self._network.info.name} can't be run from {self.site.name} onward: one token beside stored "
                    "keys and values gives other numbers than the whole sequence does. Expected a decoder with full "
                    "causal attention, as GPT-2, Llama, Qwen and Pythia have (no sliding window shorter than the "
                    "sequence)"
                )


def _packed(seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: pack_bits(values > 0).cpu().numpy() for name, values in seen.items()}


def _own_and_before(n: int, length: int, device: Any) -> Bool[Tensor, "1 1 points keys"]:
    """Each of n versions of a token attends to the tokens before it and to itself, not to the other versions."""
    before = torch.ones(n, length, dtype=torch.bool, device=device)
    return torch.cat([before, torch.eye(n, dtype=torch.bool, device=device)], dim=1)[None, None]
