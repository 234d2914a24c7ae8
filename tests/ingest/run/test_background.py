"""Work in another thread: in order, all of it or an error, and over when the block is left."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ingest.run.background import Background, ahead


def test_items_are_done_in_order() -> None:
    """Items are worked off in order and all are done at the end."""
    done: list[int] = []
    with Background(done.append) as work:
        for item in range(50):
            work.put(item)
    assert done == list(range(50))


def test_work_goes_on_beside_the_next() -> None:
    """Each waits for the other: in one thread this would never end."""
    begun, next_is_made = threading.Event(), threading.Event()

    def work_off(item: int) -> None:
        begun.set()
        assert item or next_is_made.wait(10)

    with Background(work_off) as work:
        work.put(0)
        assert begun.wait(10)
        next_is_made.set()
        work.put(1)


def test_no_more_items_wait_than_are_allowed() -> None:
    unfinished, most = 0, 0

    def work_off(_: int) -> None:
        nonlocal unfinished
        time.sleep(0.001)
        unfinished -= 1

    with Background(work_off, waiting=2) as work:
        for item in range(20):
            work.put(item)
            unfinished += 1
            most = max(most, unfinished)
    assert most <= 3


@pytest.mark.parametrize("n_items", [1, 30])
def test_a_failure_is_raised_as_it_was(n_items: int) -> None:
    def fail(item: int) -> None:
        raise OSError(28, f"No space left on device, item {item}")

    with pytest.raises(OSError, match="item 0") as caught, Background(fail) as work:
        for item in range(n_items):
            work.put(item)
    assert caught.value.errno == 28


def test_error_outside_ends_the_work() -> None:
    """An error outside ends the work before the block is left."""
    running = threading.Event()
    ended = []

    def work_off(item: int) -> None:
        running.set()
        time.sleep(0.05)
        ended.append(item)

    with pytest.raises(ValueError, match="outside"), Background(work_off, waiting=5) as work:
        for item in range(5):
            work.put(item)
        running.wait(10)
        raise ValueError("outside")
    assert len(ended) in (1, 2)
    time.sleep(0.1)
    assert len(ended) in (1, 2), "something went on after the block"


def test_ctrl_c_waits_for_begun_work() -> None:
    """Ctrl c waits for what has begun however often it is pressed."""
    ended: list[int] = []
    running = threading.Event()

    def work_off(item: int) -> None:
        running.set()
        time.sleep(0.3)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt), Background(work_off, waiting=3) as work:
        for item in range(3):
            work.put(item)
        running.wait(10)
        for delay in (0.05, 0.1):
            threading.Timer(delay, os.kill, [os.getpid(), signal.SIGINT]).start()
        time.sleep(10)
    assert ended == [0]


def test_items_ahead_keep_their_order() -> None:
    """Items made ahead are the same and their error comes in its place."""

    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("after 4")

    got = []
    with pytest.raises(ValueError, match="after 4"):
        for item in ahead(items()):
            got.append(item)
    assert got == list(range(5))


def test_only_one_item_is_made_ahead() -> None:
    """Only one item is made ahead and none once it is closed."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    coming = ahead(items())
    assert next(coming) == 0
    coming.close()
    time.sleep(0.05)
    assert len(made) <= 2
