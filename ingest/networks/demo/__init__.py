"""The two networks whose weights ship with the package, trained by `python tools/train_demo.py`."""

from pathlib import Path

_HERE = Path(__file__).parent

GPT2_DIR = _HERE / "gpt2"
"""A GPT-2 of 4 layers, width 128 and context 256 in Hugging Face's format, with its tokenizer of 2,048 tokens."""

INCEPTIONV1_WEIGHTS = _HERE / "inceptionv1-digits.safetensors"
"""A GoogLeNet of width 0.25 that reads digits at 64 x 64; the file's metadata says how to feed it."""
