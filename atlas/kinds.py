"""What networks read, in words: the one table of kinds. Whoever does something else for texts than for images asks a
record: this one, or that of its own layer (``ingest.datasets.kinds``, ``ingest.run.kinds``, ``query.examples.kinds``,
``app.explorer.parts.kinds``), so that a new kind is a record in each.
"""

from __future__ import annotations

from dataclasses import dataclass

from .network import Kind


@dataclass(frozen=True)
class InputKind:
    """A kind of input.

    ``one``: an input, with its article. ``network``: what reads it. ``example``: what an example is. ``in_sequence``:
    an input gives several examples, each read in the sequence of those before it. ``in_space``: inputs are points of
    a space, which the network cuts into polytopes too.
    """

    one: str
    network: str
    example: str
    in_sequence: bool = False
    in_space: bool = False


INPUT_KINDS: dict[Kind, InputKind] = {
    "text": InputKind("a text", "a text network", "token", in_sequence=True),
    "image": InputKind("an image", "an image network", "image"),
    "vector": InputKind("a vector", "a vector network", "vector", in_space=True),
}
