"""A user's query in a process of its own: answered as in ours, bounded in time and memory whatever it does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import atlas
from app import sandbox
from atlas.errors import AtlasLocked, NotAnAtlas, SqlFailed, SqlRefused, SqlTimeout, UsageError
from atlas.store.buckets import STORE_SECONDS

WAIT = 60.0  # seconds after which what should have ended has failed

SMALL = sandbox.EXPLORER._replace(memory=100_000_000, answer=6_000_000)
"""What a query may take here, so that it is soon too much."""


@pytest.fixture(scope="module", autouse=True)
def none_waiting() -> Iterator[None]:
    yield
    for process in chain(*sandbox._waiting.values()):
        process.end()
    sandbox._waiting.clear()


def ask(path: Path, query: str, limit: int | None = 1000, timeout: float | None = 60.0, **how: Any) -> pd.DataFrame:
    return sandbox.ask(path, query, how.pop("parameters", None), limit, timeout, bounds=SMALL, **how)


def test_the_sandbox_answers_as_we_do(built: Path) -> None:
    """An answer is that of our own process."""
    queries = [
        "from spline_codes order by all",
        "select label, count(*) as n, avg(loss) from examples group by all order by 1",
        "select 1 as a, 2 as a",
        "select null as nothing, [1, 2] as many, 'é' as word, code::blob as b from codes",
        "from range(3000)",
        "describe codes",
    ]
    with atlas.open(built) as a:
        for query in queries:
            ours, theirs = a.sql(query, row_limit=1000, timeout=60.0), ask(built, query)
            pd.testing.assert_frame_equal(theirs, ours)
            assert theirs.attrs == ours.attrs
    assert ask(built, "select $1 + 1 as n", parameters=[41])["n"].tolist() == [42]
    assert ask(built, "select $x + 1 as n", parameters={"x": 41})["n"].tolist() == [42]


def test_one_process_answers_many_queries(small: Path) -> None:
    """One process answers one query after another and holds no atlas meanwhile."""
    ask(small, "select 1")
    [process] = sandbox._waiting[SMALL]
    ask(small, "select 2")
    with pytest.raises(SqlFailed, match="nonsense"):
        ask(small, "select nonsense")
    assert sandbox._waiting[SMALL] == [process]
    with atlas.open(small, writable=True):
        pass


def test_a_path_is_of_the_folder_we_are_in(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not of that in which the process began that answers."""
    ask(small, "select 1")
    monkeypatch.chdir(small.parent)
    assert ask(Path(small.name), "select 2 as n")["n"].tolist() == [2]


def test_the_environment_is_ours_of_now(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that in which the process began that answers: a store's keys may have been set since."""
    pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")
    ask(small, "select 1")
    monkeypatch.setenv(STORE_SECONDS, "soon")
    with pytest.raises(UsageError, match="is 'soon'; it is a number of seconds above 0"):
        ask(Path("s3://bucket/some.atlas"), "select 1")
    monkeypatch.delenv(STORE_SECONDS)
    assert ask(small, "select 2 as n")["n"].tolist() == [2]


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("drop table codes", SqlRefused, "read-only: DROP is not a query"),
        ("from read_text('/etc/passwd')", SqlRefused, "its own tables only, no files or network"),
        ("set memory_limit = '100GB'", SqlRefused, "SET is not a query"),
        ("select nonsense from examples", SqlFailed, "nonsense"),
    ],
)
def test_an_error_is_that_of_our_own_process(built: Path, query: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as theirs:
        ask(built, query)
    with atlas.open(built) as a, pytest.raises(error) as ours:
        a.sql(query)
    assert str(theirs.value) == str(ours.value)


def test_an_unopened_atlas_is_explained(small: Path, tmp_path: Path) -> None:
    """An atlas that can not be opened is explained."""
    with pytest.raises(NotAnAtlas, match="make an atlas with"):
        ask(tmp_path / "none.atlas", "select 1")
    with atlas.open(small, writable=True), pytest.raises(AtlasLocked, match=f"process {os.getpid()}"):
        ask(small, "select 1")


DEAF = "select len(list_transform(range(20000000), lambda i: hash(i)::varchar)) as n"
"""One value that takes minutes, inside which DuckDB hears nothing."""


def test_time_is_limited_inside_one_value(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is limited even inside one value."""
    monkeypatch.setattr(sandbox, "GRACE", 0.1)
    with pytest.raises(SqlTimeout, match=r"ran longer than 0\.2 s"):
        ask(built, DEAF, timeout=0.2)
    assert ask(built, "select 42 as n")["n"].tolist() == [42]


def after(n_looks: int, does: Callable[[], None]) -> Callable[[], None]:
    """A ``go_on`` that does something at one of the looks at whether to stop."""
    looks = iter(range(n_looks))

    def go_on() -> None:
        if next(looks, None) is None:
            does()

    return go_on


def interrupt() -> None:
    raise InterruptedError


def test_an_error_of_go_on_ends_the_query(built: Path) -> None:
    """What go on raises ends the query and its process."""
    ask(built, "select 1")
    [process] = sandbox._waiting[SMALL]
    with pytest.raises(InterruptedError):
        ask(built, DEAF, go_on=after(5, interrupt))
    assert not process.alive


@pytest.mark.parametrize(
    "query",
    [
        "select list(i) from range(2000000000) t(i)",  # what DuckDB counts
        pytest.param(
            "select len(range(400000000)) as n",  # what it does not
            marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel holds no limit"),
        ),
    ],
)
def test_memory_is_limited(built: Path, query: str) -> None:
    with pytest.raises(SqlFailed, match=r"needs more memory than the 0\.1 GB that a query may take here"):
        ask(built, query)


def test_a_large_answer_is_refused(built: Path) -> None:
    """A large answer is refused with what to do."""
    with pytest.raises(SqlFailed, match=r"10,000 rows takes \d+ MB, and the explorer shows at most 6; select fewer"):
        ask(built, "select range(300) as many from range(10000)", limit=10_000)


@pytest.mark.parametrize(
    ("n_rows", "n_bytes", "said"),
    [
        (1, 64_000_001, "of 1 row takes 64.000001 MB, and the explorer shows at most 64;"),
        (2, 64_100_000, "of 2 rows takes 64.1 MB, and"),
        (1000, 65_400_000, "of 1,000 rows takes 65 MB, and"),
        (1000, 2_400_000_000, "takes 2,400 MB, and"),
    ],
)
def test_a_large_answer_takes_bounded_memory(n_rows: int, n_bytes: int, said: str) -> None:
    """A large answer never takes as much as is shown."""
    assert said in str(sandbox._too_large(pd.DataFrame(index=range(n_rows)), n_bytes, sandbox.EXPLORER))


def test_when_its_time_begins_is_told(built: Path) -> None:
    begun: list[None] = []
    assert ask(built, "select 42 as n", on_begun=lambda: begun.append(None))["n"].tolist() == [42]
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("by", "said"),
    [(signal.SIGKILL, "needs more memory"), (signal.SIGSEGV, r"itself fails at this query \(SIGSEGV\)")],
)
def test_a_killed_process_is_replaced(built: Path, by: signal.Signals, said: str) -> None:
    """As the kernel does when memory is short, and the processor where the parser runs out of its stack."""
    ask(built, "select 1")
    [process] = sandbox._waiting[SMALL]
    with pytest.raises(SqlFailed, match=said):
        ask(built, DEAF, go_on=after(5, partial(os.kill, process._running.pid, by)))
    assert ask(built, "select 42 as n")["n"].tolist() == [42]


def test_an_orphan_process_ends(built: Path) -> None:
    """A process ends when nobody is there to ask it."""
    ask(built, "select 1")
    [process] = sandbox._waiting.pop(SMALL)
    process._ours.close()
    assert process._running.wait(WAIT) == 0
