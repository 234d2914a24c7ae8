"""The `polytope` command, which a Ctrl-C ends without a traceback however early it comes.

To load what the commands stand on takes a second, in which nothing is begun that would have to be ended in order.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType

from .statuses import INTERRUPTED


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: stopped\n")
    os._exit(INTERRUPTED)


def main() -> None:
    """Load the commands and run the one that was given."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as `nohup` and `&` have it
    if not ignored:
        signal.signal(signal.SIGINT, _end_at_once)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal of ASCII alone is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    from .commands import run

    if not ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        if not ignored:  # what is left is Python's own end
            signal.signal(signal.SIGINT, _end_at_once)


if __name__ == "__main__":
    main()
