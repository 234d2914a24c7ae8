"""Which tokens of a text, and which place of an image, become examples; a vector is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from atlas.checks import whole
from atlas.errors import SequenceTooShort, UsageError
from atlas.network import Tokens, TokenWindow


@dataclass(frozen=True)
class TokenSampling:
    """``per_sequence`` evenly spaced tokens of every sequence, none of the first ``skip_first``.

    The values are those of the post, from its comments: "6/1024 tokens in each sequence (evenly spaced apart and
    not including the first 100 tokens)".
    """

    per_sequence: int = 6
    skip_first: int = 100

    def __post_init__(self) -> None:
        whole("per_sequence", self.per_sequence)
        whole("skip_first", self.skip_first, 0)

    @property
    def shortest(self) -> int:
        """The least number of tokens of a sequence that gives examples."""
        return self.skip_first + self.per_sequence

    def positions(self, length: int) -> Int64[np.ndarray, " examples"]:
        """Positions in a sequence of ``length`` tokens: skip_first + floor(i (length - skip_first) / per_sequence).

        They are distinct and rise, and neighbours are equally far apart to within 1. A sequence too short for that
        many distinct tokens gives none at all, so that every sequence of a dataset weighs the same.
        """
        available = length - self.skip_first
        if available < self.per_sequence:
            return np.empty(0, np.int64)
        return self.skip_first + np.arange(self.per_sequence, dtype=np.int64) * available // self.per_sequence


@dataclass(frozen=True)
class ImageSampling:
    """The place of an image whose gates are its position code: relative row and column, each in [0, 1)."""

    row: float = 0.5
    column: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("row", self.row), ("column", self.column)):
            if not (math.isfinite(value) and 0 <= value < 1):
                raise UsageError(f"{name} is {value!r}; expected a number from 0 (top or left) to below 1")


@dataclass(frozen=True)
class WholeSampling:
    """An input is an example as it is."""


def token_windows(
    tokens: Tokens, windows: Sequence[range], sampling: TokenSampling
) -> list[tuple[range, TokenWindow]]:
    """The sequences of a text that give examples, each with its place in the text.

    ``windows`` are ranges of token indices, as `atlas.network.TextNetwork.windows` cuts a text. Those too short for
    the sampling, usually the last, are left out. Raises `ValueError` for a window that reaches outside the text.
    """
    n_tokens = len(tokens.ids)
    chosen = []
    for window in windows:
        if window.step != 1 or not 0 <= window.start <= window.stop <= n_tokens:
            raise ValueError(f"window {window} is no run of tokens of a text of {n_tokens}")
        positions = sampling.positions(len(window))
        if len(positions):
            following = int(tokens.ids[window.stop]) if window.stop < n_tokens else None
            chosen.append((window, TokenWindow(tokens.ids[window.start : window.stop], positions, following)))
    return chosen


def too_short(key: str, n_tokens: int, windows: Sequence[range], sampling: TokenSampling) -> SequenceTooShort:
    """The error for a text of which `token_windows` leaves nothing: to raise, or to keep as the reason to skip it."""
    longest = max((len(window) for window in windows), default=0)
    cut = f" in sequences of at most {longest}" if longest < n_tokens else ""
    read = f"{sampling.per_sequence} {'is' if sampling.per_sequence == 1 else 'are'} read"
    return SequenceTooShort(
        f"{key} has {n_tokens} {'token' if n_tokens == 1 else 'tokens'}{cut}; sampling needs at least "
        f"{sampling.shortest} (the first {sampling.skip_first} are skipped, {read}): lower --skip-first, "
        "or pass --skip-bad"
    )


def context(text: str, start: int, end: int, before: int = 160, after: int = 60) -> tuple[str, int]:
    """The characters around ``text[start:end]``, and where in them that token begins.

    At most ``before`` characters before it and ``after`` after it; all are Python `str` indices. Raises `ValueError`
    where the token is not in the text.
    """
    if not 0 <= start <= end <= len(text) or before < 0 or after < 0:
        raise ValueError(f"no context of {before} before and {after} after {start}:{end} in {len(text)} characters")
    first = max(0, start - before)
    return text[first : end + after], start - first
