"""The experiments there are, by name. Their modules load when one is run or drawn, and not before."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import numpy as np

from atlas import Atlas, Network
from atlas.errors import UnknownName, UsageError

from ..examples.ids import network_of
from ..progress import Progress
from ..sites import network_with
from .result import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go

HANDED = ("atlas", "reader", "controls", "progress")
"""Parameters of an experiment's function that are no options: what it reads, and whom it tells."""

COMMON = {
    "network": "Name of a network in the atlas, where there are several.",
    "seed": "Of everything that is drawn at random.",
    "resamples": "Resamples of an interval, and permutations of a test.",
    "confidence": "Confidence of the intervals.",
}
"""What these parameters mean wherever they occur."""


@dataclass(frozen=True)
class Experiment:
    """``module`` of this package holds a function called ``name`` and one called ``draw_<name>``.

    section: of docs/SCIENCE.md, as a number; None for one that has none of its own.
    summary: what comes out, in a sentence.
    needs: ``stored``: reads the atlas alone. ``live``: is handed the network as ``reader`` as well.
    clusterings: whether the numbers depend on which clusterings the atlas holds.
    beside: whether the untrained controls that the atlas holds stand beside by themselves.
    """

    name: str
    module: str
    section: int | None
    summary: str
    needs: Literal["stored", "live"] = "stored"
    clusterings: bool = False
    beside: bool = False

    @property
    def function(self) -> Callable[..., Result]:
        """What computes the result."""
        return self._attribute(self.name)

    def draw(self, result: Result) -> go.Figure:
        """The figure of a result, from its tables and parameters alone."""
        return self._attribute(f"draw_{self.name}")(result)

    @property
    def has_picture(self) -> bool:
        """Whether a result can be drawn as a PNG without a browser."""
        return hasattr(import_module(f"{__package__}.{self.module}"), f"png_{self.name}")

    def picture(self, result: Result) -> bytes:
        """A result as a PNG, drawn without a browser; `UsageError` where an experiment has none (only slice has)."""
        module = import_module(f"{__package__}.{self.module}")
        if not self.has_picture:
            raise UsageError(
                f"experiment {self.name} draws no PNG; write its figure as HTML, to a file ending in .html"
            )
        drawn: bytes = getattr(module, f"png_{self.name}")(result)
        return drawn

    @property
    def has_arrays(self) -> bool:
        """Whether a result stands for arrays too large for a table."""
        return hasattr(import_module(f"{__package__}.{self.module}"), f"arrays_{self.name}")

    def arrays(self, atlas: Atlas, reader: Network, result: Result) -> dict[str, np.ndarray]:
        """The arrays behind a result, by name, computed again; `UsageError` where an experiment has none (only affine
        has: its map)."""
        if not self.has_arrays:
            raise UsageError(f"experiment {self.name} has no arrays; its tables hold all that it found")
        found: dict[str, np.ndarray] = self._attribute(f"arrays_{self.name}")(atlas, reader, result)
        return found

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters that a person chooses, by name, annotations resolved."""
        hints = get_type_hints(self.function, include_extras=True)
        return {
            name: parameter.replace(annotation=hints.get(name, Any))
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in HANDED
        }

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

    @property
    def takes_controls(self) -> bool:
        """Whether untrained networks can be handed in, to be shown beside the trained one."""
        return "controls" in inspect.signature(self.function).parameters

    def asked(self, options: Mapping[str, Any], controls: Mapping[str, Network] | None = None) -> dict[str, Any]:
        """The options with defaults filled in, and the digests of the controls: what a question is recognised by.

        Raises `UsageError` for an option that the experiment does not have.
        """
        known = self.options
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UsageError(f"experiment {self.name} has no option {unknown[0]}; it has {', '.join(known)}")
        missing = [n for n, option in known.items() if option.default is option.empty and n not in options]
        if missing:
            raise UsageError(f"experiment {self.name} needs {', '.join(missing)}")
        filled = {name: options.get(name, option.default) for name, option in known.items()}
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
        """Compute the result. Raises `UsageError` for impossible options, and what the experiment raises."""
        asked = self.asked(options, controls)
        if self.needs == "live" and reader is None:
            raise UsageError(f"experiment {self.name} runs a network; hand it in as reader")
        if self.needs == "stored" and reader is not None:
            raise UsageError(f"experiment {self.name} reads the atlas alone; it takes no reader")
        if controls and not self.takes_controls:
            raise UsageError(f"experiment {self.name} takes no controls")
        handed: dict[str, Any] = {"progress": progress}
        if controls:
            handed["controls"] = controls
        readers = () if reader is None else (reader,)
        return replace(self.function(atlas, *readers, **options, **handed), asked=asked)

    def parameter_help(self, name: str) -> str:
        """What the function's docstring says of a parameter: the sentence after ``name``: up to the next one."""
        if name in COMMON:
            return COMMON[name]
        text = inspect.getdoc(self.function) or ""
        found = re.search(rf"``{name}``:\s*(.+?)(?=\s*``\w+``:|\n\s*\n|\Z)", text, re.DOTALL)
        found = found or re.search(rf"^\s*{name}:\s*(.+?)(?=\n\s*\w+:|\n\s*\n|\Z)", text, re.DOTALL | re.MULTILINE)
        words = " ".join(found.group(1).split()).replace("``", "") if found else name.replace("_", " ")
        return words[0].upper() + words[1:]

    def _attribute(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(f"{__package__}.{self.module}"), name)
        return function


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "monosemanticity",
            "monosemanticity",
            1,
            "How alike the labels are within clusters of codes, against activations, neurons, directions and chance.",
            clusterings=True,
        ),
        Experiment(
            "neuron",
            "neuron",
            2,
            "What activates a unit, over its whole range, and how many clusters and labels that is.",
            clusterings=True,
        ),
        Experiment(
            "directions",
            "directions",
            3,
            "Whether NMF and PCA directions are each about one cluster.",
            clusterings=True,
        ),
        Experiment(
            "projection",
            "projection",
            3,
            "Whether the values along one direction or neuron fall into intervals that are each about one label.",
            clusterings=True,
        ),
        Experiment(
            "density",
            "density",
            4,
            "Whether boundaries lie more densely between classes than within, trained and untrained side by side.",
            beside=True,
        ),
        Experiment(
            "interpolate",
            "paths",
            5,
            "Boundaries crossed on the way from one example to another, of the same or of another label.",
            needs="live",
        ),
        Experiment(
            "scale",
            "scaling",
            5,
            "Boundaries crossed, and the class, as an activation is scaled; beside noise and untrained networks.",
            needs="live",
        ),
        Experiment(
            "slice",
            "slices",
            6,
            "A plane through an activation space: the polytopes and classes it meets, boundaries as lines.",
            needs="live",
        ),
        Experiment(
            "affine",
            "affine",
            7,
            "The affine map of an example's polytope, and whether examples far apart in gates have other maps.",
            needs="live",
        ),
        Experiment(
            "soft",
            "soft",
            8,
            "How blurred the gates of a smooth network are: expected Hamming distances, and the share undecided.",
            needs="live",
        ),
        Experiment(
            "flow",
            "flow",
            9,
            "Which pairs and which clusters converge or diverge from one site to a later one.",
            clusterings=True,
        ),
        Experiment(
            "dictionary",
            "dictionary",
            10,
            "A sparse basis of codes, overcomplete if asked: the gates and examples of its atoms, and their purity.",
            clusterings=True,
        ),
        Experiment(
            "intervene",
            "intervene",
            11,
            "What the network says when a cluster's most distinctive gates are set, against random gates.",
            needs="live",
            clusterings=True,
        ),
        Experiment(
            "adversarial",
            "adversarial",
            12,
            "Boundaries that FGSM and PGD perturbations cross, against random directions of the same norm.",
            needs="live",
        ),
        Experiment(
            "layernorm",
            "layernorm",
            13,
            "Whether scaling before LayerNorm flips gates, and whether scaling the MLP hidden vector does.",
            needs="live",
        ),
        Experiment(
            "occupancy",
            "occupancy",
            None,
            "How many distinct codes the examples have, by site and span.",
        ),
    )
}
"""By name, in the order of docs/SCIENCE.md."""


def find(name: str) -> Experiment:
    """The experiment of that name; `UnknownName` otherwise."""
    if name not in EXPERIMENTS:
        raise UnknownName(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def run(atlas: Atlas, name: str, **options: Any) -> Result:
    """Run an experiment by name; see `Experiment.run`."""
    return find(name).run(atlas, **options)
