"""What all tests stand on."""

import signal
from collections import Counter

import pytest

# A shell has what it runs in the background ignore Ctrl-C, and children inherit that: so tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, once a reason: the reason says how to have it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, times in reasons.most_common():
        terminalreporter.write_line(f"{times} test{'s' * (times > 1)} skipped: {reason}")
