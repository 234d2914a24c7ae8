"""What all tests stand on."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest

from tests import checks

checks.install()

from tests.atlases import built_once, three_networks  # noqa: E402
from tests.models import tiny_models  # noqa: E402

# A shell has what it runs in the background ignore Ctrl-C, and children inherit that: so tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the three small networks, to read; copy it to write."""
    return built_once(tmp_path_factory, "three.atlas", three_networks)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an architecture to a folder with a small language model of it."""
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For a test that gives wrong types on purpose: what callers are told, who run without these checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, once a reason: the reason says how to have it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, times in reasons.most_common():
        terminalreporter.write_line(f"{times} test{'s' * (times > 1)} skipped: {reason}")
