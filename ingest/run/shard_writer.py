"""Writing any shard of a run, in this process or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from atlas.network import Network

from ..datasets.base import Dataset
from ..networks.registry import again_of
from .engines import Tell
from .plan import Choices, Plan, Shard, choose_inputs
from .shards import write_shard


@dataclass(frozen=True)
class ShardWriter:
    """Writes any shard of a run into its folder, all or nothing; twice the same shard gives the same bytes."""

    unit: ClassVar[str] = "shard"

    network: Network
    dataset: Dataset
    plan: Plan
    folder: Path
    skip_bad: bool

    @property
    def described(self) -> str:
        return f"network {self.network.info.name} or dataset {self.dataset.name}"

    def elsewhere(self) -> Callable[[str], ShardWriter]:
        """As `Work.elsewhere` says."""
        again = again_of(self.network)
        return partial(_again, again, self.dataset, self.plan, self.folder.absolute(), self.skip_bad)

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


def _again(
    network: Callable[..., Network], dataset: Dataset, plan: Plan, folder: Path, skip_bad: bool, device: str
) -> ShardWriter:
    return ShardWriter(network(device=device), dataset, plan, folder, skip_bad)
