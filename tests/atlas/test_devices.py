"""One word for where to compute, and what becomes of it on this machine."""

from __future__ import annotations

import pytest
import torch

from atlas.devices import check_device, chosen_device
from atlas.errors import UsageError

NETWORKS = ("auto", "cpu", "cuda", "mps")


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="device is 'tpu'; expected auto, cpu or cuda"):
        check_device("tpu")
    with pytest.raises(UsageError, match="device is 'mps'; expected auto, cpu or cuda"):
        chosen_device("mps")
    with pytest.raises(UsageError, match="device is 'tpu'; expected auto, cpu, cuda or mps"):
        chosen_device("tpu", known=NETWORKS)


def test_the_processor_is_always_there() -> None:
    assert chosen_device("cpu") == chosen_device("cpu", 1 << 62, known=NETWORKS) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_absent_gpu_is_refused_by_name() -> None:
    """An absent gpu is refused if asked for."""
    assert chosen_device("auto") == "cpu"
    with pytest.raises(UsageError, match='"cuda" was asked for, and torch finds no CUDA device; use "cpu" or "auto"'):
        chosen_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_needs_room() -> None:
    assert chosen_device("auto") == chosen_device("cuda", 1, known=NETWORKS) == "cuda"
    assert chosen_device("auto", 1 << 62) == "cpu"
    with pytest.raises(UsageError, match="bytes free on it, where 4,611,686,018,427,387,904 are needed"):
        chosen_device("cuda", 1 << 62)
