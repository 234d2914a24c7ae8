"""An experiment as one record: what it is asked with, what it measures, what it draws, and what it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas import Atlas, Network
from atlas.errors import UsageError

from ..clustering.made_names import cluster_titles
from ..examples.ids import network_of
from ..progress import Progress
from ..sites import network_with
from ..statistics import check_interval
from .claims import Claim
from .options import CommonOptions, IntervalOptions, Option, options_of
from .result import Result
from .schema import Table, check_tables
from .stored_json import plain
from .targets import checked_seed

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """``name`` is that of its module, and its key in `registry.EXPERIMENTS`.

    version: raised when the same question gives other numbers; a stored answer of another version is not current.
    section: of docs/SCIENCE.md, as a number; None for one that has none of its own.
    options: its class of options.
    tables: what its tables hold. `run` refuses a result that differs.
    measure: ``measure(atlas, options, progress=…)``; with ``reader=`` where it is live, and with ``controls=`` (a
        mapping, or None) where it takes them.
    figure: draws a result from its tables, parameters and notes alone.
    picture: draws a result as a PNG without a browser, where that is possible.
    arrays: ``arrays(atlas, reader, result)``: what stands behind a result and is too large for a table, by name.
    live: runs the network itself, which is handed in as ``reader``.
    controls: untrained networks can be handed in, to be shown beside the trained one.
    clusterings: its numbers depend on which clusterings the atlas holds.
    beside: the untrained controls that the atlas holds stand beside by themselves.
    quick: the options of a quick report: less of everything, so wider intervals.
    claims: what it decides, of the claims of the post.
    """

    name: str
    version: int
    section: int | None
    options: type[CommonOptions]
    tables: Mapping[str, Table]
    measure: Callable[..., Result]
    figure: Callable[[Result], go.Figure]
    picture: Callable[[Result], bytes] | None = None
    arrays: Callable[[Atlas, Network, Result], dict[str, np.ndarray]] | None = None
    live: bool = False
    controls: bool = False
    clusterings: bool = False
    beside: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    @cached_property
    def fields(self) -> Mapping[str, Option]:
        """Its options, by name."""
        return options_of(self.options)

    def network(self, atlas: Atlas, options: Mapping[str, Any]) -> str:
        """Name of the network that a question is about: the one named, the one that alone has the site, span or
        example asked about, or the only one. Raises `UnknownName` where that leaves none or several.
        """
        if options.get("network") is not None:
            return atlas.catalog.network(options["network"]).name
        place = next((options[n] for n in ("site", "span", "before") if isinstance(options.get(n), str)), None)
        if place is not None and len(atlas.catalog.networks) > 1:
            return network_with(atlas, place)
        examples = [options[n] for n in ("example", "a", "b", "x", "y") if isinstance(options.get(n), int)]
        return network_of(atlas, examples[0]) if examples else atlas.catalog.network(None).name

    def filled(self, options: Mapping[str, Any]) -> CommonOptions:
        """The options with defaults filled in. Raises `UsageError` for one that it has not, or that it lacks."""
        unknown = sorted(set(options) - set(self.fields))
        if unknown:
            raise UsageError(f"experiment {self.name} has no option {unknown[0]}; it has {', '.join(self.fields)}")
        missing = [name for name, option in self.fields.items() if option.required and name not in options]
        if missing:
            raise UsageError(f"experiment {self.name} needs {', '.join(missing)}")
        return self.options(**options)

    def question(self, options: Mapping[str, Any], controls: Mapping[str, Network] | None = None) -> dict[str, Any]:
        """What a stored answer is recognised by, besides network and data: all options, and the controls' digests."""
        filled: dict[str, Any] = asdict(self.filled(options))
        if controls:
            filled["controls"] = {name: network.info.weights_digest for name, network in sorted(controls.items())}
        return filled

    def run(
        self,
        atlas: Atlas,
        *,
        reader: Network | None = None,
        controls: Mapping[str, Network] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Result:
        """Compute the result. Raises `UsageError` for impossible options, and what ``measure`` raises."""
        filled = self.filled(options)
        if self.live and reader is None:
            raise UsageError(f"experiment {self.name} runs a network; hand it in as reader")
        if not self.live and reader is not None:
            raise UsageError(f"experiment {self.name} reads the atlas alone; it takes no reader")
        if controls and not self.controls:
            raise UsageError(f"experiment {self.name} takes no controls")
        checked_seed(filled.seed)
        if isinstance(filled, IntervalOptions):
            check_interval(filled.resamples, filled.confidence)
        handed: dict[str, Any] = {"progress": progress}
        handed |= {"reader": reader} if self.live else {}
        handed |= {"controls": controls} if self.controls else {}
        result = self.measure(atlas, filled, **handed)
        check_tables(self.name, result.tables, self.tables)
        asked = {name: value for name, value in asdict(filled).items() if name != "network"}
        parameters = plain({**asked, **result.parameters})
        return replace(
            result,
            parameters=parameters,
            options=self.question(options, controls),
            cluster_names=names_of_clusterings(atlas, parameters),
            draw=self.figure,
        )


def names_of_clusterings(atlas: Atlas, parameters: Mapping[str, Any]) -> dict[int, dict[int, str]]:
    """What the clusters are called now of every clustering that parameters name; one that is gone has no names."""
    named = {value for key, value in parameters.items() if key.startswith("clustering") and isinstance(value, int)}
    held = atlas.columns("select clustering_id from clusterings where clustering_id = any($1)", [sorted(named)])
    return {int(number): cluster_titles(atlas, int(number)) for number in held["clustering_id"]}
