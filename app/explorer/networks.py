"""Networks that pages run: shared by all sessions, and loaded ahead by a page that is going to need one.

A language model takes seconds to load, most of them for the libraries that run it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from atlas import Network
from atlas.errors import PolytopeError
from atlas.store.catalog import NetworkRecord

from . import jobs

KEPT_NETWORKS = 2
"""Networks kept loaded for what takes seconds, and as many for what takes minutes: one for text, one for images."""

SECONDS, MINUTES = "seconds", "minutes"
"""What is run on a network. What takes seconds has networks of its own, so that it need not wait for the rest."""

STEPS = ("its libraries", "the network itself")
"""Of loading, in order. Of a small network the libraries take as long as all else."""

_reading: dict[tuple[str, str, str], threading.Lock] = {}
"""A network is shared by all sessions, and its hooks write to shared places: one caller reads at a time."""

_loading: dict[tuple[str, str], Loading] = {}
_finding = threading.Lock()


class Loading:
    """A network on its way into memory. ``ended`` is set once it is there, or can't be loaded: whoever asks it
    something is then told why."""

    def __init__(self, name: str) -> None:
        self.ended = threading.Event()
        self._name = name
        self._begun = time.monotonic()
        self._done = 0

    def state(self) -> tuple[float, str]:
        """Share of the steps that are done, and a line for people."""
        step = STEPS[min(self._done, len(STEPS) - 1)]
        return self._done / len(
            STEPS
        ), f"Loading network {self._name}: {step}, {time.monotonic() - self._begun:.0f} s"

    def run(self, network: NetworkRecord) -> None:
        from ingest.networks.registry import adapter_of

        try:
            assert adapter_of(network.source).module  # which imports them
            self._done = 1
            _load(SECONDS, network.name, network.weights_digest, network.source, network.weights, network)
            self._done = len(STEPS)
        except PolytopeError:
            pass  # `held` raises it again, where somebody asks
        finally:
            self.ended.set()


def ahead(network: NetworkRecord) -> Loading:
    """Begin to load a network for what takes seconds, unless somebody has."""
    with _finding:
        key = network.name, network.weights_digest
        if key not in _loading or _loading[key].ended.is_set():  # it may have made room for another since
            _loading[key] = Loading(network.name)
            threading.Thread(
                target=_loading[key].run, args=(network,), name=f"load {network.name}", daemon=True
            ).start()
        return _loading[key]


@contextmanager
def held(use: str, network: NetworkRecord, go_on: Callable[[], None]) -> Iterator[Network]:
    """A network for this caller alone; while it is waited for, what ``go_on`` raises ends that.

    Raises what `ingest.networks.reload_network` raises, `WeightsError` for other weights among it.
    """
    with _finding:
        lock = _reading.setdefault((use, network.name, network.weights_digest), threading.Lock())
    while not lock.acquire(timeout=jobs.INTERRUPT_EVERY):
        go_on()
    try:
        yield _load(use, network.name, network.weights_digest, network.source, network.weights, network)
    finally:
        lock.release()


@st.cache_resource(max_entries=2 * KEPT_NETWORKS, show_spinner=False)
def _load(use: str, name: str, digest: str, source: str, weights: str, _network: NetworkRecord) -> Network:
    from ingest.networks import reload_network  # torch takes seconds, and most pages never need it

    return reload_network(_network)
