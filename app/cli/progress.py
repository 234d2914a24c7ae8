"""Progress of a run on a terminal: bars with rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ingest.progress import Progress, Step

from ..plain_text import counted, with_signs

if TYPE_CHECKING:  # these load hdbscan, which a bar can do without
    from ingest.datasets.base import Dataset
    from ingest.run.forecast import Forecast
    from ingest.run.plan import Plan

LINE_EVERY = 10.0
"""Seconds between two lines of a log."""


class TerminalProgress(Progress):
    """Shows the plan, then every step. Everything goes to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)

    def plan(self, plan: Plan, estimate: Forecast, network: object, dataset: Dataset) -> None:
        for line in describe_plan(plan, estimate, dataset):
            self.console.print(Text(with_signs(line)), soft_wrap=True)

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        if total == 0:
            yield Step()
        elif self.console.is_terminal:
            with self._bars() as bars:
                yield _Bar(
                    bars, bars.add_task(escape(with_signs(name)), total=total, completed=done, unit=unit, before=done)
                )
        else:
            started = time.monotonic()
            yield _Lines(with_signs(name), unit, total, done)
            print(f"{with_signs(name)}: done in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)

    def _bars(self) -> Bars:
        return Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=self.console,
        )


class _Bar(Step):
    def __init__(self, bars: Bars, task: object) -> None:
        self.bars, self.task = bars, task

    def advance(self, amount: int) -> None:
        self.bars.advance(self.task, amount)  # type: ignore[arg-type]

    def update(self, done: int, total: int) -> None:
        self.bars.update(self.task, completed=done, total=total)  # type: ignore[arg-type]


class _Lines(Step):
    def __init__(self, name: str, unit: str, total: int | None, done: int) -> None:
        self.name, self.unit, self.total, self.done, self.before = name, unit, total, done, done
        self.started = self.told = time.monotonic()

    def advance(self, amount: int) -> None:
        self.update(self.done + amount, self.total or 0)

    def update(self, done: int, total: int) -> None:
        self.done, self.total, now = done, total, time.monotonic()
        if now - self.told < LINE_EVERY:
            return
        self.told = now
        rate = (done - self.before) / (now - self.started)
        left = f", {(total - done) / rate:.0f} s left" if rate and total else ""
        print(f"{self.name}: {done} of {total} {self.unit}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)


class _Rate(ProgressColumn):
    """Units a second, of this attempt."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        if not elapsed:
            return Text("")
        rate = (task.completed - task.fields["before"]) / elapsed
        return Text(f"{rate:,.0f} {task.fields['unit']}/s" if rate >= 10 else f"{rate:.1f} {task.fields['unit']}/s")


def describe_plan(plan: Plan, estimate: Forecast, dataset: Dataset) -> list[str]:
    """The plan in a few lines, before anything long begins."""
    document, bits = plan.document, plan.bits_per_example
    shown = [site.name for site in plan.sites]
    sites = ", ".join(shown) if len(shown) <= 6 else f"{shown[0]} … {shown[-1]}"
    lines = [
        f"network      {document['network']['name']} ({document['network']['architecture']}, weights "
        f"{document['network']['weights_digest'][:12]})",
        f"data         {document['data']['name']}: {counted(plan.n_inputs, 'input')} of {document['data']['source']}",
        f"sites        {len(shown)}: {sites}",
        f"examples     {plan.n_examples:,} in {counted(len(plan.shards), 'shard')}",
        f"codes        {bits:,} bits an example, {bits * plan.n_examples:,} in all",
        f"activations  {'stored' if plan.stored_activations else 'not stored'}",
        f"on disk      {size(estimate.atlas_bytes)}, and {size(estimate.staging_bytes)} more until it is published",
    ]
    if plan.bad:
        lines.append(f"left out     {counted(len(plan.bad), 'unusable input')}, listed at the end")
    if dataset.ignored:
        lines.append("ignored      " + ", ".join(f"{count} {suffix}" for suffix, count in dataset.ignored.items()))
    return lines


def size(n_bytes: float) -> str:
    """A number of bytes for people: 3.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
