"""A network that ends who runs it, in a module of which Ray's workers import little else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import ray

from atlas.network import Reading, Site, TokenWindow
from tests.networks import WordReader, word_network


def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_node() -> None:
    """Of a worker the parent is the raylet, without which there is no node."""
    os.kill(os.getppid(), signal.SIGKILL)
    end_worker()


class Meeting:
    """Where processes wait for each other: else the first to start would write all shards."""

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()
        self.complete: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def come(self, what: str, size: int) -> None:
        """Wait until so many have come for the same."""
        self.came[what] += 1
        if self.came[what] >= size:
            self.complete[what].set()
        await self.complete[what].wait()


class MortalReader(WordReader):
    """The network of words. Writes down who reads a batch, and ends its process, or more, with the second.

    ``deaths``: how many processes end so, all in the middle of a shard; ``node``: those of this one alone.
    ``meeting``: an actor's name, a `Meeting` where so many processes are awaited first.
    """

    def __init__(
        self,
        log: Path,
        deaths: int = 0,
        dies: Callable[[], None] = end_worker,
        node: str | None = None,
        meeting: str | None = None,
        size: int = 0,
    ) -> None:
        vars(self).update(vars(word_network()))
        self.log, self.deaths, self.dies, self.node = log, deaths, dies, node
        self.meeting, self.size, self.batches = meeting, size, 0

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        node = ray.get_runtime_context().get_node_id()
        with self.log.open("a") as file:
            file.write(f"{node} {os.getpid()}\n")
        self.batches += 1
        if self.meeting and self.batches == 1:
            ray.get(ray.get_actor(self.meeting).come.remote(str(self.log), self.size), timeout=120)
        died = list(self.log.parent.glob("death *"))
        if self.batches == 2 and node == (self.node or node) and len(died) < self.deaths:
            self.log.with_name(f"death {os.getpid()}").touch()
            self.dies()
        return super().read(batch, codes, activations)

    def read_by(self) -> list[tuple[str, str]]:
        """Node and process of every batch."""
        return [tuple(line.split()) for line in self.log.read_text().splitlines()]
