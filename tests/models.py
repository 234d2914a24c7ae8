"""Small language models of the real architectures: random weights and a byte-level tokenizer, made for every run."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

END = "<|endoftext|>"
VOCABULARY = 300
CONTEXT = 64


def tiny_models(root: Path) -> Callable[[str], Path]:
    """A function from an architecture to a folder with a random model of it, as `save_pretrained` writes."""

    @cache
    def folder(architecture: str) -> Path:
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(architecture))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Ten times the usual spread: preactivations far enough from zero for their signs to be beyond
                # float error, and next-token distributions that differ between tokens.
                if parameter.ndim > 1:
                    parameter.mul_(10)
                elif name.endswith("bias"):
                    parameter.normal_(std=0.1)
        path = root / architecture
        model.save_pretrained(path)
        _tokenizer().save_pretrained(path)
        return path

    return folder


SPECIAL: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
GPT2_LIKE: dict[str, Any] = SPECIAL | {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
GPT_LIKE: dict[str, Any] = SPECIAL | {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
DEEP: dict[str, Any] = GPT_LIKE | {"num_hidden_layers": 2, "intermediate_size": 48}
LLAMA_LIKE: dict[str, Any] = DEEP | {"num_key_value_heads": 2, "pad_token_id": 0}
HEADED: dict[str, Any] = LLAMA_LIKE | {"head_dim": 8}
WINDOW: dict[str, Any] = {"sliding_window": 8}
SCALED: dict[str, Any] = HEADED | WINDOW | {"query_pre_attn_scalar": 8}
TURNS: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
LOCAL: dict[str, Any] = {"num_layers": 3, "attention_types": [[["global", "local", "local"], 1]], "window_size": 8}
FFN: dict[str, Any] = {"ffn_dim": 48, "pad_token_id": 1}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT2_LIKE),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT2_LIKE),
    "gptj": ("GPTJConfig", GPT2_LIKE | {"rotary_dim": 8}),
    "codegen": ("CodeGenConfig", GPT2_LIKE | {"rotary_dim": 8}),
    "gpt_neo": (
        "GPTNeoConfig",
        SPECIAL | LOCAL | {"hidden_size": 32, "num_heads": 4, "max_position_embeddings": CONTEXT},
    ),
    "gpt_neox": ("GPTNeoXConfig", DEEP),
    "opt": ("OPTConfig", GPT_LIKE | FFN | {"num_hidden_layers": 2, "word_embed_proj_dim": 32}),
    "xglm": ("XGLMConfig", GPT_LIKE | FFN | {"num_layers": 2}),
    "bloom": ("BloomConfig", SPECIAL | {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", SPECIAL | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT}),
    "falcon": ("FalconConfig", GPT_LIKE | {"num_hidden_layers": 2}),
    "falcon_alibi": ("FalconConfig", GPT_LIKE | {"num_hidden_layers": 2, "alibi": True, "parallel_attn": False}),
    "llama": ("LlamaConfig", LLAMA_LIKE),
    "mistral": ("MistralConfig", LLAMA_LIKE | WINDOW),
    "qwen2": ("Qwen2Config", LLAMA_LIKE),
    "qwen3": ("Qwen3Config", HEADED),
    "phi": ("PhiConfig", DEEP),
    "phi3": ("Phi3Config", LLAMA_LIKE),
    "gemma": ("GemmaConfig", HEADED),
    "gemma2": ("Gemma2Config", SCALED),
    "gemma3": ("Gemma3TextConfig", SCALED | TURNS),
    "stablelm": ("StableLmConfig", LLAMA_LIKE),
    "olmo2": ("Olmo2Config", LLAMA_LIKE),
    "cohere2": ("Cohere2Config", LLAMA_LIKE | WINDOW | TURNS),
    "starcoder2": ("Starcoder2Config", LLAMA_LIKE | WINDOW),
    "glm": ("GlmConfig", HEADED),
    "nemotron": ("NemotronConfig", LLAMA_LIKE),
    "openai_gpt": ("OpenAIGPTConfig", GPT2_LIKE),
    "mixtral": ("MixtralConfig", LLAMA_LIKE | {"num_local_experts": 4}),
    "mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
    "tanh": ("GPT2Config", GPT2_LIKE | {"activation_function": "tanh"}),
}
"""Configurations of transformers, by the names that tests know them under. Windows of 8 are shorter than texts."""


def _config(architecture: str) -> Any:
    import transformers

    name, options = ARCHITECTURES[architecture]
    return getattr(transformers, name)(**options)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, and the dog sat on the log"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, model_max_length=CONTEXT)
