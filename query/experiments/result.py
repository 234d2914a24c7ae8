"""What every experiment gives: tables of numbers, all that reproduces them, and the figure drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from atlas.errors import UsageError

from ..notebook import figure_html, plain, table

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAIN = "table"
"""Name of the table that an experiment is about; others hold what its figure needs besides."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions in the activation space of a site, which `archive.save` keeps in the table ``directions``.

    ``explained`` is each one's share of the variance, None where the method has none.
    """

    site: str
    method: str
    vectors: Float32[np.ndarray, "components units"]
    explained: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """An experiment's outcome.

    kind: name of the experiment, a key of `registry.EXPERIMENTS`.
    network: its name in the atlas; None where several take part on equal terms.
    parameters: JSON values; everything that reproduces the numbers, the seed included. ``measure`` gives what it
        found or resolved, and `Experiment.run` adds the options that it was asked with.
    tables: ``"table"`` is the main one.
    notes: what is approximate, what was dropped and how often; shown with the figure.
    options: the options that it was asked with, by which a repeated question is recognised; `Experiment.run` fills
        it in.
    directions: directions that were found on the way; `archive.load` does not bring them back.
    cluster_names: of each clustering that the parameters name, what its clusters are called now, by number;
        `Experiment.run` and `archive.load` look them up, so that a figure shows a name that was given since.
    draw: makes the figure; `Experiment.run` and `archive.load` fill it in.
    """

    kind: str
    network: str | None
    parameters: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    directions: tuple[Directions, ...] = ()
    cluster_names: Mapping[int, Mapping[int, str]] = field(default_factory=dict, repr=False)
    draw: Callable[[Result], go.Figure] | None = field(default=None, repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """The main table."""
        return self.tables[MAIN]

    def _repr_html_(self) -> str:
        """In a notebook: the figure, the first rows of the main table, the notes."""
        name = f"<p><b>{plain(self.kind)}</b> {plain(self.network or '')}</p>"
        notes = "".join(f"<li>{plain(note)}</li>" for note in self.notes)
        return f"{name}{figure_html(self.figure())}{table(self.table)}<ul>{notes}</ul>"

    def names_in(self, clustering: str) -> Mapping[int, str]:
        """What the clusters are called of the clustering that a parameter names; empty where it names none."""
        return self.cluster_names.get(self.parameters.get(clustering) or 0, {})

    def figure(self) -> go.Figure:
        """Drawn from the tables, parameters and notes alone, so that a stored result needs no computation."""
        if self.draw is None:
            raise UsageError(f"no experiment made this result of kind {self.kind}, so nothing draws it")
        return self.draw(self)
