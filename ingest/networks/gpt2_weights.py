"""A causal language model in Hugging Face's format: from a folder and a choice of weights to a network to read."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors

from atlas.errors import UnsupportedNetwork, UsageError, WeightsError
from atlas.network import NetworkInfo

from .demo import GPT2_DIR
from .gpt2 import LONGEST_DEFAULT, CausalLanguageModel, check_architecture, find_sites
from .hub import fetch_model
from .loading import WeightsChoice, check_fit, read_state_dict, resolve_device, weights_digest
from .model_folder import check_folder, explained, read_folder
from .registry import LoadRequest

DEMO = "demo:gpt2"
ACTIVATION_FIELDS = ("activation_function", "hidden_activation", "hidden_act", "activation")
"""Where Hugging Face's configurations name the nonlinearity; Gemma's second field overrules its older third."""

MOST_LAYERS = 1000
"""Blocks of a network: five times those of the deepest language models."""


@dataclass(frozen=True)
class Options:
    """How texts are read: a beginning-of-sequence token before each window (None: as TransformerLens does for the
    model), and the tokens of a window, that token included (None: the model's context, at most 1,024)."""

    prepend_bos: bool | None = None
    max_length: int | None = None


def load(request: LoadRequest, options: Options) -> CausalLanguageModel:
    """Load ``demo:gpt2``, a folder in Hugging Face's format, or a model of the hub.

    Raises `HubUnavailable` and `UnknownName` for a hub name that can't be had, `WeightsError` for weights that do
    not fit, `UnsupportedNetwork` for a model without MLPs to read, `UsageError` for an impossible argument.
    """
    source = request.source
    target = resolve_device(request.device)
    choice = WeightsChoice.parse(request.weights, _own_weights(source))
    origin = _Origin.find(source, with_weights=choice.kind == "own")
    # The random numbers drawn on the way are nobody's business: the caller's sequence goes on as it was.
    with _quietly(), torch.random.fork_rng(devices=[]):
        config = _read_config(origin)
        tokenizer = _read_tokenizer(origin)
        model = _load_model(origin, config, choice)
        digest = weights_digest(model.state_dict())
        bridge = _bridge(model.to(target), tokenizer, origin)
    with explained(UnsupportedNetwork, f"{origin.shown} can't be run", "a causal language model as GPT-2 or Llama"):
        check_architecture(bridge, origin.shown)
        sites, gate_hooks = find_sites(bridge, origin.shown, _configured_activation(config))
    info = NetworkInfo(
        name=request.name or origin.name + choice.name_suffix,
        architecture=type(model).__name__,
        kind="text",
        source=origin.recorded,
        weights=choice.recorded(_own_weights(source)),
        weights_digest=digest,
        reading=_settle(options, bridge, tokenizer, origin.shown),
    )
    # What follows tokenization adds special tokens, which nobody asks for here, and may cut the space off a token.
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    return CausalLanguageModel(bridge, tokenizer, info, sites, gate_hooks)


@dataclass(frozen=True)
class _Origin:
    """Where a model comes from: its local folder, and what it is called: in messages, by default, and in an atlas,
    where ``recorded`` must find it again."""

    folder: Path
    shown: str
    name: str
    recorded: str

    @classmethod
    def find(cls, source: str, with_weights: bool) -> _Origin:
        if source == DEMO:
            return cls(GPT2_DIR, source, source.replace(":", "-"), source)
        folder = Path(source).expanduser()
        if folder.is_dir():
            folder = folder.resolve()
            return cls(folder, source, folder.name, str(folder))
        folder = fetch_model(source, with_weights)
        return cls(folder, source, source.rpartition("/")[2], source)


def _own_weights(source: str) -> str:
    """What an atlas calls the weights that come with a source; a local folder's are found by its path."""
    if source == DEMO:
        return "demo"
    folder = Path(source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else "hub"


def _read_config(origin: _Origin) -> Any:
    from transformers import AutoConfig

    what = f"{origin.shown}: {origin.folder} has no configuration that transformers knows"
    expected = "a folder with config.json, tokenizer and weights as `save_pretrained` writes; code in it is never run"
    check_folder(origin.folder)
    with explained(UnsupportedNetwork, what, expected):
        config = AutoConfig.from_pretrained(origin.folder, trust_remote_code=False)
        if (layers := config.get_text_config().num_hidden_layers) > MOST_LAYERS:
            raise UnsupportedNetwork(
                f"{origin.shown}: config.json says {layers} layers; expected {MOST_LAYERS} at most"
            )
    if getattr(config, "quantization_config", None) is not None:
        raise UnsupportedNetwork(
            f"{origin.shown}: its weights are quantised (quantization_config in config.json), and its gates "
            "would not be those of the network; expected floating-point weights"
        )
    return config


def _read_tokenizer(origin: _Origin) -> Any:
    from transformers import AutoTokenizer

    what = f"{origin.shown}: no tokenizer can be read from {origin.folder}"
    with explained(UnsupportedNetwork, what, "tokenizer.json, as `tokenizer.save_pretrained` writes"):
        tokenizer = AutoTokenizer.from_pretrained(origin.folder, trust_remote_code=False)
    # From a folder without one, transformers makes an empty tokenizer of the right class.
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((origin.folder / file).is_file() for file in files):
        raise UnsupportedNetwork(
            f"{origin.shown}: {origin.folder} holds no tokenizer; expected tokenizer.json, as "
            "`tokenizer.save_pretrained` writes"
        )
    if not tokenizer.is_fast:
        raise UnsupportedNetwork(
            f"{origin.shown}: its tokenizer {type(tokenizer).__name__} does not tell which "
            "characters a token stands for; a fast one (tokenizer.json) is needed"
        )
    return tokenizer


def _load_model(origin: _Origin, config: Any, choice: WeightsChoice) -> Any:
    """The Hugging Face model, on the CPU, in float32, in evaluation mode."""
    model_class = _model_class(origin, config)
    if choice.is_control:
        # No batch norm, so the two controls are the same. Drawn on the CPU: every machine gets the same weights.
        torch.manual_seed(choice.seed)
        with explained(UnsupportedNetwork, f"{origin.shown}: config.json describes no network", "sizes above 0"):
            return model_class._from_config(config, dtype=torch.float32).eval()
    path = choice.path or origin.folder
    what, expected = f"weights {path} can't be loaded into {origin.shown}", "a model as `save_pretrained` writes it"
    with explained(WeightsError, what, expected):
        state = read_folder(path) if path.is_dir() else read_state_dict(path)[0]
        # Whatever does not fit is reported here instead of drawn at random, which is transformers' habit.
        model, fit = model_class.from_pretrained(
            path if state is None else None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            weights_only=True,
        )
    check_fit(path, origin.shown, fit["missing_keys"], fit["unexpected_keys"], list(fit["mismatched_keys"]))
    return model.eval()


def _model_class(origin: _Origin, config: Any) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        raise UnsupportedNetwork(
            f"{origin.shown} is a {config.model_type}, which transformers does not know as a "
            "causal language model; GPT-2, Llama, Qwen, Pythia … are"
        ) from None


def _bridge(model: Any, tokenizer: Any, origin: _Origin) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    attention = model.config._attn_implementation
    what = f"{origin.shown}: TransformerLens has no bridge for {type(model).__name__}"
    with explained(UnsupportedNetwork, what, "a model as GPT-2, Llama, Qwen or Pythia"):
        # A copy: the bridge gives the tokenizer tokens that it did not have.
        bridge = TransformerBridge.boot_transformers(
            str(origin.folder), hf_model=model, tokenizer=copy.deepcopy(tokenizer), device=str(model.device)
        )
    _restore_attention(bridge, attention)
    return bridge


def _restore_attention(bridge: Any, implementation: str) -> None:
    """Put Hugging Face's own attention back into the model.

    The bridge's attention computes and keeps every pattern, so that one may hook it: a third more time, and
    heads × length² floats a layer that stay in memory. Nothing here reads a pattern, and the result is the same.
    """
    from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    for parent in list(bridge.original_model.modules()):
        if isinstance(parent, GeneralizedComponent):
            continue  # the bridge's own tree keeps its components: hooks are found by name there
        for name, child in list(parent.named_children()):
            if isinstance(child, AttentionBridge):
                setattr(parent, name, child.original_component)
    bridge.original_model.set_attn_implementation(implementation)


def _configured_activation(config: Any) -> str | None:
    for field in ACTIVATION_FIELDS:
        name = getattr(config, field, None)
        if isinstance(name, str):
            return name
    return None


def _settle(options: Options, bridge: Any, tokenizer: Any, shown: str) -> dict[str, Any]:
    """All that decides how a text is read, with defaults filled in; what `NetworkInfo.reading` holds."""
    has_bos = tokenizer.bos_token_id is not None
    prepend_bos = options.prepend_bos
    if prepend_bos is None:
        prepend_bos = has_bos and bool(bridge.cfg.default_prepend_bos)
    if prepend_bos and not has_bos:
        raise UsageError(f"{shown} has no beginning-of-sequence token; leave prepend_bos out, or pass False")
    context = int(bridge.cfg.n_ctx)
    max_length = min(LONGEST_DEFAULT, context) if options.max_length is None else options.max_length
    shortest = 1 + prepend_bos
    if not shortest <= max_length <= context:
        raise UsageError(
            f"max_length {max_length} is impossible for {shown}; expected {shortest} to {context}, "
            "the model's context"
        )
    return {"prepend_bos": prepend_bos, "max_length": max_length, "processed_weights": False}


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' progress bars and loading reports from the terminal; what matters in them is raised."""
    from transformers.utils import logging as transformers_logging

    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
