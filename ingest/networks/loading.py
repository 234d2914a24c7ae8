"""What loading any network needs: devices, the meaning of ``--weights``, files of weights, and their digest."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atlas.devices import chosen_device
from atlas.errors import UsageError, WeightsError

DEVICES = ("auto", "cpu", "cuda", "mps")
SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".bin")
WRAPPERS = ("module.", "_orig_mod.")
"""What `DataParallel` and `torch.compile` put before the name of every weight."""
COUNTER = "num_batches_tracked"
"""Batch norm's count of the batches it was trained on, which evaluation doesn't use."""
SHOWN_KEYS = 3
"""Names of weights in an error: enough to see what is wrong, few enough to read."""
SHOWN_DIGEST = 12
"""Hexadecimal digits of a digest in an error: 48 bits tell any two weights apart."""


def resolve_device(device: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``mps`` names here; `UsageError` if there is none."""
    return torch.device(chosen_device(device, known=DEVICES))


def off_device(model: torch.nn.Module) -> torch.nn.Module:
    """A module on the CPU: itself where it is there, else a copy."""
    tensors = [*model.parameters(), *model.buffers()]
    return model if all(tensor.device.type == "cpu" for tensor in tensors) else copy.deepcopy(model).cpu()


@dataclass(frozen=True)
class WeightsChoice:
    """What a user asked for with ``--weights``.

    ``own``: the weights that come with the source; ``file``: those at ``path``; ``random`` and ``random-raw``:
    initial weights drawn with ``seed``, with and without calibrated batch-norm statistics (SCIENCE 4).
    """

    kind: Literal["own", "file", "random", "random-raw"]
    path: Path | None = None
    seed: int = 0

    @classmethod
    def parse(cls, weights: str | None, own: str) -> WeightsChoice:
        """Read None or ``own`` (the source's own), ``random:SEED``, ``random-raw:SEED``, or a path.

        Raises `UsageError` for a control without a seed and `WeightsError` for a path where nothing is.
        """
        if weights is None or weights == own:
            return cls("own")
        control = re.fullmatch(r"(random-raw|random):(\d+)", weights)
        if control is not None:
            return cls("random" if control[1] == "random" else "random-raw", seed=int(control[2]))
        if weights.startswith("random") and not Path(weights).exists():
            raise UsageError(f"weights {weights!r} name no seed; write random:0 or random-raw:0 (any whole number)")
        path = Path(weights).expanduser()
        if not path.exists():
            raise WeightsError(
                f"weights {weights!r}: no such file; expected a path, random:SEED, random-raw:SEED, "
                f"or nothing for the network's own ({own})"
            )
        return cls("file", path.resolve())

    @property
    def is_control(self) -> bool:
        """Whether the weights are random: one of the two untrained controls."""
        return self.kind in ("random", "random-raw")

    @property
    def name_suffix(self) -> str:
        """What a control's default name ends in: ``-random-0``, ``-random-raw-0``; nothing for other weights."""
        return f"-{self.kind}-{self.seed}" if self.is_control else ""

    def recorded(self, own: str) -> str:
        """How an atlas notes the choice, so that `parse` reads the same again; ``own`` stands for the source's."""
        if self.is_control:
            return f"{self.kind}:{self.seed}"
        return own if self.path is None else str(self.path)


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file, and the metadata of the first.

    Nothing in a file is ever executed (``weights_only=True``). What wrappers put before all names is taken off, with
    a warning. Raises `WeightsError` for a file that can't be read, and for anything but named, dense numbers.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise WeightsError(f"weights {path} is {what}; expected a file {_suffixes()}")
    if path.suffix == SAFETENSORS:
        state, metadata = _read_safetensors(path)
    elif path.suffix in PICKLED:
        state, metadata = _read_pickled(path), {}
    else:
        raise WeightsError(f"weights {path} end in {path.suffix or 'no suffix'!r}; expected a file {_suffixes()}")
    for name, tensor in state.items():
        if what := _no_numbers(name, tensor):
            raise no_numbers(path, name, what)
    return _unwrapped(path, state), metadata


def no_numbers(path: Path, name: str, what: str) -> WeightsError:
    """The error to raise where a tensor of a file can't be taken for weights."""
    return WeightsError(
        f"weights {path}: {name} is {what}; expected dense floating-point numbers, not quantised or sparse ones"
    )


def _no_numbers(name: str, tensor: Tensor) -> str:
    """What a tensor is that can't be taken for weights; nothing where it can. Masks and counters are whole."""
    if tensor.is_quantized or tensor.is_complex() or (name.endswith("weight") and not tensor.is_floating_point()):
        return f"of {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_meta:
        return "a shape without numbers"
    if tensor.numel() * tensor.element_size() > (stored := tensor.untyped_storage().nbytes()):
        return f"{tuple(tensor.shape)} numbers of which the file holds {stored:,} bytes"
    return ""


def _unwrapped(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without what wrappers put before all of its names."""
    taken = ""
    while state and (shared := [prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in state)]):
        taken += shared[0]
        state = {name.removeprefix(shared[0]): tensor for name, tensor in state.items()}
    if taken:
        warnings.warn(f"weights {path}: all names begin with {taken!r}, which is taken off", stacklevel=4)
    return state


def _suffixes() -> str:
    return f"ending in {', '.join((SAFETENSORS, *PICKLED))}"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        return safetensors.torch.load_file(path), metadata
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path} can't be read as safetensors: {error}; copy the file again") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    expected = "expected what `torch.save(model.state_dict(), PATH)` writes"
    if _is_torchscript(path):
        raise WeightsError(
            f"weights {path} are a TorchScript archive, a whole program; {expected} (of `torch.jit.load(PATH)` too, "
            "which runs the program's code: only where you trust who made it)"
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights {path} hold more than tensors (a whole model?), which would run code when loaded, or are "
            f"damaged; {expected}"
        ) from error
    except Exception as error:  # torch's reader of pickles fails in as many ways as there are damaged files
        raise WeightsError(f"weights {path} can't be read ({type(error).__name__}: {error}); {expected}") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"weights {path} hold a {type(content).__name__}; expected a state dict")
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise WeightsError(
            f"weights {path} hold other things than tensors ({_listed(strangers)}), as a training "
            "checkpoint does; save its state dict by itself"
        )
    nameless = [repr(name) for name in content if not isinstance(name, str)]
    if nameless:
        raise WeightsError(f"weights {path} are called {_listed(nameless)}, which are no names; {expected}")
    return dict(content)


def _is_torchscript(path: Path) -> bool:
    """Whether it is what `torch.jit.save` writes: a ZIP file as `torch.save`'s, with code beside it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # damaged, of which torch's reader says more


def check_fit(
    path: Path | str,
    network: str,
    missing: Collection[str],
    unexpected: Collection[str],
    misshapen: Sequence[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """Raise `WeightsError` with the first few names unless all three are empty.

    ``misshapen`` holds names with the shape in the file and the shape in the network.
    """
    complaints = []
    if missing:
        complaints.append(f"{len(missing)} missing ({_listed(missing)})")
    if unexpected:
        complaints.append(f"{len(unexpected)} unexpected ({_listed(unexpected)})")
    if misshapen:
        shapes = [f"{name}: {tuple(got)} for {tuple(expected)}" for name, got, expected in sorted(misshapen)]
        complaints.append(f"{len(misshapen)} of another shape ({_listed(shapes)})")
    if complaints:
        raise WeightsError(
            f"weights {path} don't fit {network}: {'; '.join(complaints)}. Pass weights of this architecture"
        )


def _listed(names: Collection[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN_KEYS]) + (", …" if len(ordered) > SHOWN_KEYS else "")


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over every parameter and buffer in order of name: name, dtype, shape, bytes.

    Floating-point tensors count as float32, in which all networks here run, so the half-precision file of the same
    values has the same digest. One tensor at a time is copied.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        tensor = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None).contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_digest(network: str, recorded: str, loaded: str, recorded_weights: str, loaded_weights: str) -> None:
    """Raise `WeightsError` unless the loaded weights are those an atlas was made with."""
    if recorded != loaded:
        raise WeightsError(
            f"{network} was made with weights {recorded_weights} (digest {recorded[:SHOWN_DIGEST]}…); "
            f"{loaded_weights} now gives other ones ({loaded[:SHOWN_DIGEST]}…). Pass the weights it was made with"
        )
