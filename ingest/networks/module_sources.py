"""Where a module of torch comes from by name: torchvision, timm, or a function of the user's own."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atlas.errors import HubUnavailable, UnknownName, UsageError

from . import moons
from .controls import reset_by_itself
from .hub import fetch_torchvision
from .image_inputs import ImageOptions
from .loading import check_fit
from .registry import LIVE, TIMM, TORCHVISION, is_built

TRUSTED = "POLYTOPE_FACTORIES"
"""The environment variable that names factories, by commas, which an atlas may have called to load its network again.
An atlas may come from anybody, and code runs only where the user names it."""

AUXILIARY = ("aux", "AuxLogits.")
"""Classifiers that only training uses; what their names begin with."""

SUGGESTED = 5
"""Names like the one asked for in an error."""

_named: set[str] = set()
"""Factories that this process was asked for by name."""


@dataclass(frozen=True)
class Known:
    """What is known of a source's own weights: the state dict, class names, and how images are fed to them."""

    state: Mapping[str, Tensor]
    classes: tuple[str, ...] | None = None
    undoes_imagenet: bool = False


class ModuleSource(ABC):
    """How to build a network by name. ``own``: what its own weights are called. ``fed``: how images usually are.

    ``architecture`` is the same for all networks that are built alike.
    """

    own = "hub"
    fed = ImageOptions()

    def __init__(self, source: str) -> None:
        self.source = source
        self.name = source.partition(":")[2]
        self.architecture = self.name

    @abstractmethod
    def build(self, outputs: int | None = None) -> nn.Module:
        """The network with initial weights; ``outputs``: how many, where that can be chosen."""

    @abstractmethod
    def own_weights(self) -> Known | None:
        """The weights that come with the source; None where they are in the network as it is built."""

    def recognised(self, path: Path) -> Known | None:
        """What is known of a file of weights, None where it is not the source's own; its state is left empty."""
        return None

    def initial(self) -> Callable[[nn.Module], None]:
        """What makes the weights of a network that was just built initial ones: nothing, where it is built so."""
        return lambda model: None


class TorchvisionSource(ModuleSource):
    """``torchvision:NAME``, as its `list_models` has it."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        from torchvision import models

        _check_known(source, self.name, models.list_models())
        self._builder = models.get_model_builder(self.name)
        self._entries: list[Any] = list(models.get_model_weights(self.name))
        if self._entries:
            preset = models.get_model_weights(self.name).DEFAULT.transforms()
            if hasattr(preset, "crop_size"):
                self.fed = ImageOptions(int(preset.crop_size[0]), tuple(preset.mean), tuple(preset.std))

    def build(self, outputs: int | None = None) -> nn.Module:
        import inspect

        given: dict[str, Any] = {"weights": None}
        if "weights_backbone" in inspect.signature(self._builder).parameters:
            given["weights_backbone"] = None  # else they would be fetched
        if self.name in ("googlenet", "inception_v3"):
            given |= {"aux_logits": False, "init_weights": True}
        return self._builder(**given) if outputs is None else self._builder(**given, num_classes=outputs)

    def own_weights(self) -> Known:
        if not self._entries:
            raise UsageError(f"torchvision has no weights of {self.name}; give --weights FILE or random:0")
        from torchvision.models import get_model_weights

        entry = get_model_weights(self.name).DEFAULT
        return self._known(entry, fetch_torchvision(entry, self.source))

    def recognised(self, path: Path) -> Known | None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # torch hub names a file after the first digits of its SHA-256.
        entry = next((e for e in self._entries if digest.startswith(Path(e.url).stem.rpartition("-")[2])), None)
        return None if entry is None else self._known(entry, {})

    def _known(self, entry: Any, state: Mapping[str, Tensor]) -> Known:
        undoes = self.name in ("googlenet", "inception_v3")
        return Known(state, tuple(entry.meta.get("categories", ())) or None, undoes)


class TimmSource(ModuleSource):
    """``timm:NAME``, with the extra ``timm``."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        try:
            import timm
        except ImportError as error:
            raise UsageError(f"{source} needs timm: run pip install 'polytope-atlas[timm]'") from error
        self._timm = timm
        if not timm.is_model(self.name.partition(".")[0]):
            _check_known(source, self.name, timm.list_models())
        configuration = timm.data.resolve_data_config({}, pretrained_cfg=_timm_configuration(timm, self.name))
        self.fed = ImageOptions(
            int(configuration["input_size"][1]), tuple(configuration["mean"]), tuple(configuration["std"])
        )

    def build(self, outputs: int | None = None) -> nn.Module:
        return self._create(pretrained=False, **({} if outputs is None else {"num_classes": outputs}))

    def own_weights(self) -> Known:
        try:
            return Known(self._create(pretrained=True).state_dict())
        except (OSError, RuntimeError, LookupError) as error:
            raise HubUnavailable(
                f"{self.source}: timm's weights can't be fetched ({str(error).splitlines()[0]}). On a connected "
                f"machine `timm.create_model({self.name!r}, pretrained=True)` downloads them; pass their file as "
                "--weights"
            ) from error

    def _create(self, **given: Any) -> nn.Module:
        model: nn.Module = self._timm.create_model(self.name, **given)
        return model


def _timm_configuration(timm: Any, name: str) -> dict[str, Any]:
    found = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {} if found is None else found.to_dict()


class FactorySource(ModuleSource):
    """``MODULE:FACTORY``: a function without arguments, in code of the user's own, that returns a `torch.nn.Module`.

    The module is looked for where Python is installed, then in the working directory.
    """

    own = "factory"

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.architecture = source
        module, _, factory = source.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # last: no file here takes the place of a package
        try:
            found = import_module(module)
        except ImportError as error:
            raise UnknownName(
                f"network {source}: {module} can't be imported ({error}); it is looked for where Python is installed "
                f"and in {Path.cwd()}"
            ) from error
        self._factory: Callable[[], Any] | None = getattr(found, factory, None)
        if not callable(self._factory):
            there = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
            raise UnknownName(f"network {source}: {module} has no function {factory}; it has {', '.join(there)}")
        _named.add(source)

    def build(self, outputs: int | None = None) -> nn.Module:
        assert self._factory is not None
        try:
            model = self._factory()
        except Exception as error:  # the user's own code may raise whatever it likes
            raise UsageError(f"network {self.source} raised {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise UsageError(
                f"network {self.source} returned a {type(model).__name__}; expected a torch.nn.Module, from a "
                "function that takes no arguments"
            )
        return model

    def own_weights(self) -> None:
        return None

    def initial(self) -> Callable[[nn.Module], None]:
        return lambda model: reset_by_itself(model, self.source)


class MoonsSource(ModuleSource):
    """The perceptron of the demo, trained when it is asked for."""

    own = "demo"

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.name, self.architecture = source.replace(":", "-"), "perceptron"

    def build(self, outputs: int | None = None) -> nn.Module:
        return moons.build_moons()

    def own_weights(self) -> Known:
        return Known(moons.trained_moons(), moons.CLASSES)


def module_source(source: str) -> ModuleSource:
    """How to build what is named. Raises `UnknownName`, `UsageError`."""
    if source == moons.SOURCE:
        return MoonsSource(source)
    if source.startswith(TORCHVISION):
        return TorchvisionSource(source)
    return TimmSource(source) if source.startswith(TIMM) else FactorySource(source)


def check_trusted(source: str) -> None:
    """`UsageError` unless the code that a source names may run: it was named by the user, not by an atlas alone."""
    if source == LIVE or not is_built(source):
        return
    if source not in _named and source not in os.environ.get(TRUSTED, "").split(","):
        raise UsageError(
            f"the network was built by {source}, code that the atlas names and you have not: if you trust it, set "
            f"{TRUSTED}={source} in the environment, or hand the network in as reader"
        )


def filled(source: ModuleSource, state: Mapping[str, Tensor], origin: str, outputs: int | None) -> nn.Module:
    """The network with weights of any number of classes; `WeightsError` unless they fit."""
    model = source.build(outputs)
    own = model.state_dict()
    state = {name: t for name, t in state.items() if name in own or not name.startswith(AUXILIARY)}
    misshapen = [name for name in own if name in state and state[name].shape != own[name].shape]
    if outputs is None and misshapen and state[misshapen[0]].ndim and not isinstance(source, FactorySource):
        # Weights of another number of classes: as many as the last layer has rows.
        model = source.build(len(state[misshapen[-1]]))
        own = model.state_dict()
        misshapen = [name for name in own if name in state and state[name].shape != own[name].shape]
    shapes = [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in misshapen]
    check_fit(origin, source.source, own.keys() - state.keys(), state.keys() - own.keys(), shapes)
    model.load_state_dict(state)
    return model


def _check_known(source: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, SUGGESTED) or sorted(known)[:SUGGESTED]
        raise UnknownName(f"network {source}: no such name; the nearest are {', '.join(near)}")


def classes_of(known: Known | None, given: Sequence[str] | None) -> Sequence[str] | None:
    """The user's names of classes, else those that come with the weights."""
    return given if given is not None or known is None else known.classes
