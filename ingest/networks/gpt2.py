"""GPT-2 and other causal language models, read through TransformerLens' `TransformerBridge`.

A site is the hidden layer of one MLP, ``blocks.{i}.mlp``. Its gates are the signs of the preactivations: for a plain
MLP ``act(W x)`` those of ``W x`` (``blocks.{i}.mlp.in.hook_out``), for a gated one ``act(G x) · (W x)`` those of
``G x`` (``blocks.{i}.mlp.gate.hook_out``). Its activation is the MLP's hidden vector, what enters the output matrix
(``blocks.{i}.mlp.out.hook_in``). Attention and LayerNorm are not piecewise linear and GELU is smooth, so equal codes
do not mean equal affine maps here: ``exact`` is always False.

The bridge keeps Hugging Face's weights as they are (no LayerNorm folding, no centring); ``reading`` records that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from atlas.errors import BadInput, UnknownName, UnsupportedNetwork, UsageError
from atlas.network import GateRange, Network, NetworkInfo, Reading, Site, Tokens, TokenWindow, View

from .packing import finite_rows, pack_positive

if TYPE_CHECKING:
    from .gpt2_tail import StoredKeys, TokenTail

LONGEST_DEFAULT = 1024
"""Tokens of a sequence unless the user says otherwise: GPT-2's whole context, and no model's memory is strained."""

UNEMBED = "unembed.hook_in"

GATING = (
    "gelu_new",
    "gelu",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "quick_gelu",
    "gelu_python",
    "relu",
    "relu2",
    "silu",
    "swish",
    "mish",
)
"""Nonlinearities, by Hugging Face's names, of the form act(z) = z · g(z) with a gate g that opens as z grows
(Hendrycks & Gimpel, arXiv 1606.08415; SCIENCE 8). Only for these does the sign of z say that a unit is on."""

MATCH = {"rtol": 1e-4, "atol": 1e-6}
"""How near act(z) must come to the activation that was read: a little more than float32 error."""

Hook = Callable[..., Tensor | None]


class CausalLanguageModel:
    """A causal language model as a `TextNetwork`. Made by `ingest.networks.load_network`.

    ``bridge`` is the live TransformerBridge, for experiments that intervene on it.
    """

    def __init__(
        self,
        bridge: Any,
        tokenizer: Any,
        info: NetworkInfo,
        sites: tuple[Site, ...],
        gate_hooks: Mapping[str, str],
    ) -> None:
        """``gate_hooks`` names for each site the hook of its preactivations; see `find_sites`."""
        self.bridge = bridge
        self._tokenizer = tokenizer
        self._info = info
        self._sites = sites
        self._gate_hooks = dict(gate_hooks)
        self._bos: int | None = tokenizer.bos_token_id if info.reading["prepend_bos"] else None
        self._vocabulary: int = bridge.original_model.get_input_embeddings().num_embeddings
        self._texts: dict[int, str] = {}
        self._stored: tuple[list[int], StoredKeys] | None = None

    @property
    def info(self) -> NetworkInfo:
        return self._info

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        device: torch.device = next(self.bridge.original_model.parameters()).device
        return device

    def elsewhere(self) -> Callable[..., Network]:
        """Loads it from where it was loaded from: a model may be larger than what is sent from process to process."""
        from . import reload_network

        return partial(reload_network, self.info)

    def tokenize(self, text: str) -> Tokens:
        """All tokens of ``text``, without special ones, and the characters [start, end) of each.

        A character of several bytes may belong to several tokens; each then stands for the whole character. Raises
        `BadInput` for a token for which the network has no embedding.
        """
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        ids = np.asarray(encoded["input_ids"], dtype=np.int64)
        unknown = np.flatnonzero(ids >= self._vocabulary)
        if len(unknown):
            first = unknown[0]
            raise BadInput(
                f"holds {text[offsets[first, 0] : offsets[first, 1]]!r}, token {ids[first]} of the tokenizer, and "
                f"the embedding of network {self.info.name} has rows for tokens below {self._vocabulary}"
            )
        return Tokens(ids, offsets[:, 0], offsets[:, 1])

    def windows(self, n_tokens: int) -> list[range]:
        """Consecutive windows of as many tokens as fit beside a beginning-of-sequence token; the last is shorter."""
        step = self._window_length
        return [range(start, min(start + step, n_tokens)) for start in range(0, n_tokens, step)]

    def token_text(self, token: int) -> str:
        """The text of a token, with its leading space; ``[token 50300]`` for an output that is no token."""
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = _token_text(self._tokenizer, token)
        return text

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """Run windows together and read the given sites at the windows' positions.

        Windows may differ in length: shorter ones are padded on the right, where causal attention never looks.
        Vocabulary logits are computed at the positions only: examples × vocabulary floats on the device.

        Raises `UsageError` for a window or position that does not fit, `UnknownName` for a foreign site.
        """
        self._check_sites(codes, activations)
        self._check_windows(batch)
        sampled = _Sampled.of(batch, self._bos, self.device)
        if not len(sampled.rows):
            return _empty_reading(codes, activations)
        probe = _Probe(sampled)
        hooks = [(self._gate_hooks[site.name], probe.gate_hook(site.name)) for site in codes]
        hooks += [(f"{site.name}.out.hook_in", probe.activation_hook(site.name)) for site in activations]
        logits = _run(self.bridge, sampled, [*hooks, (UNEMBED, probe.unembed_hook)])
        predicted, probability, loss = _outcome(logits, sampled.targets)
        return Reading(
            codes={name: packed.cpu().numpy() for name, packed in probe.codes.items()},
            activations={name: values.cpu().numpy() for name, values in probe.activations.items()},
            finite={name: finite.cpu().numpy() for name, finite in probe.finite.items()},
            prediction=[self.token_text(token) for token in predicted.tolist()],
            probability=probability.cpu().numpy(),
            loss=loss.cpu().numpy(),
        )

    def tail(self, site: Site, work: View | None = None) -> TokenTail:
        """What comes after ``site`` at the one position of the sequence ``work``, all else in it held fixed.

        Raises `UsageError` without such a sequence, `UnknownName` for a foreign site, `UnsupportedNetwork` for an
        architecture that can't be run token by token.
        """
        from .gpt2_tail import TokenTail

        self._check_sites([site], [])
        if not isinstance(work, TokenWindow):
            raise UsageError(
                f"{self._info.name} runs on from {site.name} within a sequence; give the TokenWindow "
                "whose token is replaced"
            )
        self._check_windows([work])
        return TokenTail(self, site, work, self._bos, self._gate_hooks)

    def keys_of(self, tokens: Int64[Tensor, "1 tokens"]) -> StoredKeys:
        """Keys and values of a sequence. The last ones are kept: tails of several sites ask for the same."""
        from .gpt2_tail import StoredKeys

        if self._stored is None or self._stored[0] != tokens[0].tolist():
            self._stored = tokens[0].tolist(), StoredKeys.of(self.bridge, tokens)
        return self._stored[1]

    def preactivations(
        self, batch: Sequence[TokenWindow], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "examples gates"]]:
        """Preactivations of the sites' gates at the windows' positions. Raises as `read` does."""
        self._check_sites(sites, [])
        return self.look(batch, {site.name: self._gate_hooks[site.name] for site in sites})

    def before_norm(
        self, batch: Sequence[TokenWindow], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "examples width"]]:
        """The residual stream before the normalisation that each site's MLP reads. Raises as `read` does, and
        `UnsupportedNetwork` where the MLP reads something else."""
        from .norms import before_norm

        self._check_sites(sites, [])
        return before_norm(self, batch, sites, self._gate_hooks)

    def after_norm(
        self, site: Site, residual: Float32[np.ndarray, "points width"]
    ) -> tuple[Float32[np.ndarray, "points width"], Float32[np.ndarray, "points gates"]]:
        """What the normalisation of a site's MLP makes of a residual stream, and the preactivations that follow."""
        from .norms import after_norm

        self._check_sites([site], [])
        return after_norm(self.bridge, site, residual, self._gate_hooks[site.name])

    def look(
        self, batch: Sequence[TokenWindow], hooks: Mapping[str, str]
    ) -> dict[str, Float32[np.ndarray, "examples width"]]:
        """What hooks of the bridge see at the windows' positions, under the names given: {name: hook}."""
        self._check_windows(batch)
        probe = _Probe(sampled := _Sampled.of(batch, self._bos, self.device))
        taking = [(hook, probe.value_hook(name)) for name, hook in hooks.items()]
        _run(self.bridge, sampled, [*taking, (UNEMBED, probe.unembed_hook)])
        return {name: values.to(torch.float32).cpu().numpy() for name, values in probe.values.items()}

    @property
    def _window_length(self) -> int:
        return int(self._info.reading["max_length"]) - (self._bos is not None)

    def _check_sites(self, codes: Sequence[Site], activations: Sequence[Site]) -> None:
        for site in (*codes, *activations):
            if site.name not in self._gate_hooks:
                raise UnknownName(
                    f"{self._info.name} has no site {site.name!r}; its sites: {', '.join(self._gate_hooks)}"
                )

    def _check_windows(self, batch: Sequence[TokenWindow]) -> None:
        longest, vocabulary = self._window_length, self.bridge.original_model.get_input_embeddings().num_embeddings
        for window in batch:
            n_tokens, positions = len(window.ids), window.positions
            if n_tokens and not (window.ids.min() >= 0 and window.ids.max() < vocabulary):
                raise UsageError(
                    f"tokens {window.ids.min()} to {window.ids.max()}; {self._info.name} knows 0 to "
                    f"{vocabulary - 1} (make tokens with `tokenize`)"
                )
            if n_tokens > longest:
                raise UsageError(
                    f"a window has {n_tokens} tokens; {self._info.name} reads at most {longest} "
                    "(cut texts with `windows`)"
                )
            if len(positions) and (positions.min() < 0 or positions.max() >= n_tokens):
                raise UsageError(
                    f"positions {positions.min()} to {positions.max()} in a window of {n_tokens} "
                    f"tokens; expected 0 to {n_tokens - 1}"
                )


def _token_text(tokenizer: Any, token: int) -> str:
    piece = tokenizer.convert_ids_to_tokens(token)
    if piece is None:  # embeddings are often padded beyond the vocabulary
        return f"[token {token}]"
    text: str = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    # SentencePiece marks a leading space, which its decoder drops at the start of a text.
    return f" {text}" if piece.startswith("▁") and not text.startswith(" ") else text


def _empty_reading(codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
    return Reading(
        codes={site.name: np.zeros((0, site.n_bytes), np.uint8) for site in codes},
        activations={site.name: np.zeros((0, site.n_units), np.float32) for site in activations},
        finite={site.name: np.zeros(0, np.bool_) for site in (*codes, *activations)},
        prediction=[],
        probability=np.zeros(0, np.float32),
        loss=np.zeros(0, np.float32),
    )


@dataclass(frozen=True)
class _Sampled:
    """A padded batch on the device, and the places in it that are examples.

    ``mask`` is None where no window is padded. ``targets`` is the next token of each example, −1 where none is known.
    """

    ids: Int64[Tensor, "windows length"]
    mask: Int64[Tensor, "windows length"] | None
    rows: Int64[Tensor, " examples"]
    columns: Int64[Tensor, " examples"]
    targets: Int64[Tensor, " examples"]

    @classmethod
    def of(cls, batch: Sequence[TokenWindow], bos: int | None, device: torch.device) -> _Sampled:
        shift = int(bos is not None)
        lengths = [len(window.ids) + shift for window in batch]
        ids = np.zeros((len(batch), max(lengths, default=0)), dtype=np.int64)
        for row, (window, length) in enumerate(zip(batch, lengths, strict=True)):
            if bos is not None:
                ids[row, 0] = bos
            ids[row, shift:length] = window.ids
        # Without padding no mask is given: causal attention then takes its fastest kernel.
        mask = np.arange(ids.shape[1]) < np.array(lengths)[:, None] if len(set(lengths)) > 1 else None
        empty = [np.zeros(0, dtype=np.int64)]
        rows = np.repeat(np.arange(len(batch)), [len(window.positions) for window in batch])
        columns = np.concatenate([*empty, *(window.positions + shift for window in batch)])
        targets = np.concatenate([*empty, *(_targets(window) for window in batch)])

        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            on_device(ids),
            None if mask is None else on_device(mask.astype(np.int64)),
            on_device(rows),
            on_device(columns),
            on_device(targets),
        )


def _targets(window: TokenWindow) -> Int64[np.ndarray, " examples"]:
    """The token after each position, −1 where the text ends."""
    last = -1 if window.following is None else window.following
    following = np.append(window.ids[1:], last).astype(np.int64)
    return following[window.positions]


@dataclass
class _Probe:
    """Hooks that take the sampled positions out of whole-sequence tensors while these still exist."""

    sampled: _Sampled
    codes: dict[str, UInt8[Tensor, "examples bytes"]] = field(default_factory=dict)
    activations: dict[str, Float[Tensor, "examples units"]] = field(default_factory=dict)
    finite: dict[str, Bool[Tensor, " examples"]] = field(default_factory=dict)
    values: dict[str, Float[Tensor, "examples width"]] = field(default_factory=dict)

    def value_hook(self, name: str) -> Hook:
        def take(values: Tensor, hook: Any) -> None:
            self.values[name] = self._gather(values)

        return take

    def gate_hook(self, site: str) -> Hook:
        def take(values: Tensor, hook: Any) -> None:
            preactivations = self._gather(values)
            self.codes[site] = pack_positive(preactivations)
            self._note(site, preactivations)

        return take

    def activation_hook(self, site: str) -> Hook:
        def take(values: Tensor, hook: Any) -> None:
            self.activations[site] = self._gather(values)
            self._note(site, self.activations[site])

        return take

    def unembed_hook(self, values: Float[Tensor, "windows length width"], hook: Any) -> Tensor:
        """Hand on the sampled positions alone, as one sequence: logits of the others are never computed."""
        return self._gather(values)[None]

    def _gather(self, values: Float[Tensor, "*sequence width"]) -> Float[Tensor, "examples width"]:
        # Some models flatten windows and positions into one axis before the MLP.
        shaped = values.reshape(*self.sampled.ids.shape, values.shape[-1])
        return shaped[self.sampled.rows, self.sampled.columns]

    def _note(self, site: str, values: Float[Tensor, "examples width"]) -> None:
        finite = finite_rows(values)
        self.finite[site] = self.finite[site] & finite if site in self.finite else finite


def _run(bridge: Any, sampled: _Sampled, hooks: Sequence[tuple[str, Hook]]) -> Float[Tensor, "examples vocabulary"]:
    """One forward pass with hooks, the last of which hands on the sampled positions."""
    extra = {} if sampled.mask is None else {"attention_mask": sampled.mask}
    with torch.inference_mode(), bridge.hooks(fwd_hooks=list(hooks)):
        logits: Tensor = bridge(sampled.ids, use_cache=False, **extra)
    return logits[0]


def _outcome(
    logits: Float[Tensor, "examples vocabulary"], targets: Int64[Tensor, " examples"]
) -> tuple[Int64[Tensor, " examples"], Float[Tensor, " examples"], Float[Tensor, " examples"]]:
    """The likeliest token, its probability, and −log p(target) in nats (NaN where the target is −1)."""
    total = logits.logsumexp(dim=1)
    best, predicted = logits.max(dim=1)
    loss = total - logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    return predicted, (best - total).exp(), loss.masked_fill(targets < 0, float("nan"))


def check_architecture(bridge: Any, name: str) -> None:
    """Raise `UnsupportedNetwork` for a model whose MLPs are no single element-wise layer each."""
    if bridge.cfg.attention_dir != "causal" or not bridge.adapter.supports_causal_loss:
        raise UnsupportedNetwork(
            f"{name} ({bridge.cfg.architecture}) is no causal language model; "
            "GPT-2, Llama, Qwen, Pythia and the like are"
        )
    if bridge.cfg.num_experts:
        raise UnsupportedNetwork(
            f"{name} ({bridge.cfg.architecture}) routes each token to some of {bridge.cfg.num_experts} experts, so "
            "tokens have no gates in common to compare; choose a model without a mixture of experts"
        )


def find_sites(bridge: Any, name: str, configured: str | None) -> tuple[tuple[Site, ...], dict[str, str]]:
    """The MLP sites of a model, and for each the hook of its preactivations.

    A run over two tokens shows that the hooks fire and that act(z) is the activation, for the nonlinearity that the
    configuration names (``configured``) or, where it names none or another, one of `GATING`.

    Raises `UnsupportedNetwork` for a model with another kind of layer.
    """
    sites, gate_hooks = [], {}
    seen = _look(bridge, name)
    for ordinal in range(bridge.cfg.n_layers):
        site = f"blocks.{ordinal}.mlp"
        hidden = seen[f"{site}.out.hook_in"]
        gated = f"{site}.gate.hook_out" in seen
        hook = f"{site}.{'gate' if gated else 'in'}.hook_out"
        factor = seen[f"{site}.in.hook_out"] if gated else torch.ones(())
        nonlinearity = _nonlinearity(seen[hook], factor, hidden, configured)
        if nonlinearity is None:
            raise UnsupportedNetwork(
                f"{name}: {site} computes no element-wise z · g(z) from {hook} (its configuration says "
                f"{configured or 'nothing'}), so the signs there are no spline code; "
                f"expected one of {', '.join(GATING)}"
            )
        width = hidden.shape[-1]
        layout = (GateRange(hook.removesuffix(".hook_out"), 0, width),)
        sites.append(Site(site, ordinal, width, width, nonlinearity, False, unit_shape=(width,), layout=layout))
        gate_hooks[site] = hook
    return tuple(sites), gate_hooks


def _look(bridge: Any, name: str) -> dict[str, Float[Tensor, "tokens units"]]:
    """What the MLP hooks of all blocks see of two tokens; `UnsupportedNetwork` where one is missing or silent."""
    needed = [f"blocks.{i}.mlp.{part}" for i in range(bridge.cfg.n_layers) for part in ("in.hook_out", "out.hook_in")]
    gates = [f"blocks.{i}.mlp.gate.hook_out" for i in range(bridge.cfg.n_layers)]
    seen: dict[str, Tensor] = {}

    def look(values: Tensor, hook: Any) -> None:
        seen[hook.name] = values.detach().reshape(-1, values.shape[-1]).cpu()

    names = [hook for hook in (*needed, *gates) if hook in bridge.hook_dict]
    last_only = TokenWindow(np.array([0, 1]), np.array([1]))
    sampled = _Sampled.of([last_only], None, next(bridge.original_model.parameters()).device)
    probe = _Probe(sampled)
    logits = _run(bridge, sampled, [*((hook, look) for hook in names), (UNEMBED, probe.unembed_hook)])
    silent = [hook for hook in needed if hook not in seen]
    if silent:
        raise UnsupportedNetwork(
            f"{name} ({bridge.cfg.architecture}) has no MLP with a hidden layer to read in "
            f"every block: TransformerLens shows no {silent[0]}"
        )
    if logits.shape[0] != 1:
        raise UnsupportedNetwork(
            f"{name} ({bridge.cfg.architecture}) makes its logits from something other than "
            f"{UNEMBED}, so they can't be had for the sampled tokens alone"
        )
    return seen


def _nonlinearity(
    preactivations: Float[Tensor, "tokens units"],
    factor: Float[Tensor, "*tokens_units"],
    hidden: Float[Tensor, "tokens units"],
    configured: str | None,
) -> str | None:
    """The name of the act in ``GATING`` with act(preactivations) · factor = hidden; None if none fits."""
    from transformers.activations import ACT2FN

    # The configured one first: nearly equal functions (gelu, gelu_new) can't be told apart near zero.
    candidates = [configured] if configured in GATING else []
    for candidate in (*candidates, *GATING):
        expected = ACT2FN[candidate](preactivations) * factor
        if expected.shape == hidden.shape and torch.allclose(expected, hidden, **MATCH, equal_nan=True):
            return candidate
    return None
