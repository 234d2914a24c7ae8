"""The part of a network after a site, as a function of its activation: what adapters offer and experiments use.

Types only. A tail runs onward from an activation; a *settable* one takes gates that are set on the way; a *piecewise
linear* one shows its stages, so that the places where it bends can be located exactly (SCIENCE 5, 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int8, Int64, UInt8

from .network import GateRange, Network, Site, View

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TailReading:
    """What the part of a network after a site did with a batch of that site's activations; row i is point i.

    ``codes[site]`` is packed, most significant bit first. ``switches`` holds for each max-pooling window between the
    site and the last of the codes (the output, where they reach it) which of its inputs was taken, as an offset in
    the window (row · kernel + column); None where it was not asked for.
    """

    logits: Float32[np.ndarray, "points outputs"]
    codes: dict[str, UInt8[np.ndarray, "points bytes"]]
    switches: UInt8[np.ndarray, "points windows"] | None = None


@runtime_checkable
class Tail(Protocol):
    """The part of a network after ``site``, as a function of that site's activation alone.

    Tensors are torch's, on ``device`` and of ``dtype``; autograd works through them. ``later`` are the sites whose
    codes can be read, in order. ``exact``: whether the map from the activation to the logits is affine wherever their
    codes and the pooling switches stay the same. ``remark`` says what is held fixed and what is not exact; it belongs
    beside every number made with this tail. ``batch`` is how many points should go in at once.
    """

    @property
    def site(self) -> Site: ...

    @property
    def later(self) -> tuple[Site, ...]: ...

    @property
    def exact(self) -> bool: ...

    @property
    def remark(self) -> str: ...

    @property
    def n_outputs(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def device(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...

    def output_name(self, output: int) -> str:
        """The class or token that an output stands for."""
        ...

    def logits(self, activations: Float[Tensor, "points units"]) -> Float[Tensor, "points outputs"]: ...

    def preactivations(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site]
    ) -> tuple[Float[Tensor, "points outputs"], dict[str, Float[Tensor, "points gates"]]]:
        """The logits, and for each of the sites the preactivations of its gates in the order of its code's bits."""
        ...

    def read(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], *, switches: bool = False
    ) -> TailReading:
        """Logits and packed codes, without gradients."""
        ...


@dataclass(frozen=True)
class GateSettings:
    """Gates of one later site that are set, a row a point: 1 is on, −1 off, 0 as it comes.

    A gate that comes otherwise than wanted gets the preactivation +``epsilon`` or −``epsilon``, just beyond its
    boundary; one that comes as wanted keeps its own.
    """

    site: Site
    wanted: Int8[np.ndarray, "points gates"]
    epsilon: float


@runtime_checkable
class SettableTail(Tail, Protocol):
    """A tail some of whose gates can be set on the way."""

    def read_set(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], settings: GateSettings
    ) -> TailReading:
        """`read`, with gates set as they are computed: what comes after them follows."""
        ...


@runtime_checkable
class Stage(Protocol):
    """One step of a piecewise linear tail: an affine map of the state to preactivations, then ReLU and max-pooling.

    A *state* is a tuple of tensors, a row a point. Between two points where no gate and no pooling switch of a stage
    changes, the next state is an affine function of the state. ``gates`` says whose preactivations the columns are:
    (site name, range of its code's bits), one after the other.
    """

    @property
    def gates(self) -> tuple[tuple[str, GateRange], ...]: ...

    def preactivations(self, state: tuple[Tensor, ...]) -> Float[Tensor, "points gates"]: ...

    def windows(self, state: tuple[Tensor, ...]) -> Float[Tensor, "points windows choices"]:
        """What each max-pooling window chooses from: entries of the state as they are; −inf where it reaches over an
        edge."""
        ...

    def switches(self, state: tuple[Tensor, ...]) -> UInt8[Tensor, "points windows"]:
        """Which choice each max-pooling window takes."""
        ...

    def advance(
        self, state: tuple[Tensor, ...], preactivations: Float[Tensor, "points gates"]
    ) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True, eq=False)
class Block:
    """Preactivations that read the same entries of the state: of a state that changes by v, ``outputs`` change by
    ``weight[rows].T @ v[inputs]``.

    Entries are numbered over all parts of the state, one after the other. ``weight`` may be shared by blocks.
    """

    outputs: Int64[np.ndarray, " gates"]
    inputs: Int64[np.ndarray, " entries"]
    rows: Int64[np.ndarray, " entries"]
    weight: Float[Tensor, "rows gates"]


@runtime_checkable
class BlockStage(Stage, Protocol):
    """A stage whose affine map is known as dense blocks: it can be followed without what is 0.

    Each entry of the state that it leaves is an entry of the state before, a preactivation, or 0.
    """

    def blocks(self, state: tuple[Tensor, ...]) -> Iterable[Block]:
        """Blocks that make up the linear part of `preactivations`, each of which is in one of them. Of ``state`` the
        shapes count."""
        ...


@runtime_checkable
class PiecewiseLinearTail(Tail, Protocol):
    """A tail of affine maps, ReLU and max-pooling alone: inside a polytope it is affine, exactly."""

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    def enter(self, activations: Float[Tensor, "points units"]) -> tuple[Tensor, ...]:
        """The state before the first stage: the activations, rearranged."""
        ...

    def precise(self) -> PiecewiseLinearTail:
        """The same weights in double precision, where boundaries are located to 1e-12 rather than 1e-5."""
        ...


@runtime_checkable
class TailedNetwork(Network, Protocol):
    """A network that can be run onward from a site."""

    def tail(self, site: Site, work: View | None = None) -> Tail:
        """The part of the network after ``site``.

        A language model needs the sequence, ``work``, with the one position whose activation is replaced; all else in
        it is held fixed. Networks of images and vectors take the whole activation, that of a full site where the
        network has such, and need no input; those of vectors also take the inputs themselves, site ``input``.
        """
        ...
