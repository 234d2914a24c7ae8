"""Work on all cores: every piece once, failures reach the caller, and nothing waits for itself."""

from __future__ import annotations

import os
import signal
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.threads import in_threads, n_threads, slices


@pytest.mark.parametrize("pieces", [0, 1, 2, 57])
def test_every_piece_is_done_once(pieces: int) -> None:
    done: list[int] = []
    in_threads(done.append, range(pieces))
    assert sorted(done) == list(range(pieces))


def test_all_cores_work_at_once() -> None:
    together = threading.Barrier(n_threads(), timeout=30)
    in_threads(lambda piece: together.wait(), range(n_threads()))


def test_work_within_work_is_done_in_turn() -> None:
    """By the thread that asks, in order: to wait for the others would be to wait for itself."""
    done: dict[int, list[tuple[int, int]]] = {outer: [] for outer in range(40)}

    def nested(outer: int) -> None:
        in_threads(lambda inner: done[outer].append((threading.get_ident(), inner)), range(5))

    in_threads(nested, range(40))
    for pieces in done.values():
        assert [inner for _, inner in pieces] == [0, 1, 2, 3, 4] and len({thread for thread, _ in pieces}) == 1


def test_callers_in_many_threads_share_cores() -> None:
    done: list[int] = []
    callers = [threading.Thread(target=in_threads, args=(done.append, range(100))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(done) == sorted(4 * list(range(100)))


def test_a_failure_reaches_the_caller() -> None:
    """What has not begun is left undone, and the threads are usable again."""
    done: list[int] = []

    def work(piece: int) -> None:
        if piece == 3:
            raise IndexError("piece 3")
        done.append(piece)

    with pytest.raises(IndexError, match="piece 3"):
        in_threads(work, range(1_000_000))
    assert len(done) < 1_000_000
    in_threads(done.append, [-1])
    assert done[-1] == -1


def test_nothing_is_kept_after_the_work() -> None:
    """By helpers that never began, because the pool's threads were busy elsewhere."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(_: int) -> None:
        begun.release()
        go_on.wait(30)

    others = [threading.Thread(target=in_threads, args=(wait, range(n_threads()))) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(len(others) + min(n_threads(), 2 * (n_threads() - 1))):
            assert begun.acquire(timeout=30)
        large = np.zeros(2)
        gone = weakref.ref(large)
        in_threads(large.__getitem__, range(2))
        del large
        assert gone() is None
    finally:
        go_on.set()
        for other in others:
            other.join()


@given(st.integers(0, 300), st.integers(1, 50))
def test_slices_cover_everything_once(n: int, at_most: int) -> None:
    pieces = slices(n, at_most)
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(range(n))
    assert all(piece.stop - piece.start <= at_most for piece in pieces)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process")  # is multi-threaded: that is what is tested
def test_a_forked_child_has_its_own_threads() -> None:
    in_threads(str, range(4))
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it would wait for ever
        done: list[int] = []
        in_threads(done.append, range(4))
        os._exit(len(done))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
