"""Weights and configurations from the Hugging Face hub and torchvision's server, or an error within seconds.

Both libraries would retry for half a minute, or wait without limit, where there is no connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from atlas.errors import HubUnavailable, UnknownName, UsageError

from ..connection import why_unreachable
from .registry import SOURCES

CONFIGURATION = ["*.json", "*.txt", "*.model", "*.jinja"]
"""What a Hugging Face repository holds besides weights: configuration, vocabulary, merges, chat template."""
WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
PICKLED_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
NOT_NEEDED = ["*/*", "consolidated*"]
"""Other formats of the same model: folders (onnx/, original/) and Mistral's own file."""


def fetch_model(name: str, with_weights: bool) -> Path:
    """The local folder of a model of the Hugging Face hub, from its cache or downloaded now.

    Where the hub can't be reached, a complete copy in the cache serves. HF_HUB_OFFLINE is respected.
    Raises `HubUnavailable` where there is neither, `UnknownName` where the hub shows no such model.
    """
    folder = _snapshot(name, CONFIGURATION + (WEIGHTS if with_weights else []))
    if with_weights and not any(folder.glob("*.safetensors")):
        folder = _snapshot(name, CONFIGURATION + PICKLED_WEIGHTS)
    return folder


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # of the HTTP library below: a proxy that refuses, for one
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=NOT_NEEDED))
    except HFValidationError as error:
        raise UsageError(
            f"network {name!r} is neither a folder here nor a name that a hub could have; expected {SOURCES}"
        ) from error
    except GatedRepoError as error:
        raise HubUnavailable(
            f"{name!r} is gated on the Hugging Face hub: accept its licence on "
            f"https://huggingface.co/{name} and run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UnknownName(
            f"network {name!r} is neither a folder here nor a model that the Hugging Face hub shows "
            "you; check the name, or run `hf auth login` if it is private"
        ) from error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise HubUnavailable(_elsewhere(name, error)) from error


def _elsewhere(name: str, error: Exception) -> str:
    from huggingface_hub import is_offline_mode

    first_line = str(error).removeprefix("Got: ").split("\n")[0]
    reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else first_line
    return (
        f"{name!r} is no folder here, no whole copy is in the Hugging Face hub's local cache, and the hub can't be "
        f"reached ({reason}). On a connected machine run `hf download {name} --local-dir FOLDER` (older versions: "
        f"`huggingface-cli download …`), copy the FOLDER here and pass its path instead of {name!r}"
    )


def fetch_torchvision(weights: Any, source: str) -> dict[str, Tensor]:
    """The weights of one of torchvision's entries, from torch hub's cache or downloaded now; ``source`` is what the
    user typed. `HubUnavailable` if neither has them."""
    cached = _torch_hub_file(weights.url)
    # torch waits for a server as long as the operating system does, so the server is asked first.
    if not cached.exists():
        error = why_unreachable(weights.url)
        if error is not None:
            raise HubUnavailable(_download_by_hand(source, weights.url, cached, error))
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # the connection broke, or the file has another hash
        raise HubUnavailable(_download_by_hand(source, weights.url, cached, error)) from error
    return state


def _download_by_hand(source: str, url: str, cached: Path, error: Exception) -> str:
    return (
        f"{source}: torchvision's weights are not in {cached.parent} and can't be fetched ({error}). On a connected "
        f"machine download {url}, then put {cached.name} into that folder, or pass its path as the weights"
    )


def _torch_hub_file(url: str) -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
