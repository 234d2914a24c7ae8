"""Children forked from a process that has imported the project and its libraries: they start in milliseconds, where a
fresh Python takes seconds to import them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

IMPORTED = (
    "tests.forked",
    "tests.ingest.runs",
    "app.cli.ingest",
    "app.explorer.main",
    "faiss",
    "ingest.networks.gpt2",
    "ingest.networks.inceptionv1",
    "sklearn.cluster",
    "streamlit.web.bootstrap",
)


def children() -> Any:
    """The context whose processes are forked so."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    return context


@contextmanager
def running(module: str, *words: str, stderr: Path | None = None) -> Iterator[Any]:
    """A child that runs ``python -m module words`` in this process's environment, and has ended afterwards.

    What it prints is not kept, but for what goes to a file or pipe ``stderr``.
    """
    child = children().Process(target=_run, args=(module, words, dict(os.environ), stderr or os.devnull))
    child.start()
    try:
        yield child
    finally:
        child.kill()  # a server told to end would first see off who is connected; what it started ends with it
        child.join()


def _run(module: str, words: tuple[str, ...], environment: Mapping[str, str], stderr: Path | str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    for path, number, name in ((os.devnull, 1, "stdout"), (stderr, 2, "stderr")):
        descriptor = os.open(path, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
        # Anew: a stream that has begun as a file goes on as one, and would look for its place in a pipe.
        setattr(sys, name, open(number, "w", buffering=1, closefd=False))  # noqa: SIM115
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
