"""What a question may be about: a stored example, a code, or an input that is read now."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from atlas.kinds import INPUT_KINDS
from atlas.network import Network
from atlas.store.atlas import Atlas

from ..plain_text import numbers
from .options import Target


@dataclass(frozen=True)
class Subject:
    """One of them."""

    example: Annotated[int | None, typer.Option(help="Id of a stored example.")] = None
    text: Annotated[str | None, typer.Option(help="A text, read by the network that made the atlas; - is stdin.")] = (
        None
    )
    token: Annotated[
        int | None, typer.Option(help="Which token of the text, from 0; -1 is the last. Default: the last.")
    ] = None
    image: Annotated[Path | None, typer.Option(help="An image file, read by the network that made the atlas.")] = None
    vector: Annotated[
        str | None, typer.Option(help="Numbers with commas between them, read by the network that made the atlas.")
    ] = None
    code: Annotated[str | None, typer.Option(help="A code: a 0 or 1 for every gate.")] = None

    @property
    def live(self) -> bool:
        """Whether a network has to read it."""
        return any(getattr(self, kind) is not None for kind in INPUT_KINDS)

    def given(self) -> dict[str, Any]:
        """As the functions of `query` take it; the text is read from stdin where it is -."""
        vector = None if self.vector is None else numbers("--vector", self.vector)
        return vars(self) | {"text": typed(self.text), "vector": vector}


def typed(text: str | None) -> str | None:
    """What was typed, or stdin for -."""
    return sys.stdin.read() if text == "-" else text


def reader(
    a: Atlas, subject: Subject, target: Target, weights: str | None, device: str, clustering: int | None = None
) -> Network | None:
    """The network that made the atlas, its weights checked, where it has to read the subject."""
    if not subject.live:
        return None
    from ingest.networks import reload_network

    if clustering is not None and target.site is None and target.span is None:
        name = a.value(
            "select networks.name from clusterings join networks using (network_id) where clustering_id = $1",
            [clustering],
        )
        return reload_network(a.catalog.network(name or target.network), weights=weights, device=device)
    network = a.catalog.target(**vars(target)).network
    return reload_network(network, weights=weights, device=device)
