"""Who writes the shards of a run: this process alone, or others beside it (`ingest.run.ray_engine`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from atlas.network import Network

from ..datasets.base import Dataset
from .plan import Choices, Plan, Shard, choose_inputs
from .shards import write_shard

Tell = Callable[[int], None]


@dataclass(frozen=True)
class ShardWriter:
    """Writes any shard of a run into its folder, all or nothing; twice the same shard gives the same bytes."""

    network: Network
    dataset: Dataset
    plan: Plan
    folder: Path
    skip_bad: bool

    @cached_property
    def ordinals(self) -> np.ndarray:
        """The inputs of the run, of which a shard is a part."""
        document = self.plan.document
        return choose_inputs(self.dataset, Choices(limit=document["limit"], seed=document["seed"]))

    def __call__(self, shard: Shard, progress: Tell) -> None:
        """Write a shard, telling ``progress`` of examples as they are done. Raises as `write_shard` does."""
        write_shard(
            self.network,
            self.dataset,
            self.ordinals,
            self.plan,
            shard,
            self.folder,
            skip_bad=self.skip_bad,
            progress=progress,
        )


@runtime_checkable
class Engine(Protocol):
    """Has the shards of a run written."""

    def run(self, shards: Sequence[Shard], write: ShardWriter, tell: Tell) -> None:
        """Call ``write`` with every shard, in any order and in any process that sees the run's folder.

        Args:
            shards: those that are missing.
            write: writes one of them.
            tell: is told how many examples of them are done, which may become fewer where a process was lost.

        Raises:
            PolytopeError: what writing raised. No shard is then being written any more; what is complete stays.
        """
        ...


class LocalEngine:
    """Writes one shard after the other in this process."""

    def run(self, shards: Sequence[Shard], write: ShardWriter, tell: Tell) -> None:
        """As `Engine.run` says."""
        done = 0

        def advance(examples: int) -> None:
            nonlocal done
            done += examples
            tell(done)

        for shard in shards:
            write(shard, advance)
