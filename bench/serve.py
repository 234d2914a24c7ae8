"""What does a question cost over HTTP beside the same question in process, and how long does the server bear load?

    python -m bench.serve [--size small|full]

`query.nearest` of codes of 3,072 gates, asked of an open atlas and of one that `polytope serve` holds in a process of
its own on this machine, in turns: the Python client, which has the very same table then, and bare JSON. Aimed at: 1.3
times the call in process and 3 ms. Then `RATE` requests a second, from threads that keep to a timetable: how many
were late, how long answers took, and what memory the server had before and after. Aimed at: 200 a second for a minute
on two cores, the clients on the same two, memory flat.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import itertools
import json
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

import atlas
import query
from app.child_process import end, start
from atlas.errors import ServerUnreachable
from bench.atlases import SITE, generated_atlas
from bench.data import clustered_codes
from bench.report import in_turns, ratio, show

N_BITS = 3072
K = 10
SIZES = {"small": (20_000, 60, 10.0), "full": (100_000, 200, 60.0)}
"""Codes, rounds of a comparison, seconds of load."""

RATE = 200
"""Requests a second."""

CLIENTS = 16
WARM = 100
STARTING = 120.0

ADDED = 3.0
"""Milliseconds that a question may take more than 1.3 times that in process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    n_codes, rounds, seconds = SIZES[parser.parse_args().size]
    codes = clustered_codes(n_codes, N_BITS, clusters=n_codes // 500, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = generated_atlas(Path(folder) / "bench.atlas", codes)
        with serving(path) as (process, port):
            with atlas.open(path) as here, atlas.connect(f"http://127.0.0.1:{port}") as there:
                show("query.nearest, 10 of all codes: ms", [compared(here, there, port, n_codes, rounds)])
            show(f"{RATE} requests a second", [load(process.pid, port, n_codes, seconds)])


@contextmanager
def serving(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of an atlas in a process of its own."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = start("app.cli.main", "serve", str(path), "--port", str(port), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + STARTING
        while True:
            try:
                atlas.connect(f"http://127.0.0.1:{port}").close()
                break
            except ServerUnreachable:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield process, port
    finally:
        end(process)


def body(example: int) -> bytes:
    return json.dumps({"example": example, "site": SITE, "k": K, "density": False}).encode()


def compared(here: Any, there: Any, port: int, n_codes: int, rounds: int) -> dict[str, float]:
    places = itertools.cycle((1 + np.random.default_rng(0).permutation(n_codes)).tolist())
    bare = HTTPConnection("127.0.0.1", port)

    def ask(a: Any) -> Any:
        return query.nearest(a, example=next(places), site=SITE, k=K, density=False)

    def plain() -> bytes:
        bare.request("POST", "/v1/bench/nearest", body(next(places)))
        return bare.getresponse().read()

    assert query.nearest(here, example=7, site=SITE).equals(query.nearest(there, example=7, site=SITE))
    for _ in range(WARM):
        ask(here), ask(there), plain()
    seconds = in_turns({"in process": lambda: ask(here), "client": lambda: ask(there), "JSON": plain}, rounds)
    bare.close()
    median = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    allowed = 1.3 * median["in process"] + ADDED
    return {f"{name} ms": value for name, value in median.items()} | {
        "allowed ms": allowed,
        "client/in process": ratio(seconds["client"], seconds["in process"]),
    }


def load(pid: int, port: int, n_codes: int, seconds: float) -> dict[str, float]:
    """Requests by a timetable; one is late when its answer is not there before the next of its client is due."""
    begun, took, failed, used = time.monotonic() + 0.5, [], [], cpu_seconds(pid)
    every = CLIENTS / RATE
    before = resident(pid)

    def client(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        generator = np.random.default_rng(number)
        for turn in range(int(seconds / every)):
            due = begun + number / RATE + turn * every
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("POST", "/v1/bench/nearest", body(int(generator.integers(1, n_codes + 1))))
            answer = connection.getresponse()
            answer.read()
            took.append(time.monotonic() - due)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    lasted = time.monotonic() - begun
    return {
        "seconds": lasted,
        "answered a second": len(took) / lasted,
        "failed": len(failed),
        "late": sum(one > every for one in took),
        "median ms": 1e3 * statistics.median(took),
        "99 % ms": 1e3 * float(np.quantile(took, 0.99)),
        "server's cores": (cpu_seconds(pid) - used) / lasted,
        "MB before": before / 1e6,
        "MB after": resident(pid) / 1e6,
    }


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Seconds that a process has computed (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
