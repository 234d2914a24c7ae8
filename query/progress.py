"""How a long answer tells whoever waits what share of it is done; they may stop it by raising from there."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

FINE = 100
"""Steps that a piece of work counts as where it tells what share of itself is done."""


def tell(progress: Progress | None, done: int, total: int) -> None:
    """Tell whoever listens."""
    if progress is not None:
        progress(done, total)


def part(progress: Progress | None, done: int, total: int) -> Callable[[float], None]:
    """What tells whoever listens the share of a piece of work, when ``done`` pieces of ``total`` are behind it."""

    def told(share: float) -> None:
        tell(progress, FINE * done + int(FINE * share), FINE * total)

    told(0.0)
    return told
