"""Whether a server answers, asked before a library is that would wait for it without limit."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

PROBE_SECONDS = 8
"""How long a server may take to answer at all; ``huggingface_hub`` itself gives up on its first question in 10,
``datasets`` in 23."""


def why_unreachable(url: str) -> Exception | None:
    """Why the server of ``url`` does not answer, or None if it does, after `PROBE_SECONDS` at most."""
    failures: list[Exception] = [TimeoutError(f"no answer within {PROBE_SECONDS} s")]

    def probe() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                failures.clear()
        except urllib.error.HTTPError:  # an answer all the same; the download says what is wrong
            failures.clear()
        except OSError as error:
            failures[:] = [error]

    # In a thread: a name server that does not answer is not subject to the timeout.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return failures[0] if failures else None
