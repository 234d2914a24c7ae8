"""Processes that end when the one that started them does, however that ended.

A child's standard input is a pipe whose other end the parent alone holds: the kernel closes it when the parent ends,
by SIGKILL too. The child then ends as by SIGTERM, and if that takes longer than ``grace``, at once.

Modules are run with ``python -P``: the working directory, where a user may have an `app.py`, is not on the path.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from typing import Any

GRACE = 3.0
"""Seconds that a child has to end by itself."""


def start(module: str, *arguments: str, grace: float = GRACE, **options: Any) -> subprocess.Popen[bytes]:
    """Run a module as ``python -m`` does, in a child; ``options`` are those of `subprocess.Popen`."""
    line = [sys.executable, "-P", "-m", "app.child_process", str(grace), module, *arguments]
    return subprocess.Popen(line, stdin=subprocess.PIPE, **options)


def end(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a child: by SIGTERM, and by SIGKILL if it has not ended after ``grace`` seconds or a Ctrl-C."""
    process.terminate()
    try:
        process.wait(grace)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _end_with_parent(grace: float) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written: returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)


if __name__ == "__main__":
    _, seconds, *sys.argv = sys.argv
    threading.Thread(target=_end_with_parent, args=(float(seconds),), name="end with parent", daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
