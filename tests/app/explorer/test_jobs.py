"""Computations that outlast a click."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import MethodType
from typing import Any

import pytest

import atlas
from app.explorer import jobs
from atlas import Atlas
from atlas.errors import UsageError

WAIT = 60.0
"""Seconds after which a job that should have ended has failed: the first query starts a process."""

DEAF = "select len(range(60000000)) as n, len(list_transform(range(9000000), lambda i: hash(i)::varchar)) as m"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    with atlas.create(tmp_path / "empty.atlas"):
        pass
    return tmp_path / "empty.atlas"


@pytest.fixture
def start(empty: Path) -> Iterator[Callable[..., jobs.Job]]:
    started: list[tuple[bytes, jobs.Job]] = []

    def start_job(question: Callable[..., Any], *args: Any, **how: Any) -> jobs.Job:
        key = jobs.key_of(str(empty), question.__qualname__, args)
        job = jobs.job(key, how.pop("label", "Measuring"), empty, question, args, {}, **{"session": "me"} | how)
        started.append((key, job))
        return job

    yield start_job
    for _, job in started:
        job.stop()
    for key, job in started:
        assert job.wait(WAIT)
        jobs.taken(key, job)


def version(a: Atlas) -> Any:
    return a.value("select value from meta where key = 'schema_version'")


def refuse(a: Atlas) -> None:
    raise UsageError("no such unit")


BEGUN: SimpleQueue[jobs.Job] = SimpleQueue()
"""Jobs whose question has begun to compute, as it tells."""


def tell(progress: MethodType) -> jobs.Job:
    job: jobs.Job = progress.__self__
    BEGUN.put(job)
    return job


def until_begun(*expected: jobs.Job) -> None:
    left = set(expected)
    while left:
        left.discard(BEGUN.get(timeout=WAIT))


def begun(n_jobs: int) -> list[jobs.Job]:
    """The next that begin; those of earlier tests have ended."""
    alive: list[jobs.Job] = []
    while len(alive) < n_jobs:
        job = BEGUN.get(timeout=WAIT)
        alive += [] if job.finished else [job]
    return alive


def endless_sql(a: Atlas, progress: MethodType) -> Any:
    tell(progress)
    return a.sql("select count(*) from range(1000000000000) t(i) where i % 7 = 3")


def endless_steps(a: Atlas, progress: MethodType) -> None:
    """Steps of which the second begins when the job is told to stop."""
    progress(3, 10)
    assert tell(progress)._told_to_stop.wait(WAIT)
    progress(4, 10)


def running(job: jobs.Job) -> bool:
    return job.state()[0] is not None


def waiting(job: jobs.Job) -> bool:
    return job.state()[1] == "Measuring: waiting for another computation"


def test_a_job_answers_as_its_question(start: Callable[..., jobs.Job], empty: Path):
    """A job answers what the question does."""
    job = start(version)
    assert job.wait(WAIT)
    with atlas.open(empty) as a:
        assert job.answer == version(a)


def test_a_questions_error_is_the_jobs(start: Callable[..., jobs.Job]):
    """An error of the question is the jobs."""
    job = start(refuse)
    assert job.wait(WAIT)
    assert isinstance(job.error, UsageError)


def test_the_same_question_is_computed_once(start: Callable[..., jobs.Job]):
    assert start(endless_steps) is start(endless_steps)
    assert start(endless_steps) is not start(endless_sql)


def test_progress_says_share_and_time(start: Callable[..., jobs.Job]):
    """Progress says how much is done and how long it takes."""
    job = start(endless_steps)
    until_begun(job)
    share, line = job.state()
    assert share == 0.3
    assert line.startswith("Measuring: 3 of 10, ") and line.endswith(" left")


@pytest.mark.parametrize("question", [endless_steps, endless_sql])
def test_stopping_ends_loop_and_statement(start: Callable[..., jobs.Job], question: Callable[..., Any]):
    """Stopping ends a loop and a statement."""
    job = start(question)
    until_begun(job)
    job.stop_for("me")
    assert job.wait(WAIT)
    assert isinstance(job.error, jobs.Stopped)


def test_a_stopped_question_is_asked_again(start: Callable[..., jobs.Job]):
    """A question that was stopped can be asked again."""
    first = start(endless_steps)
    first.stop_for("me")
    again = start(endless_steps)
    assert again is not first
    assert first.wait(WAIT)
    until_begun(again)
    assert running(again)


def test_a_job_that_others_await_goes_on(start: Callable[..., jobs.Job]):
    """A job that another session waits for goes on."""
    job = start(endless_steps)
    job.watched_by("me")
    job.watched_by("another")
    job.stop_for("me")
    assert not job.stopping
    job.stop_for("another")
    assert job.wait(WAIT)


# --- turns -----------------------------------------------------------------------------------------------------


def numbered(a: Atlas, number: int) -> int:
    return number


def endless(a: Atlas, number: int, progress: MethodType) -> None:
    endless_steps(a, progress)


def test_jobs_beyond_the_limit_wait(start: Callable[..., jobs.Job]):
    """More jobs than run at once wait their turn."""
    turns = jobs.Turns(1, 1)
    first = start(endless, 1, turns=turns)
    until_begun(first)
    second = start(endless, 2, turns=turns)
    assert running(first) and waiting(second)
    first.stop()
    until_begun(second)
    third = start(endless, 3, turns=turns)
    third.stop()
    assert third.wait(WAIT) and isinstance(third.error, jobs.Stopped), "who waits can be stopped"


def test_no_session_takes_all_turns(start: Callable[..., jobs.Job]):
    turns = jobs.Turns(3, 2)
    mine = [start(endless, number, turns=turns, session="mine") for number in range(3)]
    begun(2)
    other = start(numbered, 42, turns=turns, session="another")
    assert other.wait(WAIT) and other.answer == 42
    assert sorted(map(running, mine)) == [False, True, True] and sum(map(waiting, mine)) == 1


def test_two_queries_hold_up_no_third(start: Callable[..., jobs.Job]):
    """Queries of two sessions keep no third from its answer."""
    slow = [start(endless, i, turns=jobs.SQL, session=str(i)) for i in range(2)]
    until_begun(*slow)
    third = start(numbered, 42, turns=jobs.SQL, session="third")
    assert third.wait(WAIT) and third.answer == 42 and all(map(running, slow))


def test_long_jobs_hold_up_no_page(start: Callable[..., jobs.Job]):
    """What takes minutes keeps no page from being drawn."""
    long = [start(endless, i, turns=jobs.LONG, session=str(i)) for i in range(4)]
    assert set(begun(2)) < set(long)
    page = start(numbered, 42)
    assert page.wait(WAIT) and page.answer == 42


@pytest.mark.usefixtures("unchecked")
def test_networks_load_before_their_turn(start: Callable[..., jobs.Job]):
    """Two who wait for the same network, and a third who needs none."""
    turns, network, wanted = jobs.Turns(2, 2), threading.Lock(), threading.Semaphore(0)

    @contextmanager
    def given(_: Callable[[], None]) -> Iterator[Any]:
        wanted.release()
        with network:
            yield "the network"

    def read(a: Atlas, number: int, progress: MethodType, reader: Any) -> None:
        assert reader == "the network"
        endless_steps(a, progress)

    live = [start(read, number, turns=turns, network=given) for number in range(3)]
    assert all(wanted.acquire(timeout=WAIT) for _ in live)
    [reads] = begun(1)
    assert sum(job.state()[1] == "Measuring: waiting for the network" for job in live) == 2
    other = start(numbered, 42, turns=turns)
    assert other.wait(WAIT) and other.answer == 42
    reads.stop()
    [next_reads] = begun(1)
    assert next_reads in live and next_reads is not reads


def test_a_newer_query_replaces_the_older(start: Callable[..., jobs.Job]):
    """A newer query of a session takes the place of the older."""
    older = start(endless, 1, turns=jobs.SQL, session="mine")
    shared = start(endless, 2, turns=jobs.SQL, session="another")
    shared.watched_by("mine")
    newer = start(numbered, 42, turns=jobs.SQL, session="mine")
    assert older.wait(WAIT) and isinstance(older.error, jobs.Stopped)
    assert newer.wait(WAIT) and newer.answer == 42
    assert not shared.stopping, "another session waits for it"


# --- what nobody wants -----------------------------------------------------------------------------------------


def look_away(job: jobs.Job) -> None:
    """As if the session had last looked at it so long ago that it counts as gone."""
    job._watchers["me"] -= jobs.INTERESTED_FOR


def test_a_job_nobody_looks_at_stops(start: Callable[..., jobs.Job]):
    """A job that nobody looks at is stopped."""
    left, watched = start(endless, 1), start(endless, 2)
    look_away(left)
    assert left.wait(WAIT) and isinstance(left.error, jobs.Stopped)
    assert not watched.stopping


def test_a_job_gives_way_to_its_session(start: Callable[..., jobs.Job]):
    """Not while the session looks at both, nor at neither, as of a tab that is hidden."""
    left, looked_at = start(endless, 1), start(endless, 2)
    for seconds, gives_way in ((0.0, False), (jobs.LEFT / 2, False), (2 * jobs.LEFT, True)):
        looked_at._watchers["me"] = left._watchers["me"] + seconds
        left.gives_way_to(looked_at, "me")
        assert left.stopping == gives_way


def test_an_untaken_answer_is_dropped(start: Callable[..., jobs.Job]):
    """An answer that nobody takes is dropped."""
    job = start(numbered, 1)
    assert job.wait(WAIT)
    assert start(numbered, 1) is job
    look_away(job)
    with jobs._starting:
        jobs._let_go()
    assert start(numbered, 1) is not job


# --- a user's SQL ----------------------------------------------------------------------------------------------


def test_an_endless_query_is_stopped(start: Callable[..., jobs.Job], tmp_path: Path):
    """One value of a list takes a minute, inside which DuckDB hears nothing."""
    job = start(deaf_sql, turns=jobs.SQL)
    until_begun(job)
    job.stop()
    assert job.wait(WAIT) and isinstance(job.error, jobs.Stopped)


def deaf_sql(a: Atlas, progress: MethodType) -> Any:
    tell(progress)
    return a.sql(DEAF)


def test_a_query_says_elapsed_and_limit(start: Callable[..., jobs.Job]):
    """Of a query it is known how long it has run and how long it may; how much is done only the database guesses."""
    job = start(slow_sql, turns=jobs.SQL)
    while not running(job):
        assert not job.wait(0.05)
    share, line = job.state()
    assert share is not None and 0 <= share < 1
    assert re.fullmatch(r"Measuring: \d+ s of at most 10\.0 min", line)


def slow_sql(a: Atlas) -> Any:
    return a.sql("select count(*) from range(20000000000) t(i) where i % 7 = 3", timeout=600)
