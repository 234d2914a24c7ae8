"""Computations that outlast a click."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import atlas
from app import jobs
from app.access import reading, writing
from atlas import Atlas
from atlas.errors import AtlasLocked, UsageError

WAIT = 30.0
"""Seconds after which a job that should have ended has failed."""


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    with atlas.create(tmp_path / "empty.atlas"):
        pass
    return tmp_path / "empty.atlas"


@pytest.fixture
def start(empty: Path) -> Iterator[Callable[..., jobs.Job]]:
    started: list[tuple[bytes, jobs.Job]] = []

    def start_job(question: Callable[..., Any], *args: Any) -> jobs.Job:
        key = jobs.key_of(str(empty), question.__qualname__, args)
        job = jobs.job(key, "Measuring", empty, question, args, {})
        started.append((key, job))
        return job

    yield start_job
    for key, job in started:
        job.stop_for("")
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
    until = time.monotonic() + WAIT
    while job.state()[0] is None and time.monotonic() < until:
        time.sleep(0.01)
    share, line = job.state()
    assert share == 0.3
    assert line.startswith("Measuring: 3 of 10, ") and line.endswith(" left")


@pytest.mark.parametrize("question", [endless_steps, endless_sql])
def test_stopping_ends_a_loop_and_a_statement(start: Callable[..., jobs.Job], question: Callable[..., Any]):
    job = start(question)
    assert not job.wait(0.5)
    job.stop_for("me")
    assert job.wait(WAIT)
    assert isinstance(job.error, jobs.Stopped)


def test_a_question_that_was_stopped_can_be_asked_again(start: Callable[..., jobs.Job]):
    first = start(endless_steps)
    first.stop_for("me")
    again = start(endless_steps)
    assert again is not first
    assert first.wait(WAIT)
    assert not again.wait(0.2)


def test_a_job_that_another_session_waits_for_goes_on(start: Callable[..., jobs.Job]):
    job = start(endless_steps)
    job.watched_by("me")
    job.watched_by("another")
    job.stop_for("me")
    assert not job.wait(0.3)
    job.stop_for("another")
    assert job.wait(WAIT)


def test_more_jobs_than_run_at_once_wait_their_turn(start: Callable[..., jobs.Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "_turns", threading.Semaphore(1))
    first, second = start(endless_steps), start(endless_sql)
    assert not second.wait(0.3)
    assert sorted(job.state()[1] for job in (first, second))[-1] == "Measuring: waiting for another computation"
    running, waiting = (first, second) if first.state()[1].startswith("Measuring: 3") else (second, first)
    running.stop_for("")
    assert running.wait(WAIT)
    waiting.stop_for("")
    assert waiting.wait(WAIT)


# --- reading and writing ---------------------------------------------------------------------------------------


def test_a_writer_waits_for_readers_and_readers_for_the_writer(empty: Path):
    order: list[str] = []
    writer_asked = threading.Event()

    def write() -> None:
        writer_asked.set()
        with writing(empty) as a:
            a.execute("insert into meta values ('told', 'yes')")
            order.append("written")

    thread = threading.Thread(target=write)
    with reading(empty):
        thread.start()
        writer_asked.wait(WAIT)
        time.sleep(0.2)
        order.append("read")
    with reading(empty) as a:
        order.append("read again")
        assert a.value("select value from meta where key = 'told'") == "yes"
    thread.join(WAIT)
    assert order == ["read", "written", "read again"]


def test_a_writer_that_waits_too_long_says_what_reads(empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.access.PATIENCE", 0.1)
    with reading(empty):
        with pytest.raises(AtlasLocked, match="computation in this explorer"), writing(empty):
            pass
        with reading(empty):  # readers go on
            pass
