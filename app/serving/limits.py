"""What a server spends on one question, and on all together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one answer: ``rows``, ``seconds`` until it is there, ``megabytes``; ``requests`` are answered at a time, and
    ``WAITING`` times as many wait."""

    rows: int = 100_000
    seconds: float = 60.0
    megabytes: int = 64
    requests: int = 8


WAITING = 8
"""Requests that wait for each that is answered; more are turned away."""

READERS, QUERIES = 1, 2
"""Processes at a time that a server has for what a network reads and what takes long, and for SQL."""

QUEUE = 16
"""Questions that wait for one of those processes; more are turned away."""

QUERY_MEMORY = 1_000_000_000
"""Bytes that SQL may take, as in the explorer."""

READER_MEMORY = 6_000_000_000
"""Bytes that a network and what is computed with it may take: GPT-2 small in float32 takes 0.6 GB, and as much again
while it is loaded."""

READER_KEEPS = 4_000_000_000
"""Bytes with which the process of a network waits for the next input."""
