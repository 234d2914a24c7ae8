"""What the atlas knows of a network: its sites, the spans between them, and how to read examples.

Types only. The adapters that fill them live in ``ingest.networks``; experiments receive a `Network` and never load
one. Terms are those of the field: a *site* is a named place where activations are read (the output of a block), its
*gates* are all units with an element-wise nonlinearity inside the block, and the *spline code* has one bit a gate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from .errors import UnknownName, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["text", "image", "vector"]
"""What a network reads, and what an input is. A *vector* is a row of numbers."""

Scope = Literal["position", "full"]
FULL_SUFFIX = ":full"
INPUT = "input"
"""What the inputs of a network of vectors are called where it is run on from them: a span ``input->``."""

PART_UNITS = 4096
"""Units of an activation that lie in one row of a database or file. A longer activation takes several: engines decode
2,048 rows at a time, and a whole convolutional tensor a row would be gigabytes at once."""


@dataclass(frozen=True)
class GateRange:
    """Which module of the network a run of gates belongs to: gates [start, start + count) of the site's code.

    In a full code the gates of a module are ordered channel, row, column, and ``grid`` is (rows, columns).
    """

    module: str
    start: int
    count: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Site:
    """A named place where activations are read.

    ``n_units`` is the length of an activation vector, ``n_gates`` the number of bits of the code. They differ where
    a block holds units that its output does not show (the 1x1 reduce convolutions of an inception block). A *full*
    site covers all spatial positions of its block and is called ``<block>:full``; there the activation is the whole
    tensor, flattened in the order channel, row, column, of shape ``unit_shape``.

    ``exact`` is True where equal codes (with equal max-pooling switches) mean the same affine map: ReLU networks
    without attention or normalisation by statistics of the input. ``broken_by`` says what else breaks it, in words:
    ``layer norm in encoder.0``. ``bypassed_by``: what later reads more than this site's activation (``add in
    decoder``, a skip connection), so that the activation does not determine what comes after; empty where it does.
    """

    name: str
    ordinal: int
    n_units: int
    n_gates: int
    nonlinearity: str
    exact: bool
    scope: Scope = "position"
    unit_shape: tuple[int, ...] = ()
    layout: tuple[GateRange, ...] = ()
    broken_by: str = ""
    bypassed_by: str = ""

    @property
    def n_bytes(self) -> int:
        """Bytes of one packed code: gates rounded up to whole bytes."""
        return -(-self.n_gates // 8)

    @property
    def n_parts(self) -> int:
        """Rows that one activation takes."""
        return -(-self.n_units // PART_UNITS)


def whole_scope(sites: Sequence[Site]) -> Scope:
    """The scope of a network's sites whose activation is all that the sites after it depend on: full where it has
    such, else position."""
    return "full" if any(site.scope == "full" for site in sites) else "position"


ELSEWHERE = "gates at other places are not in the code"
"""Why a site that holds one position of an image is not exact, in a network that may well be piecewise linear."""


@dataclass(frozen=True)
class Span:
    """The sites after ``after``, up to and including ``to`` (None: to the last): a code of this span names a
    polytope of the activation space of ``after``.

    Written ``after->to``, or ``after->`` to run to the output; ``→`` is read as ``->``. Position codes and full
    codes never mix: ``inception4c->:full`` spans full sites. ``input->`` begins before the first site.
    """

    after: str
    to: str | None = None
    scope: Scope = "position"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read ``blocks.2.mlp->``, ``inception4c->inception5b:full`` and the like; `UsageError` otherwise."""
        written = text.strip().replace("→", "->")
        scope: Scope = "position"
        if written.endswith(FULL_SUFFIX):
            written, scope = written[: -len(FULL_SUFFIX)], "full"
        match = re.fullmatch(r"\s*([^>]+?)\s*->\s*([^>]*?)\s*", written)
        if match is None:
            raise UsageError(
                f"{text!r} is not a span; write AFTER->TO, or AFTER-> to run to the output "
                "(a shell needs quotes around it)"
            )
        after, to = (name.removesuffix(FULL_SUFFIX) for name in match.groups())
        if match.group(1).endswith(FULL_SUFFIX):
            scope = "full"
        return cls(after, to or None, scope)

    def __str__(self) -> str:
        return f"{self.after}->{self.to or ''}{FULL_SUFFIX if self.scope == 'full' else ''}"

    def resolve(self, sites: Sequence[Site]) -> tuple[Site, ...]:
        """The sites whose codes are concatenated, in order, out of all ``sites`` of one network.

        Raises `UnknownName` for a name that no site has and `UsageError` for a span that ends before it starts.
        """
        ordered = sorted((site for site in sites if site.scope == self.scope), key=lambda site: site.ordinal)
        blocks = {site.name.removesuffix(FULL_SUFFIX): site for site in ordered}
        for name in (self.after, self.to):
            if name is not None and name not in blocks and (name, name) != (self.after, INPUT):
                kind = "full-code sites" if self.scope == "full" else "sites"
                raise UnknownName(f"span {self}: no site {name!r}; {kind} here: {', '.join(blocks) or 'none'}")
        first = blocks[self.after].ordinal if self.after in blocks else -1
        last = blocks[self.to].ordinal if self.to else ordered[-1].ordinal
        inside = tuple(site for site in ordered if first < site.ordinal <= last)
        if not inside:
            raise UsageError(
                f"span {self} holds no site: it must end after {self.after!r} (order: {', '.join(blocks)})"
            )
        return inside


@dataclass(frozen=True)
class Tokens:
    """A tokenised text: token ids and, for each token, the characters of the text that it stands for."""

    ids: Int64[np.ndarray, " tokens"]
    starts: Int64[np.ndarray, " tokens"]
    ends: Int64[np.ndarray, " tokens"]


@dataclass(frozen=True)
class TokenWindow:
    """One sequence to run: consecutive tokens of a text and the places in it that become examples.

    ``positions`` index ``ids``. ``following`` is the token of the text after the window (None at its end); the
    next-token loss at the window's last position needs it. A beginning-of-sequence token is the adapter's matter and
    is in neither.
    """

    ids: Int64[np.ndarray, " tokens"]
    positions: Int64[np.ndarray, " examples"]
    following: int | None = None


@dataclass(frozen=True)
class ImageView:
    """One image to run, and the relative position (row, column in [0, 1)) whose gates are its position code.

    ``label`` is the class name if it is known; the loss is measured against it.
    """

    image: Image
    row: float = 0.5
    column: float = 0.5
    label: str | None = None


@dataclass(frozen=True)
class VectorView:
    """One vector to run: all numbers of an input, flat, whatever its shape.

    ``label`` is the class name if it is known; the loss is measured against it.
    """

    numbers: Float32[np.ndarray, " numbers"]
    label: str | None = None


@dataclass(frozen=True)
class RecordedView:
    """What something else computed of one example, by site: packed codes, and activations where there are some."""

    codes: dict[str, UInt8[np.ndarray, " _"]]
    activations: dict[str, Float32[np.ndarray, " _"]]


View = TokenWindow | ImageView | VectorView | RecordedView
"""What a network runs at once, one of a batch."""


@dataclass
class Reading:
    """What a network did on a batch. Row i is example i: windows in order, positions within a window in order.

    ``codes[site]`` is packed, most significant bit first. ``finite[site][i]`` is False where a preactivation or an
    activation of example i was NaN or infinite; the caller decides what to do about it.
    """

    codes: dict[str, UInt8[np.ndarray, "examples bytes"]]
    activations: dict[str, Float32[np.ndarray, "examples units"]]
    finite: dict[str, np.ndarray]
    prediction: list[str]
    probability: Float32[np.ndarray, " examples"]
    loss: Float32[np.ndarray, " examples"]  # nats; NaN where there is no target


@dataclass(frozen=True)
class NetworkInfo:
    """Identity of a network in an atlas.

    ``weights`` is what the user named (``hub``, a path, ``random:0``, ``random-raw:0``), ``weights_digest`` a SHA-256
    over every parameter and buffer. ``reading`` holds all that changes what the network computes for an input
    besides its weights: beginning-of-sequence token, context length, image size, normalisation.
    """

    name: str
    architecture: str
    kind: Kind
    source: str
    weights: str
    weights_digest: str
    reading: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Network(Protocol):
    """The least that the atlas asks of a network; ``ingest.networks`` implements it."""

    @property
    def info(self) -> NetworkInfo: ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites, position sites first, each in order from input to output."""
        ...

    def read(self, batch: Sequence[Any], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """Run views of the network's kind and read codes and activations at the given sites."""
        ...


@runtime_checkable
class TextNetwork(Network, Protocol):
    """A causal language model: an example is a token of a sequence."""

    def tokenize(self, text: str) -> Tokens: ...

    def windows(self, n_tokens: int) -> list[range]:
        """How a text of ``n_tokens`` tokens is cut into sequences: consecutive, each as long as fits."""
        ...

    def token_text(self, token: int) -> str: ...


@runtime_checkable
class ImageNetwork(Network, Protocol):
    """An image classifier: an example is an image, at a position."""

    @property
    def classes(self) -> tuple[str, ...]: ...


@runtime_checkable
class VectorNetwork(Network, Protocol):
    """A network of rows of numbers: an example is a row."""

    @property
    def n_inputs(self) -> int:
        """How many numbers a row has."""
        ...


@runtime_checkable
class PortableNetwork(Network, Protocol):
    """A network that can be made again in another process."""

    def elsewhere(self) -> Callable[..., Network]:
        """What makes the same network there, called with ``device``: cpu or cuda. It can be pickled."""
        ...


@runtime_checkable
class GatedNetwork(Network, Protocol):
    """A network that shows how far its gates are from their boundaries."""

    def preactivations(
        self, batch: Sequence[Any], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "examples gates"]]:
        """Run views of the network's kind; by site, preactivations in the order of its code's bits."""
        ...


@runtime_checkable
class NormedNetwork(Network, Protocol):
    """A language model whose MLPs read the residual stream through LayerNorm or RMSNorm."""

    def before_norm(
        self, batch: Sequence[TokenWindow], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "examples width"]]:
        """By site, the residual stream before the normalisation that its MLP reads, at the windows' positions."""
        ...

    def after_norm(
        self, site: Site, residual: Float32[np.ndarray, "points width"]
    ) -> tuple[Float32[np.ndarray, "points width"], Float32[np.ndarray, "points gates"]]:
        """What the normalisation makes of a residual stream, and the preactivations of the site's gates."""
        ...
