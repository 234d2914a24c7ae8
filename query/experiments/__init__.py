"""Every experiment of the post, as a function with statistics, a stored result and a figure.

>>> import atlas
>>> from query import experiments
>>> with atlas.open("demo.atlas") as a:
...     result = experiments.run(a, "density", network="demo-inceptionv1")
>>> result.table, result.figure(), result.notes

An experiment reads the atlas only. `archive.save` stores its result, in an atlas that is open for writing. Those that
need a live network are handed one as ``reader``.
"""

from ..progress import Progress
from .archive import load, save, stored
from .registry import EXPERIMENTS, Experiment, find, run
from .result import Result

__all__ = ["EXPERIMENTS", "Experiment", "Progress", "Result", "find", "load", "run", "save", "stored"]
