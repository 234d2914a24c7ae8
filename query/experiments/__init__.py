"""Every experiment of the post, as a record: options, tables, measurement, figure, and the claims that it decides.

>>> import atlas
>>> from query import experiments
>>> with atlas.open("demo.atlas") as a:
...     result = experiments.run(a, "density", network="demo-inceptionv1")
>>> result.table, result.figure(), result.notes

An experiment reads the atlas only; one that is live is handed a network as ``reader``. `save` stores its result, in
an atlas that is open for writing.

To add an experiment, write one file and one line. The line is in `registry.EXPERIMENTS`: name and summary. The file
is ``<name>.py`` here, `occupancy` the shortest to copy, and holds:

1. ``Options``, a frozen dataclass over `options.CommonOptions` (network, seed) or `IntervalOptions` (resamples and
   confidence too). The string under a field is its help, on the command line as on the page. Seed and interval are
   checked before ``measure`` is called; check the rest with `whole`, `share`, `increasing` of `targets`.
2. ``TABLES``: each table's columns with type, meaning and unit. A result that differs is refused.
3. ``measure(atlas, options, *, progress=None)``, live ``measure(atlas, options, *, reader, progress=None)``, gives a
   `Result`: a table called "table", any others, the parameters that reproduce them, and notes on what is approximate.
   The same seed gives the same numbers.
4. ``figure(result)``, drawn from the result alone, in the style of `figures`.
5. Its claims, if the post makes any: a rule in words, a judge that follows it, a `Claim` with its place in the post.
6. ``EXPERIMENT``, the record of all these. Its ``version`` is raised whenever the same question gives other numbers.

The command line, the explorer and the report have it from there.
"""

from dataclasses import replace

from ..progress import Progress
from ..remote.dispatch import dispatched
from .archive import load, save, stored
from .record import Experiment
from .registry import EXPERIMENTS, draw, find, run
from .result import Result

__all__ = ["EXPERIMENTS", "Experiment", "Progress", "Result", "find", "load", "run", "save", "stored"]

SERVED = ("load", "stored")
"""The public functions that a server of an atlas answers, as ``experiments.load`` and so on."""

_REFUSED = "experiments.{} is for an atlas on disk; a server has stored results: experiments.stored lists them"

load = dispatched(load, name="experiments.load", mend=lambda result: replace(result, draw=draw))
stored = dispatched(stored, name="experiments.stored")
run = dispatched(run, refused=_REFUSED.format("run"))
save = dispatched(save, refused=_REFUSED.format("save"))
