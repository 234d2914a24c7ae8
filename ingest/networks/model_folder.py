"""A folder in Hugging Face's format, as somebody handed it over: damaged, perhaps, or hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

import safetensors
from torch import Tensor

from atlas.errors import NetworkError, PolytopeError, UnsupportedNetwork, WeightsError

from .loading import no_numbers, read_state_dict

LARGEST_TEXT = 64 << 20
"""Bytes of a folder's text files. The largest tokenizer in use, Gemma 3's, has 33 MB."""

TEXTS = (".json", ".txt", ".model")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")

LAID_OUT = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of a folder's weights, or of the list of the files that they are in; the first that exists counts."""


def check_folder(folder: Path) -> None:
    """Raise `UnsupportedNetwork` for a folder with a file that is none, or too long to be what its name says."""
    for file in folder.iterdir():
        if file.suffix in (*TEXTS, *WEIGHTS) and not file.is_file():
            raise UnsupportedNetwork(f"{file} is no file; expected a folder as `save_pretrained` writes it")
        if file.suffix in TEXTS and (size := file.stat().st_size) > LARGEST_TEXT:
            raise UnsupportedNetwork(
                f"{file} has {size / 1e6:,.0f} MB; expected at most {LARGEST_TEXT / 1e6:.0f} of a {file.suffix} file"
            )


@contextmanager
def explained(kind: type[NetworkError], what: str, expected: str) -> Iterator[None]:
    """Whatever a library raises of a folder, which may be damaged or hostile, as one sentence: it fails in as many
    ways as there are such folders."""
    try:
        yield
    except PolytopeError:
        raise
    except Exception as error:
        said = shorten(f"{type(error).__name__}: {error}", 300)
        raise kind(f"{what} ({said}). Expected {expected}") from error


def read_folder(folder: Path) -> dict[str, Tensor] | None:
    """The weights of a folder's pickled files. None for safetensors, which transformers reads itself, one by one."""
    laid_out = next((folder / name for name in LAID_OUT if (folder / name).exists()), None)
    if laid_out is None:
        raise WeightsError(f"{folder} holds no weights; expected one of {', '.join(LAID_OUT)}")
    files = _listed_files(laid_out) if laid_out.suffix == ".json" else [laid_out]
    if laid_out.name.startswith("model.safetensors"):
        for file in files:
            _check_dtypes(file)
        return None
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_state_dict(file)[0]
    return state


def _listed_files(index: Path) -> list[Path]:
    """The files that an index of shards names, all of them beside it."""
    content = json.loads(index.read_text(encoding="utf-8"))
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise WeightsError(f"{index} names no files; expected a weight_map from weights to file names")
    files = sorted({index.parent / name for name in named.values()})
    for file in files:
        if file.parent != index.parent or not file.is_file():
            raise WeightsError(f"{index} names {file}, which is no file beside it; copy the whole folder again")
    return files


def _check_dtypes(path: Path) -> None:
    """Raise `WeightsError` for weights that are no floating-point numbers, of which transformers would make some."""
    with safetensors.safe_open(path, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            kind = opened.get_slice(name).get_dtype()
            if name.endswith("weight") and not kind.startswith(("F", "BF")):
                raise no_numbers(path, name, f"of {kind}")
