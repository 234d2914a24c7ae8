"""An atlas that is held open for many to ask at once.

What SQL and indexes answer is asked in the thread of whoever asks, beside the others, and is interrupted when its
time is over. A user's SQL, what a network reads and what takes long are asked in processes that can be ended.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

import atlas as store
from atlas import Atlas, Network
from atlas.errors import (
    AnswerTooLarge,
    AnswerTooSlow,
    PolytopeError,
    SqlError,
    SqlFailed,
    SqlTimeout,
    TooBusy,
    UnknownName,
    WeightsError,
)
from atlas.store.catalog import NetworkRecord
from query import Subject
from query.remote.arguments import taken

from .. import sandbox
from ..sandbox import Bounds
from .limits import QUERIES, QUERY_MEMORY, QUEUE, READER_KEEPS, READER_MEMORY, READERS, Limits
from .questions import Question, questions

Result = TypeVar("Result")

INTERRUPT_EVERY = 0.05
"""Seconds between two interrupts of a statement whose time is over: one that comes before it has begun is lost."""


class Served:
    """An atlas under the name that others call it by. Use it as a context manager."""

    def __init__(self, path: Path, name: str, limits: Limits) -> None:
        self.path = path
        self.name = name
        self.limits = limits
        self.atlas = store.open(path)
        threads = min(4, os.cpu_count() or 1)
        largest = limits.megabytes * 1_000_000
        self._sql = Bounds(QUERY_MEMORY, threads, largest, "this server sends")
        self._reader = Bounds(READER_MEMORY, threads, largest, "this server sends", READER_KEEPS)
        self.atlas.elsewhere = self._ask_sql

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.atlas.close()

    def ask(self, name: str, given: Mapping[str, Any]) -> Any:
        """The answer of a question; ``given``: its arguments as `query.remote.arguments` has them in JSON.

        Raises what the question raises, in whose sentences the atlas has the name that it is served under, and what
        exceeds the limits.
        """
        try:
            question = questions()[name]
            within = self._within_limits(question, given)
            if question.long or question.reads(within):
                answer = self._ask_process(question, within)
            else:
                answer = self._ask_here(question, within)
        except PolytopeError as error:
            raise self._renamed(error) from error
        if given.get("limit", "default") is None and isinstance(answer, pd.DataFrame):
            answer.attrs.pop("truncated", None)  # nobody asked for less than all
        if isinstance(answer, Subject):  # where the atlas lies is nobody's business
            answer = replace(answer, atlas=Path(self.name))
        n_rows = sum(len(frame) for frame in frames_of(answer))
        if n_rows > self.limits.rows:
            raise AnswerTooLarge(
                f"the answer has more than the {self.limits.rows:,} rows that this server sends; ask for fewer (k, "
                "limit, a filter), or page by page (limit with after or offset)"
            )
        return answer

    def look(self, question: Callable[[Atlas], Result]) -> Result:
        """What a function of the open atlas returns, in the thread of whoever asks and within the time that there is.

        Raises what the function raises, in whose sentences the atlas has the name that it is served under.
        """
        try:
            with self.atlas.beside() as a, self._timed(a):
                return question(a)
        except PolytopeError as error:
            raise self._renamed(error) from error

    def thumbnail(self, example: int) -> bytes:
        """The picture of an example, PNG or JPEG. Raises `UnknownName` where it has none."""
        statement = "select thumbnail from examples join inputs using (input_id) where example_id = $1"
        picture = self.look(lambda a: a.value(statement, [example])) if 0 <= example < 2**32 else None
        if picture is None:
            raise UnknownName(f"no picture of an example {example} in {self.name}")
        return bytes(picture)

    def alive(self) -> bool:
        """Whether the database answers."""
        return bool(self.look(lambda a: a.value("select true")))

    def _renamed(self, error: PolytopeError) -> PolytopeError:
        return type(error)(str(error).replace(str(self.path), self.name))

    # --- in the thread of whoever asks -------------------------------------------------------------------------

    def _ask_here(self, question: Question, given: Mapping[str, Any]) -> Any:
        try:
            with self.atlas.beside() as a, self._timed(a):
                return question.function(a, **taken(a, question.function, given))
        except MemoryError:
            raise AnswerTooLarge(
                f"{question.name} needs more memory for that than this server has; ask for less at a time"
            ) from None

    @contextmanager
    def _timed(self, a: Atlas) -> Iterator[None]:
        _overdue.watch(a, time.monotonic() + self.limits.seconds)
        try:
            yield
        except KeyboardInterrupt:
            raise self._too_slow() from None
        finally:
            _overdue.forget(a)

    def _too_slow(self) -> AnswerTooSlow:
        return AnswerTooSlow(
            f"the answer takes longer than the {self.limits.seconds:g} s that this server allows; ask for less"
        )

    # --- in processes ------------------------------------------------------------------------------------------

    def _ask_sql(self, query: str, parameters: Any, row_limit: int | None, timeout: float | None) -> pd.DataFrame:
        """As `Atlas.sql`, in a process that ends with the time of the whole request at the latest."""
        seconds = self.limits.seconds if timeout is None else min(timeout, self.limits.seconds)
        with _turn("sql", self.limits.seconds):
            return sandbox.ask(self.path, query, parameters, row_limit, seconds, bounds=self._sql)

    def _ask_process(self, question: Question, given: Mapping[str, Any]) -> Any:
        network = self._network(question, given)
        with _turn("reader", self.limits.seconds):
            try:
                answer = sandbox.ask_for(
                    self.path,
                    Asked(question.name, dict(given), network),
                    self.limits.seconds,
                    bounds=self._reader,
                )
            except SqlTimeout:
                raise self._too_slow() from None
            except SqlFailed as failed:
                raise AnswerTooLarge(str(failed).replace("the query", "the answer")) from None
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    def _network(self, question: Question, given: Mapping[str, Any]) -> str | None:
        """Name of the network that is to read something; what is asked is checked before one is loaded."""
        if not question.reads(given):
            return None
        with self.atlas.beside() as a:
            network = _network_of(a, given)
        expected = given.get("reader")
        if expected not in (None, network.weights_digest):
            raise WeightsError(
                f"network {network.name} of {self.name} has weights of digest {network.weights_digest}, and reader "
                f"names {expected}: leave it away, or ask the atlas of those"
            )
        return network.name

    # --- limits ------------------------------------------------------------------------------------------------

    def _within_limits(self, question: Question, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, with a ``limit`` of a row more than is sent where they have none or a greater one."""
        asked = dict(given)
        if "limit" in question.parameters:
            limit = asked.get("limit", question.parameters["limit"].default)
            asked["limit"] = self.limits.rows + 1 if limit is None else min(limit, self.limits.rows + 1)
        many = max((len(asked[name]) for name in ("examples", "others") if asked.get(name)), default=0)
        each = asked.get("k") or 1
        if many * each > self.limits.rows:
            raise AnswerTooLarge(
                f"{many:,} times {each:,} rows are asked for, and this server sends {self.limits.rows:,}; ask for "
                "fewer at a time"
            )
        return asked


def frames_of(answer: Any) -> Iterator[pd.DataFrame]:
    """The tables in an answer: itself, or fields, or values by name."""
    if isinstance(answer, pd.DataFrame):
        yield answer
    elif isinstance(answer, dict):
        for value in answer.values():
            yield from frames_of(value)
    elif is_dataclass(answer) and not isinstance(answer, type):
        for field in fields(answer):
            yield from frames_of(getattr(answer, field.name))


def _network_of(a: Atlas, given: Mapping[str, Any]) -> NetworkRecord:
    """The network whose site, span, clustering or example is asked about."""
    site, span, network = (given.get(name) for name in ("site", "span", "network"))
    if network is not None:
        return a.catalog.network(network)
    for name in ("example", "x"):
        if given.get(name) is not None and len(a.catalog.networks) > 1:
            held = a.value(
                "select networks.name from examples join networks using (network_id) where example_id = $1",
                [given[name]],
            )
            return a.catalog.network(held)
    if site is None and span is None and given.get("clustering") is not None:
        held = a.value(
            "select networks.name from clusterings join networks using (network_id) where clustering_id = $1",
            [given["clustering"]],
        )
        return a.catalog.network(held)
    return a.catalog.target(site=site, span=span).network


class Asked(NamedTuple):
    """A question by its name, for a process of its own; ``network``: the one that reads its input, if any."""

    name: str
    given: dict[str, Any]
    network: str | None

    def prepare(self, atlas: Atlas) -> Callable[[], Any]:
        """The question with its arguments, and its network loaded."""
        question = questions()[self.name]
        arguments = taken(atlas, question.function, self.given)
        if question.reader is not None and self.network is not None:
            arguments[question.reader.name] = _loaded(atlas.catalog.network(self.network))
        return partial(_answer, partial(question.function, atlas, **arguments))


class Failed(NamedTuple):
    """What a question raises about SQL; without this its process would seem to have exceeded what it may take."""

    error: SqlError


def _answer(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except SqlError as error:
        return Failed(error)


_networks: dict[str, Network] = {}
"""The network of a process that reads, by its digest: the one that was asked last."""


def _loaded(network: NetworkRecord) -> Network:
    from ingest.networks import reload_network  # torch takes seconds, and only this process needs it

    if network.weights_digest not in _networks:
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        loaded = reload_network(network)
        _networks.clear()
        _networks[network.weights_digest] = loaded
    return _networks[network.weights_digest]


# --- turns and deadlines ---------------------------------------------------------------------------------------


class _Turns:
    """So many at a time; the others wait, up to `QUEUE` of them."""

    def __init__(self, at_once: int) -> None:
        self.free = threading.BoundedSemaphore(at_once)
        self.waiting = 0
        self.lock = threading.Lock()


_turns = {"sql": _Turns(QUERIES), "reader": _Turns(READERS)}


@contextmanager
def _turn(kind: str, seconds: float) -> Iterator[None]:
    turns = _turns[kind]
    with turns.lock:
        if turns.waiting >= QUEUE:
            raise TooBusy(f"{QUEUE} questions wait for a process already; ask again in a moment")
        turns.waiting += 1
    try:
        free = turns.free.acquire(timeout=seconds)
    finally:
        with turns.lock:
            turns.waiting -= 1
    if not free:
        raise TooBusy(f"no process was free within {seconds:g} s; ask again when less is asked")
    try:
        yield
    finally:
        turns.free.release()


class _Overdue:
    """Interrupts the statements of those whose time is over, from a thread that is there while any are asked."""

    def __init__(self) -> None:
        self._deadlines: dict[int, tuple[float, Atlas]] = {}
        self._lock = threading.Lock()
        self._running = False

    def watch(self, a: Atlas, deadline: float) -> None:
        with self._lock:
            self._deadlines[id(a)] = deadline, a
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()

    def forget(self, a: Atlas) -> None:
        with self._lock:
            del self._deadlines[id(a)]

    def _run(self) -> None:
        while True:
            time.sleep(INTERRUPT_EVERY)
            with self._lock:
                if not self._deadlines:
                    self._running = False
                    return
                now = time.monotonic()
                for deadline, a in self._deadlines.values():
                    if deadline < now:
                        a.interrupt()


_overdue = _Overdue()
