"""How long the whole of a run will take: what is under way as fast as so far, what follows as fast as elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from ..derived.job import AUTOMATIC_POINTS
from .plan import Plan

PUBLISHED = 40e6
"""Bytes of codes and activations that are published in a second: 25 to 80 MB/s on two cores that others shared."""

INDEXED = 200e6
"""Bytes of codes that are indexed in a second."""

CLUSTERED = 5e-12
"""Seconds for each gate of each pair of examples that are clustered: twice what two idle cores take."""

BEGINNING = 0.3
"""Seconds of any step, however small."""

LEAST_SHARE = 0.01
"""Share of a step that must be done before its speed says anything."""


@dataclass
class Outlook:
    """``ahead``: seconds that steps of a run will take, by their names and in their order, but for those that have
    begun."""

    ahead: dict[str, float]

    @classmethod
    def of(cls, plan: Plan, *, cluster: bool) -> Outlook:
        """Of a planned run after it was read."""
        n = plan.n_examples
        codes = n * sum(site.n_bytes for site in plan.sites)
        values = codes + 4 * n * sum(site.n_units for site in plan.stored_activations)
        ahead = {"publish": BEGINNING + values / PUBLISHED, "index": BEGINNING + codes / INDEXED}
        if cluster and n <= AUTOMATIC_POINTS:
            ahead |= {f"cluster {s.name} (codes)": BEGINNING + CLUSTERED * n * n * s.n_gates for s in plan.sites}
        return cls(ahead)

    def begin(self, step: str) -> float | None:
        """A step begins: it and those before it are no longer ahead. Returns the seconds that it will take, if it is
        known here."""
        if step not in self.ahead:
            return None
        names = list(self.ahead)
        seconds = self.ahead[step]
        self.ahead = {name: self.ahead[name] for name in names[names.index(step) + 1 :]}
        return seconds

    def left(self, share: float, elapsed: float, expected: float | None) -> float | None:
        """Seconds until the run is over, ``share`` of a step done after ``elapsed`` seconds of the ``expected`` ones.

        None where nothing says how long the step will take.
        """
        if share >= LEAST_SHARE:
            of_step = elapsed * (1 - share) / share
        elif expected is not None:
            of_step = max(0.0, expected - elapsed)
        else:
            return None
        return of_step + sum(self.ahead.values())
