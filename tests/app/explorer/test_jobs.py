"""Computations that outlast a click."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
    for key, job in started:
        job.stop()
        assert job.wait(WAIT)
        jobs.taken(key, job)


def version(a: Atlas) -> Any:
    return a.value("select value from meta where key = 'schema_version'")


def refuse(a: Atlas) -> None:
    raise UsageError("no such unit")


def endless_sql(a: Atlas) -> Any:
    return a.sql("select count(*) from range(1000000000000) t(i) where i % 7 = 3")


def endless_steps(a: Atlas, progress: Callable[[int, int], None]) -> None:
    while True:
        progress(3, 10)
        time.sleep(0.01)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def running(job: jobs.Job) -> bool:
    return job.state()[0] is not None


def waiting(job: jobs.Job) -> bool:
    return job.state()[1] == "Measuring: waiting for another computation"


def begun(job: jobs.Job) -> bool:
    return ": waiting for " not in job.state()[1]


def test_a_job_answers_what_the_question_does(start: Callable[..., jobs.Job], empty: Path):
    job = start(version)
    assert job.wait(WAIT)
    with atlas.open(empty) as a:
        assert job.answer == version(a)


def test_an_error_of_the_question_is_the_jobs(start: Callable[..., jobs.Job]):
    job = start(refuse)
    assert job.wait(WAIT)
    assert isinstance(job.error, UsageError)


def test_the_same_question_is_computed_once(start: Callable[..., jobs.Job]):
    assert start(endless_steps) is start(endless_steps)
    assert start(endless_steps) is not start(endless_sql)


def test_progress_says_how_much_is_done_and_how_long_it_takes(start: Callable[..., jobs.Job]):
    job = start(endless_steps)
    wait_until(lambda: running(job))
    share, line = job.state()
    assert share == 0.3
    assert line.startswith("Measuring: 3 of 10, ") and line.endswith(" left")


@pytest.mark.parametrize("question", [endless_steps, endless_sql])
def test_stopping_ends_a_loop_and_a_statement(start: Callable[..., jobs.Job], question: Callable[..., Any]):
    job = start(question)
    wait_until(lambda: begun(job))
    job.stop_for("me")
    assert job.wait(WAIT)
    assert isinstance(job.error, jobs.Stopped)


def test_a_question_that_was_stopped_can_be_asked_again(start: Callable[..., jobs.Job]):
    first = start(endless_steps)
    first.stop_for("me")
    again = start(endless_steps)
    assert again is not first
    assert first.wait(WAIT)
    wait_until(lambda: running(again))


def test_a_job_that_another_session_waits_for_goes_on(start: Callable[..., jobs.Job]):
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


def endless(a: Atlas, number: int, progress: Callable[[int, int], None]) -> None:
    endless_steps(a, progress)


def test_more_jobs_than_run_at_once_wait_their_turn(start: Callable[..., jobs.Job]):
    turns = jobs.Turns(1, 1)
    first = start(endless, 1, turns=turns)
    wait_until(lambda: running(first))
    second = start(endless, 2, turns=turns)
    wait_until(lambda: waiting(second))
    first.stop()
    wait_until(lambda: running(second))
    third = start(endless, 3, turns=turns)
    third.stop()
    assert third.wait(WAIT) and isinstance(third.error, jobs.Stopped), "who waits can be stopped"


def test_no_session_takes_all_turns(start: Callable[..., jobs.Job]):
    turns = jobs.Turns(3, 2)
    mine = [start(endless, number, turns=turns, session="mine") for number in range(3)]
    wait_until(lambda: sum(map(running, mine)) == 2)
    other = start(numbered, 42, turns=turns, session="another")
    assert other.wait(WAIT) and other.answer == 42
    assert sorted(map(running, mine)) == [False, True, True] and sum(map(waiting, mine)) == 1


def test_queries_of_two_sessions_keep_no_third_from_its_answer(start: Callable[..., jobs.Job]):
    slow = [start(endless, i, turns=jobs.SQL, session=str(i)) for i in range(2)]
    wait_until(lambda: all(map(running, slow)))
    third = start(numbered, 42, turns=jobs.SQL, session="third")
    assert third.wait(WAIT) and third.answer == 42 and all(map(running, slow))


def test_what_takes_minutes_keeps_no_page_from_being_drawn(start: Callable[..., jobs.Job]):
    long = [start(endless, i, turns=jobs.LONG, session=str(i)) for i in range(4)]
    wait_until(lambda: sum(map(running, long)) == 2)
    page = start(numbered, 42)
    assert page.wait(WAIT) and page.answer == 42


def test_a_network_is_waited_for_before_the_turn(start: Callable[..., jobs.Job]):
    """Two who wait for the same network, and a third who needs none."""
    turns, network = jobs.Turns(2, 2), threading.Lock()

    @contextmanager
    def given(go_on: Callable[[], None]) -> Iterator[Any]:
        while not network.acquire(timeout=0.01):
            go_on()
        try:
            yield "the network"
        finally:
            network.release()

    def read(a: Atlas, number: int, progress: Callable[[int, int], None], reader: Any) -> None:
        assert reader == "the network"
        endless_steps(a, progress)

    live = [start(read, number, turns=turns, network=given) for number in range(3)]
    wait_until(lambda: sum(map(running, live)) == 1)
    assert sum(job.state()[1] == "Measuring: waiting for the network" for job in live) == 2
    other = start(numbered, 42, turns=turns)
    assert other.wait(WAIT) and other.answer == 42
    [reads] = [job for job in live if running(job)]
    reads.stop()
    wait_until(lambda: any(running(job) for job in live if job is not reads))


def test_a_newer_query_of_a_session_takes_the_place_of_the_older(start: Callable[..., jobs.Job]):
    older = start(endless, 1, turns=jobs.SQL, session="mine")
    shared = start(endless, 2, turns=jobs.SQL, session="another")
    shared.watched_by("mine")
    newer = start(numbered, 42, turns=jobs.SQL, session="mine")
    assert older.wait(WAIT) and isinstance(older.error, jobs.Stopped)
    assert newer.wait(WAIT) and newer.answer == 42
    assert not shared.stopping, "another session waits for it"


# --- what nobody wants -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"INTERESTED_FOR": 0.3, "TIDY_EVERY": 0.05}.items():
        monkeypatch.setattr(jobs, name, seconds)


def test_a_job_that_nobody_looks_at_is_stopped(start: Callable[..., jobs.Job], impatient: None):
    left, watched = start(endless, 1), start(endless, 2)

    def look() -> bool:
        watched.watched_by("me")
        return left.finished

    wait_until(look)
    assert isinstance(left.error, jobs.Stopped) and not watched.stopping


def test_a_job_gives_way_to_what_its_session_looks_at(start: Callable[..., jobs.Job]):
    """Not while the session looks at both, nor at neither, as of a tab that is hidden."""
    left, looked_at = start(endless, 1), start(endless, 2)
    for seconds, gives_way in ((0.0, False), (jobs.LEFT / 2, False), (2 * jobs.LEFT, True)):
        looked_at._watchers["me"] = left._watchers["me"] + seconds
        left.gives_way_to(looked_at, "me")
        assert left.stopping == gives_way


def test_an_answer_that_nobody_takes_is_dropped(start: Callable[..., jobs.Job], impatient: None):
    job = start(numbered, 1)
    assert job.wait(WAIT)
    wait_until(lambda: start(numbered, 1) is not job)


# --- a user's SQL ----------------------------------------------------------------------------------------------


def test_a_query_that_never_looks_up_is_stopped(start: Callable[..., jobs.Job], tmp_path: Path):
    """One value of a list takes a minute, inside which DuckDB hears nothing."""
    job = start(deaf_sql, turns=jobs.SQL)
    wait_until(lambda: begun(job))
    job.stop()
    assert job.wait(WAIT) and isinstance(job.error, jobs.Stopped)


def deaf_sql(a: Atlas) -> Any:
    return a.sql(DEAF)


def test_progress_of_a_query_is_a_share(start: Callable[..., jobs.Job]):
    job = start(slow_sql, turns=jobs.SQL)
    wait_until(lambda: job.state()[0] is not None)
    share, line = job.state()
    assert share is not None and 0 < share <= 1 and re.fullmatch(r"Measuring: \d+%, .* s, .* left", line)


def slow_sql(a: Atlas) -> Any:
    return a.sql("select count(*) from range(20000000000) t(i) where i % 7 = 3")
