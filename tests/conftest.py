"""What all tests stand on."""

import gc
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

from tests import checks

checks.install()

settings.register_profile("patient", deadline=None)  # a busy machine has no even pace
settings.load_profile("patient")

# A shell has what it runs in the background ignore Ctrl-C, and children inherit that: so tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)

ONE = {"tabs": "browser", "cluster": "store", "s3": "store"}
"""What a run has one of, since each costs seconds: by the fixture that starts it, which process has it. Ray's nodes
know the store."""

FIRST = ("app/cli/test_report.py", "atlas/clustering/test_hdbscan.py", "ingest/run/test_run.py")
"""Files that take longest, and share no atlas that the second to ask for it would wait for: where several processes
take a file each, none is left with one of them at the end."""


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups at the same time
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A process takes all tests that share something, else those of a file; what takes longest comes first."""
    first = {Path(__file__).parent / name: rank for rank, name in enumerate(FIRST)}
    ranks: dict[str, int] = dict.fromkeys(ONE.values(), -1)
    files: dict[Path, str] = {}
    groups = {}
    for item in items:
        file = files.setdefault(item.path, f"file{len(files)}")
        groups[item] = next((name for fixture, name in ONE.items() if fixture in item.fixturenames), file)
        item.add_marker(pytest.mark.xdist_group(groups[item]))
        ranks.setdefault(file, first.get(item.path, len(first)))
    items.sort(key=lambda item: ranks[groups[item]])


def pytest_collection_finish(session: pytest.Session) -> None:
    """A million objects of imported libraries stay. Streamlit collects garbage after each run of a page, and reading
    all of them took half a second each time."""
    gc.collect()
    gc.freeze()
    if session.config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist hands out tests without their groups: each process would build it all")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the three small networks, to read; copy it to write."""
    # Here, for the process that hands out the tests runs none, and the others wait until it has read this file.
    from tests.atlases import built_once, three_networks

    return built_once(tmp_path_factory, "three.atlas", three_networks)


@pytest.fixture(scope="session")
def segmented(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A function from a number to the same atlas, segmented, the sites of most examples in so many files each."""
    from ingest.sharing.convert import convert
    from tests.atlases import built_once

    def made(n: int) -> Path:
        return built_once(
            tmp_path_factory,
            f"three-{n}.atlas",
            lambda part: convert(built, part, segment_examples=-(-360 // n)) and None,
        )

    return made


@pytest.fixture(scope="session", params=["tables", "segments"])
def either(request: pytest.FixtureRequest, built: Path, segmented: Callable[[int], Path]) -> Path:
    """The atlas of the three small networks in either form, to read."""
    return built if request.param == "tables" else segmented(3)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket of a store on this machine; the environment says how it is reached."""
    pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")
    from tests import object_store

    for name, value in object_store.environment(object_store.endpoint()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLYTOPE_CACHE", str(tmp_path / "cache"))
    return object_store.new_bucket()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an architecture to a folder with a small language model of it."""
    from tests.models import tiny_models

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
