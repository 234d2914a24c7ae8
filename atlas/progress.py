"""How a long computation says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told (steps done, steps in all), rising; may raise, which stops the work."""

Tell = Callable[[float], None]
"""Told what share of the work is done, 0 to 1."""
