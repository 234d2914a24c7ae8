"""Compiled popcounts against NumPy, bit by bit."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.kernels import count_bits, hamming_block, in_threads, slices, words


@settings(deadline=None)  # the first call compiles
@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 40))))
def test_block_counts_the_bits_that_differ(packed: np.ndarray) -> None:
    bits = np.unpackbits(packed, axis=1)
    out = np.empty((len(packed), len(packed)), dtype=np.uint16)
    hamming_block(words(packed), words(packed), out)
    assert (out == (bits[:, None] != bits[None]).sum(axis=2)).all()


def test_words_of_rows_that_are_not_contiguous_are_the_same_bits() -> None:
    packed = np.arange(160, dtype=np.uint8).reshape(4, 40)
    assert (words(packed[::2, 3:35]) == words(packed[::2, 3:35].copy())).all()


@given(st.integers(0, 300), st.integers(1, 50))
def test_slices_cover_everything_once(n: int, at_most: int) -> None:
    covered = [i for piece in slices(n, at_most) for i in range(piece.start, piece.stop)]
    assert covered == list(range(n))
    assert all(piece.stop - piece.start <= at_most for piece in slices(n, at_most))


def test_a_failure_in_a_thread_reaches_the_caller() -> None:
    def fail(piece: int) -> None:
        if piece == 3:
            raise ValueError("piece 3")

    with pytest.raises(ValueError, match="piece 3"):
        in_threads(fail, range(6))


def test_threads_may_start_kernels_at_once() -> None:
    packed = np.random.default_rng(0).integers(0, 256, (200, 16), dtype=np.uint8)
    outs = [np.empty((200, 200), dtype=np.uint16) for _ in range(4)]

    def fill(out: np.ndarray) -> None:
        rows = words(packed)
        in_threads(lambda piece: hamming_block(rows[piece], rows, out[piece]), slices(200, 32))

    callers = [threading.Thread(target=fill, args=(out,)) for out in outs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((out == outs[0]).all() for out in outs) and outs[0].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import os, signal
from atlas.kernels import in_threads, share
in_threads(lambda piece: None, range(4))
child = os.fork()
if child == 0:
    signal.alarm(20)  # it would wait for ever
    done = []
    in_threads(done.append, range(4))
    share(done.append, 4)
    os._exit(len(done))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "8\n"


@settings(deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(0, 6), st.integers(1, 40))))
def test_bits_that_are_set_are_counted_in_each_row(packed: np.ndarray) -> None:
    counted = count_bits(words(packed))
    assert counted.dtype == np.uint32 and (counted == np.unpackbits(packed, axis=1).sum(axis=1)).all()
