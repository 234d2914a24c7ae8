"""Computations that outlast a click: in a thread of their own, with progress, shared by all who ask the same.

A job reads the atlas through a connection of its own, so that a page that is left, or another session's, never waits
for it. Stopping takes effect at the job's next report of progress, or inside the SQL statement that it waits for.
"""

from __future__ import annotations

import inspect
import pickle
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from app.access import reading
from atlas import Atlas, Network
from atlas.errors import PolytopeError

AT_ONCE = 2
"""Jobs that compute at the same time; the others wait their turn. Each may use all cores."""

INTERRUPT_EVERY = 0.05  # seconds

WATCHED = 5.0
"""Seconds after a session last looked at a job in which it counts as interested."""


class Stopped(PolytopeError):
    """Someone pressed Stop."""


class _Interrupted(BaseException):
    """Ends the computation from within its report of progress; no handler of ordinary errors holds it up."""


class Job:
    """One computation. ``answer`` or ``error`` is there once ``finished`` is."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.answer: Any = None
        self.error: BaseException | None = None
        self._progress: tuple[int, int] | None = None
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

    def wait(self, seconds: float) -> bool:
        """Whether it has finished within so many seconds."""
        return self._ended.wait(seconds)

    def watched_by(self, session: str) -> None:
        self._watchers[session] = time.monotonic()

    def stop_for(self, session: str) -> None:
        """Stop it, unless another session is waiting for the same answer."""
        self._watchers.pop(session, None)
        now = time.monotonic()
        if not any(now - seen < WATCHED for seen in list(self._watchers.values())):
            self._told_to_stop.set()
            threading.Thread(target=self._interrupt, name=f"stop {self.label}", daemon=True).start()

    def state(self) -> tuple[float | None, str]:
        """Share done (None where nobody knows) and a line for people: what, how long, how much longer."""
        if self._begun is None:
            return None, f"{self.label}: waiting for another computation"
        elapsed = time.monotonic() - self._begun
        if self.stopping:
            return None, f"{self.label}: stopping"
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

    def run(self, compute: Callable[[Job], Any]) -> None:
        try:
            with _turns:
                if self.stopping:
                    raise _Interrupted
                self._begun = time.monotonic()
                self.answer = compute(self)
        except (_Interrupted, KeyboardInterrupt):  # a statement that is interrupted ends as by Ctrl-C
            self.error = Stopped(f"{self.label}: stopped")
        except Exception as error:  # for the page to show, which raises it in its own thread
            self.error = error
        finally:
            self._atlas = None
            self._ended.set()

    def reads(self, a: Atlas) -> None:
        """The atlas whose statements a stop interrupts, from now on; a stop before it takes effect here."""
        self._atlas = a
        if self.stopping:
            raise _Interrupted

    def progress(self, done: int, total: int) -> None:
        if self.stopping:
            raise _Interrupted
        self._progress = (done, total)


_turns = threading.Semaphore(AT_ONCE)
_jobs: dict[bytes, Job] = {}
_starting = threading.Lock()


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
    network: Callable[[], AbstractContextManager[Network]] | None = None,
) -> Job:
    """The job that answers a question, started now unless it is running or waits to be taken. One that was told to
    stop is left to its end, and another begun.

    ``network`` gives the network that is handed to the question as ``reader``.
    """

    def compute(job: Job) -> Any:
        handed = dict(kwargs)
        if _takes(question, "progress"):
            handed["progress"] = job.progress
        with ExitStack() as held:
            if network is not None:
                handed["reader"] = held.enter_context(network())
            a = held.enter_context(reading(path))
            job.reads(a)
            return question(a, *args, **handed)

    with _starting:
        if key not in _jobs or _jobs[key].stopping:
            _jobs[key] = Job(label)
            threading.Thread(target=_jobs[key].run, args=(compute,), name=f"job {label}", daemon=True).start()
        return _jobs[key]


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
