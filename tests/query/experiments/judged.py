"""Tables made for a rule: what supports a claim, what speaks against it, and what leaves it open."""

import pandas as pd

from query.experiments.result import Result


def result(kind, **tables):
    """A result of these rows, by table."""
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return Result(kind, "net", {}, {"table": frames.pop("table", pd.DataFrame()), **frames})


def interval(name, low, high):
    """The three columns of a number with an interval."""
    return {name: (low + high) / 2, f"{name}_low": low, f"{name}_high": high}


UP, DOWN, WIDE = (1.2, 1.4), (0.7, 0.9), (0.8, 1.3)
"""Intervals above 1, below it, and around it."""
