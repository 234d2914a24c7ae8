"""Where to compute: the words for it, and the one place that chooses."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from functools import cache
from typing import Literal, get_args

from .errors import UsageError

Device = Literal["auto", "cpu", "cuda"]
"""``auto`` takes a GPU, if there is one, where the work is worth the way there."""

DEVICES: tuple[str, ...] = get_args(Device)


def check_device(device: str, known: Sequence[str] = DEVICES) -> None:
    """Raise `UsageError` unless ``device`` is one of the ``known`` words."""
    if device not in known:
        raise UsageError(f"device is {device!r}; expected {', '.join(known[:-1])} or {known[-1]}")


def chosen_device(device: str, n_bytes: int = 0, *, known: Sequence[str] = DEVICES) -> str:
    """``cuda`` (or ``mps``, if that is ``known``) where it was asked for, or where "auto" finds one; else ``cpu``.

    torch is only imported where there may be a GPU.

    Args:
        device: one of the ``known`` words.
        n_bytes: what must be free on a CUDA device.
        known: "auto", "cpu" and the kinds of GPU that the work can be done on.

    Returns:
        What torch calls the device.

    Raises:
        UsageError: for another word, and for a GPU that is not there or has too little memory.
    """
    check_device(device, known)
    if device == "cpu" or (device == "auto" and "mps" not in known and not _has_cuda_driver()):
        return "cpu"
    import torch

    missing = {}
    if "cuda" in known:
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
        if free is None:
            missing["cuda"] = "no CUDA device"
        elif n_bytes >= free:
            missing["cuda"] = f"{free:,} bytes free on it, where {n_bytes:,} are needed"
    if "mps" in known and not torch.backends.mps.is_available():
        missing["mps"] = "no Apple GPU"
    if device in missing:
        raise UsageError(f'device "{device}" was asked for, and torch finds {missing[device]}; use "cpu" or "auto"')
    if device != "auto":
        return device
    return next((each for each in known if each not in ("auto", "cpu") and each not in missing), "cpu")


@cache
def _has_cuda_driver() -> bool:
    """Asks the loader, which knows LD_LIBRARY_PATH; `find_library` asks the cache of ldconfig."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            CDLL(name)
        except OSError:
            continue
        return True
    return False
