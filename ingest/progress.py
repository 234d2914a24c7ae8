"""How a long step tells what it does. The default is silent; ``app`` draws bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atlas.network import Network

if TYPE_CHECKING:
    from .datasets.base import Dataset
    from .run.forecast import Forecast
    from .run.outlook import Outlook
    from .run.plan import Plan


class Step:
    """A step under way. ``advance`` adds, ``update`` sets what is done (and the total, once it is known)."""

    def advance(self, amount: int) -> None:
        return

    def update(self, done: int, total: int) -> None:
        return


class Progress:
    """Watches a run. Override what you want to show."""

    def plan(self, plan: Plan, estimate: Forecast, network: Network, dataset: Dataset) -> None:
        """The run is about to start as planned."""

    @contextmanager
    def run(self, outlook: Outlook) -> Iterator[None]:
        """Until it is left, steps are those of one run, of which `outlook` says how long the rest will take."""
        yield

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        """A step of ``total`` units begins, ``done`` of them done in an earlier attempt."""
        yield Step()
