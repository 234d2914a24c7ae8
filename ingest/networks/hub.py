"""Weights and configurations from the Hugging Face hub and torchvision's server, or an error within seconds.

Both libraries would retry for half a minute, or wait without limit, where there is no connection.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from torch import Tensor

from atlas.errors import HubUnavailable, UnknownName, UsageError

PROBE_SECONDS = 8
"""How long a server may take to answer at all; ``huggingface_hub`` itself gives up on its first question in 10."""

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
            f"network {name!r} is neither a folder here nor a name that a hub could have; expected "
            "`inceptionv1`, `demo:gpt2`, `demo:inceptionv1`, a folder in Hugging Face's format, or a "
            "hub name such as gpt2"
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


def googlenet_weights() -> Any:
    """torchvision's entry for its one set of GoogLeNet weights: address, class names, how to feed it."""
    from torchvision.models import GoogLeNet_Weights

    return GoogLeNet_Weights.IMAGENET1K_V1


def fetch_googlenet() -> dict[str, Tensor]:
    """torchvision's GoogLeNet weights, from torch hub's cache or downloaded now; `HubUnavailable` if neither."""
    weights = googlenet_weights()
    cached = _torch_hub_file(weights.url)
    # torch waits for a server as long as the operating system does, so the server is asked first.
    if not cached.exists():
        error = _unreachable(weights.url)
        if error is not None:
            raise HubUnavailable(_download_by_hand(weights.url, cached, error))
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # the connection broke, or the file has another hash
        raise HubUnavailable(_download_by_hand(weights.url, cached, error)) from error
    return state


def _download_by_hand(url: str, cached: Path, error: Exception) -> str:
    return (
        f"inceptionv1: torchvision's weights are not in {cached.parent} and can't be fetched ({error}). On a "
        f"connected machine download {url}, then put {cached.name} into that folder, or pass its path as the weights"
    )


def _torch_hub_file(url: str) -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _unreachable(url: str) -> Exception | None:
    """Why a server does not answer, or None if it does, after `PROBE_SECONDS` at most."""
    failures: list[Exception] = [TimeoutError(f"no answer within {PROBE_SECONDS} s")]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                failures.clear()
        except urllib.error.HTTPError:  # an answer all the same; the download says what is wrong
            failures.clear()
        except OSError as error:
            failures[:] = [error]

    # In a thread: a name server that does not answer is not subject to the timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return failures[0] if failures else None
