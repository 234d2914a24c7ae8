"""Computations that outlast a click: in a thread of their own, with progress, shared by all who ask the same.

A job reads the atlas through a connection of its own, so that a page that is left, or another session's, never waits
for it. Stopping takes effect at the job's next report of progress, or inside the SQL statement that it waits for.

What takes minutes and what a page needs to be drawn wait for turns of different kinds (`Turns`), and no session may
take all of one kind. A network is waited for before the turn. A job that nobody looks at any more is stopped, sooner
where it holds up what its session looks at now, and an answer that nobody took dropped.
"""

from __future__ import annotations

import inspect
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

import atlas
from atlas import Atlas, Network
from atlas.errors import PolytopeError

from .. import sandbox

INTERRUPT_EVERY = 0.05  # seconds

INTERESTED_FOR = 90.0
"""Seconds after a session last looked at a job in which it counts as interested: a browser lets a hidden tab look
only once a minute."""

LEFT = 3.0
"""By so many seconds a session looked at one job later than at another that it has left. A page looks at each of its
own several times a second; on a busy machine, less often."""

TIDY_EVERY = 1.0
"""Seconds between two looks for jobs that nobody is interested in."""


class Stopped(PolytopeError):
    """Someone pressed Stop."""


class _Interrupted(BaseException):
    """Ends the computation from within its report of progress; no handler of ordinary errors holds it up."""


class Turns:
    """How many jobs of a kind compute at the same time, and how many of one session; the others wait. Each may use
    all cores."""

    def __init__(self, at_once: int, each: int) -> None:
        self._at_once = at_once
        self._each = each
        self._taken: list[str] = []
        self._changed = threading.Condition()

    @contextmanager
    def one(self, session: str, go_on: Callable[[], None]) -> Iterator[None]:
        """A turn of a session; while it waits, what ``go_on`` raises ends that."""
        with self._changed:
            while len(self._taken) >= self._at_once or self._taken.count(session) >= self._each:
                go_on()
                self._changed.wait(INTERRUPT_EVERY)
            self._taken.append(session)
        try:
            yield
        finally:
            with self._changed:
                self._taken.remove(session)
                self._changed.notify_all()


PAGE = Turns(4, 2)
"""What a page needs to be drawn: seconds."""

SQL = Turns(3, 1)
"""A user's query. A newer one of the same session takes its place."""

LONG = Turns(2, 1)
"""What someone asked to have measured: minutes."""


class Job:
    """One computation, which ``session`` asked for. ``answer`` or ``error`` is set once ``finished`` is."""

    def __init__(self, label: str, turns: Turns, session: str) -> None:
        self.label = label
        self.turns = turns
        self.answer: Any = None
        self.error: BaseException | None = None
        self._session = session
        self._progress: tuple[int, int] | None = None
        self._query: tuple[float, float | None] | None = None
        self._waits_for = "another computation"
        self._begun: float | None = None
        self._ended = threading.Event()
        self._told_to_stop = threading.Event()
        self._atlas: Atlas | None = None
        self._watchers: dict[str, float] = {}

    # --- from the page ----------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._ended.is_set()

    @property
    def stopping(self) -> bool:
        return self._told_to_stop.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has finished within so many seconds; without a number, once it has."""
        return self._ended.wait(seconds)

    def watched_by(self, session: str) -> None:
        self._watchers[session] = time.monotonic()

    def wanted(self) -> bool:
        """Whether a session is interested."""
        now = time.monotonic()
        return any(now - seen < INTERESTED_FOR for seen in list(self._watchers.values()))

    def stop_for(self, session: str) -> None:
        """Stop it, unless another session is waiting for the same answer."""
        self._watchers.pop(session, None)
        if not self.wanted():
            self.stop()

    def stop(self) -> None:
        if not self._told_to_stop.is_set():
            self._told_to_stop.set()
            threading.Thread(target=self._interrupt, name=f"stop {self.label}", daemon=True).start()

    def gives_way_to(self, other: Job, session: str) -> None:
        """Stop it if the session has turned from it to the other."""
        if session in self._watchers and other._watchers.get(session, 0.0) - self._watchers[session] > LEFT:
            self.stop_for(session)

    def replaced_for(self, session: str) -> None:
        """The session asks something else instead."""
        if session in self._watchers:
            self.stop_for(session)

    def state(self) -> tuple[float | None, str]:
        """Share done (None where nobody knows) and a line for people: what, how long, how much longer."""
        if self.stopping:
            return None, f"{self.label}: stopping"
        if self._begun is None:
            return None, f"{self.label}: waiting for {self._waits_for}"
        if self._query is not None:
            begun, limit = self._query
            elapsed = time.monotonic() - begun
            if limit is not None:
                return min(1.0, elapsed / limit), f"{self.label}: {_seconds(elapsed)} of at most {_seconds(limit)}"
        elapsed = time.monotonic() - self._begun
        if self._progress is None or not self._progress[0]:
            return None, f"{self.label}: {_seconds(elapsed)}"
        done, total = self._progress
        share = min(1.0, done / total) if total else 0.0
        left = elapsed * (1 - share) / share if share else 0.0
        return share, f"{self.label}: {done:,} of {total:,}, {_seconds(elapsed)}, {_seconds(left)} left"

    def _interrupt(self) -> None:
        """Again and again: an interrupt that comes just before its statement begins is lost."""
        while not self._ended.wait(INTERRUPT_EVERY):
            if (a := self._atlas) is not None:
                a.interrupt()

    # --- from its thread --------------------------------------------------------------------------------------

    def run(self, compute: Callable[[Job, Network | None], Any], network: Waited | None) -> None:
        try:
            with ExitStack() as held:
                reader = None
                if network is not None:  # before the turn: who waits for a network keeps nobody else from computing
                    self._waits_for = "the network"
                    reader = held.enter_context(network(self.go_on))
                    self._waits_for = "another computation"
                held.enter_context(self.turns.one(self._session, self._wait))
                self.go_on()
                self._begun = time.monotonic()
                self.answer = compute(self, reader)
        except (_Interrupted, KeyboardInterrupt):  # a statement that is interrupted ends as by Ctrl-C
            self.error = Stopped(f"{self.label}: stopped")
        except Exception as error:  # for the page to show, which raises it in its own thread
            self.error = error
        finally:
            self._atlas = None
            self._ended.set()

    def _wait(self) -> None:
        """For a turn: what its session looks at no more is not to hold it up."""
        self.go_on()
        for other in list(_jobs.values()):
            if other is not self and other.turns is self.turns:
                other.gives_way_to(self, self._session)

    def go_on(self) -> None:
        """Ends the computation if it was told to stop."""
        if self.stopping:
            raise _Interrupted

    def reads(self, a: Atlas) -> None:
        """The atlas whose statements a stop interrupts, from now on; a stop before it takes effect here."""
        self._atlas = a
        self.go_on()

    def progress(self, done: int, total: int) -> None:
        self.go_on()
        self._progress = (done, total)

    @contextmanager
    def query(self, limit: float | None) -> Iterator[Callable[[], None]]:
        """A user's query that may take so many seconds; its time runs once what this gives is called. How much is
        done the database only guesses: it says 100 % long before the end."""

        def begun() -> None:
            self._query = time.monotonic(), limit

        try:
            yield begun
        finally:
            self._query = None


Waited = Callable[[Callable[[], None]], AbstractContextManager[Network]]
"""Gives a network once it is free; calls what it is handed all the while, and lets through what that raises."""

_jobs: dict[bytes, Job] = {}
_starting = threading.Lock()
_tidying: threading.Thread | None = None


def key_of(*parts: Any) -> bytes:
    """What tells one question from another."""
    return pickle.dumps(parts)


def job(
    key: bytes,
    label: str,
    path: Path,
    question: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    session: str,
    network: Waited | None = None,
    turns: Turns = PAGE,
) -> Job:
    """The job that answers a question, started now unless it is running or waits to be taken. One that was told to
    stop is left to its end, and another begun.

    ``network`` gives the network that is handed to the question as ``reader``. SQL of a user that the question runs,
    `Atlas.sql`, runs in a process of its own (`app.sandbox`).
    """

    def compute(job: Job, reader: Network | None) -> Any:
        def sql(text: str, parameters: Any, row_limit: int | None, timeout: float | None) -> pd.DataFrame:
            with job.query(timeout) as begun:
                return sandbox.ask(path, text, parameters, row_limit, timeout, go_on=job.go_on, on_begun=begun)

        handed = dict(kwargs)
        if _takes(question, "progress"):
            handed["progress"] = job.progress
        if reader is not None:
            handed["reader"] = reader
        with atlas.open(path) as a:
            a.elsewhere = sql
            job.reads(a)
            return question(a, *args, **handed)

    with _starting:
        if key not in _jobs or _jobs[key].stopping:
            if turns is SQL:
                for other in _jobs.values():
                    if other.turns is SQL:
                        other.replaced_for(session)
            _jobs[key] = Job(label, turns, session)
            _jobs[key].watched_by(session)
            threading.Thread(target=_jobs[key].run, args=(compute, network), name=f"job {label}", daemon=True).start()
            _keep_tidy()
        return _jobs[key]


def _keep_tidy() -> None:
    """Look after the jobs, for as long as there are any. The caller holds `_starting`."""
    global _tidying
    if _tidying is None:
        _tidying = threading.Thread(target=_tidy, name="tidy jobs", daemon=True)
        _tidying.start()


def _tidy() -> None:
    global _tidying
    while True:
        time.sleep(TIDY_EVERY)
        with _starting:
            _let_go()
            if not _jobs:
                _tidying = None
                return


def _let_go() -> None:
    """Stop the jobs, and drop the answers, that nobody wants. The caller holds `_starting`."""
    for key, job in list(_jobs.items()):
        if job.wanted():
            continue
        if job.finished:
            del _jobs[key]
        else:
            job.stop()


def taken(key: bytes, job: Job) -> None:
    """The answer or error of a job was taken: asked again, it would be computed again."""
    with _starting:
        if _jobs.get(key) is job:
            del _jobs[key]


def _takes(question: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(question).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 90 else f"{value / 60:.1f} min"
