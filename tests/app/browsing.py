"""Looking at a page: a server of its own, waiting until it is drawn, a picture of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect

from app.serve import command

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

HOSTILE = '<script>document.title = "hacked"</script> **bold** [a](javascript:alert(1)) $x$ & <b>tag</b>'
"""What a data set may hold, and a page must show as these characters."""

STARTING = 60.0
"""Seconds: a page's first run imports faiss, DuckDB and scikit-learn."""

COMPUTING = 240_000.0
"""Milliseconds that a computation may take before a test gives up: its network is loaded first, which takes
seconds on an idle machine."""

expect.set_options(timeout=20_000)  # milliseconds: other tests may share the processor

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"


@contextmanager
def serving(atlas: Path, script: Path | None = None) -> Iterator[str]:
    """The address of a server that shows the atlas; ``script`` in place of the explorer."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = command(atlas, port=port, host="127.0.0.1", open_browser=False)
    if script is not None:
        line[line.index("run") + 1] = str(script)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers there."""
    deadline = time.monotonic() + STARTING
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def drawn(page: Page) -> None:
    """Wait until the script has run and every part of the page is there."""
    page.wait_for_selector("h1, .pa-error")
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector('[data-testid="stSkeleton"]', state="detached")


def answered(page: Page) -> None:
    """Wait until nothing on the page is being computed, however long that takes on a busy machine."""
    drawn(page)
    while page.locator('[class*="st-key-job-"]').count():
        page.wait_for_selector('[class*="st-key-job-"]', state="detached")
        drawn(page)


def photograph(page: Page, name: str) -> None:
    """What a person sees, for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
