"""Work in another thread: in order, all of it or an error, and over when the block is left."""

import signal
import threading
from collections.abc import Iterator
from types import FrameType

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
    """An item ends only once the second after it is offered: two wait, and never a third."""
    n_items, waiting = 20, 2
    offered = [threading.Event() for _ in range(n_items + waiting)]
    finished: list[int] = []
    unfinished: list[int] = []

    def work_off(item: int) -> None:
        assert offered[item + waiting].wait(10)
        finished.append(item)

    with Background(work_off, waiting) as work:
        for item in range(n_items):
            offered[item].set()
            work.put(item)
            unfinished.append(item + 1 - len(finished))
        for event in offered:
            event.set()
    assert max(unfinished) == waiting and finished == list(range(n_items))


@pytest.mark.parametrize("n_items", [1, 30])
def test_a_failure_is_raised_as_it_was(n_items: int) -> None:
    def fail(item: int) -> None:
        raise OSError(28, f"No space left on device, item {item}")

    with pytest.raises(OSError, match="item 0") as caught, Background(fail) as work:
        for item in range(n_items):
            work.put(item)
    assert caught.value.errno == 28


def test_error_outside_ends_the_work() -> None:
    """What has begun comes to its end before the block is left; what has not never begins."""
    running, dropped = threading.Event(), threading.Event()
    ended: list[int] = []

    def work_off(item: int) -> None:
        running.set()
        assert dropped.wait(10)
        ended.append(item)

    with pytest.raises(ValueError, match="outside"), Background(work_off, waiting=5) as work:
        for item in range(5):
            work.put(item)
        assert running.wait(10)
        given = list(work._given)
        given[-1].add_done_callback(lambda _: dropped.set())
        raise ValueError("outside")
    assert ended == [0] and [future.cancelled() for future in given] == [False, True, True, True, True]


@pytest.fixture
def presses() -> Iterator[threading.Semaphore]:
    """Counts how often Ctrl-C reached the main thread."""
    arrived = threading.Semaphore(0)

    def press(number: int, frame: FrameType | None) -> None:
        arrived.release()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, press)
    yield arrived
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_for_begun_work(presses: threading.Semaphore) -> None:
    """Pressed once inside the block, and again while the block waits for what has begun."""
    ended: list[int] = []
    running, dropped = threading.Event(), threading.Event()

    def work_off(item: int) -> None:
        running.set()
        assert dropped.wait(10) and presses.acquire(timeout=10)
        # Pressed until it is seen: one that comes as the main thread begins to wait is seen only when that ends.
        while not presses.acquire(timeout=0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt), Background(work_off, waiting=3) as work:
        for item in range(3):
            work.put(item)
        assert running.wait(10)
        work._given[-1].add_done_callback(lambda _: dropped.set())
        signal.raise_signal(signal.SIGINT)
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
    second = threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            if item == 1:
                second.set()
            yield item

    coming = ahead(items())
    assert next(coming) == 0 and second.wait(10)
    coming.close()
    assert made == [0, 1]
