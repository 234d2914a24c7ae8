"""A user's SQL, or another long question, in a process of its own, which ends when its time is over, whatever it is
doing, and can't take the memory of the machine.

DuckDB looks at the clock, at an interrupt and at its memory between two vectors of rows, and one value may be a list
of millions. So the time is kept from outside, by ending the process, and the memory by the kernel: `RLIMIT_DATA`
bounds on Linux all that the process may write to. macOS takes that limit and doesn't hold it: there DuckDB's own
bounds what it counts, which such a list is not.

A process answers one question at a time, and opens the atlas for that one alone. One that has answered waits for the
next, because to start takes 1 to 2 s: imports. It holds 190 MB.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pandas as pd

import atlas
from atlas import Atlas
from atlas.errors import PolytopeError, SqlFailed
from atlas.store.buckets import address_in
from atlas.store.user_sql import Limits, too_much_memory, took_too_long

from .child_process import start
from .plain_text import counted

ROOM = 500_000_000
"""Bytes beside those that DuckDB may take, which it doesn't count: rows on their way out, long lists, stacks."""


class Bounds(NamedTuple):
    """What a question may take: bytes that DuckDB counts, processors, and bytes of an answer that is handed over.

    ``asker``: who says that last limit, in a sentence. ``keeps``: bytes by which its process may have grown and still
    wait for the next question; what it has loaded for one serves others.
    """

    memory: int
    threads: int
    answer: int | None
    asker: str = "the explorer shows"
    keeps: int = ROOM // 2


EXPLORER = Bounds(memory=1_000_000_000, threads=min(4, os.cpu_count() or 1), answer=64_000_000)
"""Of a page's query, beside those of others. Codes of 12 sites of 100,000 examples take half of the memory; 10,000
rows of a sentence each take 2 MB, of 3,072 numbers each 120 MB."""

YIELDING = 5
"""Niceness of a query: pages go first."""

GRACE = 2.0
"""Seconds past its time in which a query may end by itself, before its process is ended."""

STARTING = 60.0
"""Seconds until a process that is starting counts as broken."""

WAITING = 1
"""Processes kept for the next query."""

LOOK_EVERY = 0.05
"""Seconds between two looks at whether someone pressed Stop."""

PLAIN_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's own allocator takes 1 GB to begin with, most of it never used, and the kernel's limit would count it."""

BEGUN, ANSWER, ERROR = "begun", "answer", "error"


@runtime_checkable
class Question(Protocol):
    """What is asked of an atlas; it travels to the process by pickle."""

    def prepare(self, atlas: Atlas) -> Callable[[], Any]:
        """What gives the answer; the time begins when this returns."""
        ...


class Sql(NamedTuple):
    """What `Atlas.sql` is asked."""

    query: str
    parameters: Sequence[Any] | dict[str, Any] | None
    row_limit: int | None
    timeout: float | None

    def prepare(self, atlas: Atlas) -> Callable[[], pd.DataFrame]:
        """The query, ready to run."""
        return lambda: atlas.sql(self.query, self.parameters, row_limit=self.row_limit, timeout=self.timeout)


class Request(NamedTuple):
    """A question about the atlas at ``path``, the seconds that it may take, and the environment of who asks."""

    path: Path
    bounds: Bounds
    question: Question
    timeout: float | None
    environment: dict[str, str]


# --- in the process that asks ----------------------------------------------------------------------------------


def command_line() -> Bounds:
    """Of the only query that a command asks: half of the machine's memory, as all who read an atlas."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Bounds(memory=pages // 2, threads=os.cpu_count() or 1, answer=None)


def ask(
    path: Path,
    query: str,
    parameters: Sequence[Any] | dict[str, Any] | None,
    row_limit: int | None,
    timeout: float | None,
    *,
    bounds: Bounds = EXPLORER,
    go_on: Callable[[], None] = lambda: None,
    on_begun: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Run a user's query as `Atlas.sql` does. ``go_on`` is called all the while, and what it raises ends the query;
    ``on_begun`` once the atlas is open there and the query's time runs.

    Raises what `atlas.open` and `Atlas.sql` raise; `SqlFailed` also for more memory or a larger answer than a query
    may take here, and where the database itself fails.
    """
    frame: pd.DataFrame = ask_for(
        path, Sql(query, parameters, row_limit, timeout), timeout, bounds=bounds, go_on=go_on, on_begun=on_begun
    )
    return frame


def ask_for(
    path: Path,
    question: Question,
    timeout: float | None,
    *,
    bounds: Bounds,
    go_on: Callable[[], None] = lambda: None,
    on_begun: Callable[[], None] = lambda: None,
) -> Any:
    """The answer of a question about the atlas at ``path``; ``go_on`` and ``on_begun`` as of `ask`.

    Raises what `atlas.open` and the question raise, and for what exceeds its bounds what `ask` raises for SQL.
    """
    process = _take(bounds)
    again = False
    try:
        # It may have begun in another folder and with other keys of a store; an address is the same from everywhere.
        path = path if address_in(path) else path.absolute()
        request = Request(path, bounds, question, timeout, {**os.environ, **PLAIN_MEMORY})
        answer, again = process.ask(request, go_on, on_begun)
    finally:
        _give_back(process, again)
    if isinstance(answer, PolytopeError):
        raise answer
    return answer


def warm() -> None:
    """Have a process ready for the explorer's first query."""
    with _lock:
        waiting = _waiting.setdefault(EXPLORER, [])
        if len(waiting) < WAITING:
            waiting.append(_Process(EXPLORER))


_waiting: dict[Bounds, list[_Process]] = {}
_lock = threading.Lock()


def _take(bounds: Bounds) -> _Process:
    with _lock:
        while waiting := _waiting.get(bounds):
            process = waiting.pop()
            if process.alive:
                return process
            process.end()
    return _Process(bounds)


def _give_back(process: _Process, again: bool) -> None:
    """It waits for the next query if it can; else one of the explorer that can is started in its place."""
    with _lock:
        waiting = _waiting.setdefault(process.bounds, [])
        again = again and len(waiting) < WAITING
        if again:
            waiting.append(process)
    if not again:
        process.end()
        if process.bounds == EXPLORER:
            warm()


class _Process:
    """One that answers queries, seen from here."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._ours, theirs = Pipe()
        # A session of its own: Ctrl-C in the terminal is for the explorer, whose end this one notices.
        self._running = start(
            "app.sandbox",
            str(theirs.fileno()),
            str(bounds.memory + ROOM),
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, **PLAIN_MEMORY},
        )
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._running.poll() is None

    def end(self) -> None:
        self._running.kill()
        self._running.wait()
        self._ours.close()

    def ask(self, request: Request, go_on: Callable[[], None], on_begun: Callable[[], None]) -> tuple[Any, bool]:
        """The rows, or the error of the query; and whether the process can be asked again."""
        until, begun, timeout = time.monotonic() + STARTING, False, request.timeout
        try:
            self._ours.send(request)
            while True:
                go_on()
                if not self._ours.poll(LOOK_EVERY):
                    if time.monotonic() > until:
                        return took_too_long(timeout) if begun else _not_started(), False
                    continue
                what, content, again = self._ours.recv()
                if what == BEGUN:
                    begun = True
                    on_begun()
                    until = float("inf") if timeout is None else time.monotonic() + timeout + GRACE
                else:
                    return pickle.loads(content), again
        except (EOFError, ConnectionError):
            return _ended_by(self._running.wait(), request.bounds), False


def _ended_by(status: int, bounds: Bounds) -> SqlFailed:
    """What to tell of a process that ended at a query, by its exit status."""
    if -status in (signal.SIGABRT, signal.SIGKILL):  # DuckDB's own abort, or the kernel's
        return too_much_memory(Limits(bounds.memory, bounds.threads))
    if status < 0:
        name = signal.Signals(-status).name
        return SqlFailed(
            f"the database itself fails at this query ({name}), as it may at one nested deeply; write a flatter one"
        )
    raise RuntimeError("the process of a query ended; the terminal says why")


def _not_started() -> SqlFailed:
    return SqlFailed(f"the process of a query did not start within {STARTING:.0f} s; ask again when less runs here")


# --- in the process --------------------------------------------------------------------------------------------


def main(handle: int, memory: int) -> None:
    """Answer queries until nobody is there to ask."""
    os.nice(YIELDING)
    start = _bound_memory(memory)
    with Connection(handle) as asking:

        def send(what: str, content: Any = None, again: bool = True) -> None:
            try:
                asking.send((what, content, again))
            except OSError:  # who asked is gone
                os._exit(1)

        while True:
            try:
                request: Request = asking.recv()
            except EOFError:
                return
            os.environ.clear()
            os.environ.update(request.environment)
            what, content = _answer(request, lambda: send(BEGUN))
            send(what, content, _written_to() - start < request.bounds.keeps)


def _answer(request: Request, begun: Callable[[], None]) -> tuple[str, bytes]:
    limits, largest = Limits(request.bounds.memory, request.bounds.threads), request.bounds.answer
    try:
        with atlas.open(request.path, limits=limits) as a:
            ask = request.question.prepare(a)
            begun()
            answer = ask()
        packed = pickle.dumps(answer, protocol=5)
        if largest is not None and len(packed) > largest:
            raise _too_large(answer, len(packed), request.bounds)
        return ANSWER, packed
    except MemoryError:
        return ERROR, pickle.dumps(too_much_memory(limits))
    except PolytopeError as error:
        return ERROR, pickle.dumps(error)


def _too_large(answer: Any, n_bytes: int, bounds: Bounds) -> SqlFailed:
    largest = bounds.answer or 0
    # With as many decimals as tell the two apart; bytes differ in the sixth.
    decimals = next(n for n in range(7) if f"{n_bytes / 1e6:.{n}f}" != f"{largest / 1e6:.{n}f}")
    rows = f" of {counted(len(answer), 'row')}" if isinstance(answer, pd.DataFrame) else ""
    return SqlFailed(
        f"the answer{rows} takes {n_bytes / 1e6:,.{decimals}f} MB, and {bounds.asker} at most {largest / 1e6:.0f}; "
        "select fewer columns or rows, or ask `polytope sql` or Python"
    )


def _bound_memory(memory: int) -> int:
    """Bound what this process may write to; bytes that it does already, 0 where that can't be known."""
    start = _written_to()
    if start:
        resource.setrlimit(resource.RLIMIT_DATA, (start + memory, start + memory))
    return start


def _written_to() -> int:
    """Bytes of private memory, as `RLIMIT_DATA` counts them; 0 where there is no such file."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[5]) * resource.getpagesize() if status.exists() else 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
