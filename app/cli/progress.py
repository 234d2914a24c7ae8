"""Progress on a terminal: bars with rate and time left, one for a whole run; plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
    from ingest.run.outlook import Outlook
    from ingest.run.plan import Plan

LINE_EVERY = 10.0
"""Seconds between two lines of a log."""


class TerminalProgress(Progress):
    """Shows the plan, then every step. Everything goes to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.outlook: Outlook | None = None
        self.whole: _Whole | None = None

    def plan(self, plan: Plan, estimate: Forecast, network: object, dataset: Dataset) -> None:
        for line in describe_plan(plan, estimate, dataset):
            self.console.print(Text(with_signs(line)), soft_wrap=True)

    @contextmanager
    def run(self, outlook: Outlook) -> Iterator[None]:
        self.outlook = outlook
        try:
            if not self.console.is_terminal:
                yield
                return
            with Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[counted]}"),
                _Rate(),
                _Left(),
                console=self.console,
            ) as bars:
                self.whole = _Whole(bars)
                yield
        finally:
            self.outlook = self.whole = None

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        if total == 0:
            yield Step()
        elif self.whole is not None and self.outlook is not None:
            yield _Part(self.whole, self.outlook, name, unit, total, done)
        elif self.console.is_terminal:
            with self._bars() as bars:
                yield _Bar(
                    bars, bars.add_task(escape(with_signs(name)), total=total, completed=done, unit=unit, before=done)
                )
        else:
            started = time.monotonic()
            yield _Lines(with_signs(name), unit, total, done, self.outlook)
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


class _Whole:
    """The one bar of a run, in seconds."""

    def __init__(self, bars: Bars) -> None:
        self.bars, self.started = bars, time.monotonic()
        self.task = bars.add_task("", total=None, before=0, counted="", unit="", until=None, part=None)

    def show(self, left: float | None, **fields: Any) -> None:
        """``left``: seconds until the run is over, None where nothing says."""
        now = time.monotonic()
        elapsed = now - self.started
        total, until = (None, None) if left is None else (elapsed + left, now + left)
        self.bars.update(self.task, completed=elapsed, total=total, until=until, **fields)


class _Part(Step):
    """A step of a run, which its one bar stands for."""

    def __init__(self, whole: _Whole, outlook: Outlook, name: str, unit: str, total: int | None, done: int) -> None:
        self.whole, self.outlook, self.unit, self.before, self.done = whole, outlook, unit, done, done
        self.total, self.started = total or 0, time.monotonic()
        self.expected = outlook.begin(name)
        self.whole.show(
            outlook.left(0, 0, self.expected), description=escape(with_signs(name)), counted="", part=None
        )

    def advance(self, amount: int) -> None:
        self.update(self.done + amount, self.total)

    def update(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        elapsed = time.monotonic() - self.started
        share = (done - self.before) / (total - self.before) if total > self.before else 0.0
        counted = f"{done:,} of {total:,} {self.unit}"
        part = (done - self.before, elapsed, self.unit)
        self.whole.show(self.outlook.left(share, elapsed, self.expected), counted=counted, part=part)


class _Lines(Step):
    def __init__(self, name: str, unit: str, total: int | None, done: int, outlook: Outlook | None) -> None:
        self.name, self.unit, self.total, self.done, self.before = name, unit, total, done, done
        self.outlook, self.expected = outlook, None if outlook is None else outlook.begin(name)
        self.started = self.told = time.monotonic()

    def advance(self, amount: int) -> None:
        self.update(self.done + amount, self.total or 0)

    def update(self, done: int, total: int) -> None:
        self.done, self.total, now = done, total, time.monotonic()
        if now - self.told < LINE_EVERY:
            return
        self.told = now
        rate = (done - self.before) / (now - self.started)
        print(
            f"{self.name}: {done} of {total} {self.unit}, {rate:.1f}/s{self._left(rate)}", file=sys.stderr, flush=True
        )

    def _left(self, rate: float) -> str:
        if not rate or not self.total:
            return ""
        if self.outlook is None:
            return f", {(self.total - self.done) / rate:.0f} s left"
        share = (self.done - self.before) / (self.total - self.before)
        left = self.outlook.left(share, time.monotonic() - self.started, self.expected)
        return "" if left is None else f", {left:.0f} s left of the run"


class _Rate(ProgressColumn):
    """Units a second, of this attempt, or of the step that a run is at."""

    def render(self, task: Task) -> Text:
        done, elapsed, unit = task.completed - task.fields["before"], task.finished_time, task.fields["unit"]
        if not task.finished:
            elapsed = task.elapsed
        if task.fields.get("part"):
            done, elapsed, unit = task.fields["part"]
        if not elapsed or not unit:
            return Text("")
        rate = done / elapsed
        return Text(f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s")


class _Left(ProgressColumn):
    """Until the whole run is over: short enough for 80 columns."""

    def render(self, task: Task) -> Text:
        until = task.fields["until"]
        if until is None:
            return Text("")
        minutes, seconds = divmod(max(0, round(until - time.monotonic())), 60)
        return Text(f"{minutes}:{seconds:02} left" if minutes or seconds else "soon done")


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
        f"examples     {plan.n_examples:,} in {counted(len(plan.shards), 'shard')}{_stored_once(plan)}",
        f"codes        {bits:,} bits an example, {bits * plan.n_examples:,} in all",
        f"activations  {_activations(plan, estimate)}",
        f"on disk      {size(estimate.atlas_bytes)}, and {size(estimate.staging_bytes)} more until it is published",
    ]
    if plan.bad:
        lines.append(f"left out     {counted(len(plan.bad), 'unusable input')}, listed at the end")
    if dataset.ignored:
        lines.append("ignored      " + ", ".join(f"{count} {suffix}" for suffix, count in dataset.ignored.items()))
    return lines


def _activations(plan: Plan, estimate: Forecast) -> str:
    if plan.stored_activations:
        return "stored, rounded to bfloat16" if plan.bfloat16 else "stored"
    if not plan.left_out:
        return "not stored"
    takes = " or ".join(f"{size(stored)} as {kind}" for kind, stored in estimate.activations.items())
    return f"not stored, of so many examples; they would take {takes} (--store-activations, --bfloat16)"


def _stored_once(plan: Plan) -> str:
    if plan.n_repeated is None:
        return " at most: what can't be read, or is there already, is known once it is read"
    if not plan.n_repeated:
        return ""
    return f"; {counted(plan.n_repeated, 'input has', 'inputs have')} the content of another one: each is stored once"


def size(n_bytes: float) -> str:
    """A number of bytes for people: 3.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
