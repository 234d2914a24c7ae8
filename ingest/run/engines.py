"""Who does the tasks of a work, such as writing the shards of a run: this process alone, or others beside it
(`ingest.run.ray_engine`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

Tell = Callable[[int], None]


@runtime_checkable
class Task(Protocol):
    """What is done whole or not at all: a shard, say. ``size``: what progress counts of it, examples for one."""

    @property
    def number(self) -> int: ...

    @property
    def size(self) -> int: ...


@runtime_checkable
class Work(Protocol):
    """Does any of some tasks, whose results are files in ``folder``; the same task twice leaves the same files.

    ``unit``: what a task is called. ``described``: what it needs, in words.
    """

    unit: ClassVar[str]

    @property
    def folder(self) -> Path: ...

    @property
    def described(self) -> str: ...

    def __call__(self, task: Any, progress: Tell, /) -> None:
        """Do a task, telling ``progress`` what more of its size is done."""
        ...

    def elsewhere(self) -> Callable[[str], Work]:
        """What makes the work again in another process, called with a device ("cpu" or "cuda"); it can be pickled,
        and is small: what is large lies in the folder."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Has the tasks of a work done, such as the shards of a run written."""

    def run(self, tasks: Sequence[Task], work: Work, tell: Tell) -> None:
        """Call ``work`` with every task, in any order and in any process that sees the work's folder.

        Args:
            tasks: those that are missing.
            work: does one of them.
            tell: is told how much of their sizes is done, which may become less where a process was lost.

        Raises:
            PolytopeError: what a task raised. None is being done any more then; what is complete stays.
        """
        ...


class LocalEngine:
    """Does one task after the other in this process."""

    def run(self, tasks: Sequence[Task], work: Work, tell: Tell) -> None:
        """As `Engine.run` says."""
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            tell(done)

        for task in tasks:
            work(task, advance)
