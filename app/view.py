"""What a page is handed: the open atlas, what was chosen in the sidebar, and the means to ask and to show.

The atlas is opened for each run of the script and closed at its end (25 ms for the demo), so that a tab left open
never locks out an ingestion. Answers are kept between runs, by the file's time and size: after a publication all is
asked anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd
import streamlit as st

from app import marked
from atlas import Atlas, Network
from atlas.catalog import NetworkRecord
from atlas.errors import PolytopeError
from atlas.store import DATABASE

P = ParamSpec("P")
R = TypeVar("R")

KEPT_ANSWERS = "256MB"
"""Memory for answers of all sessions. Most are a page of rows; ten thousand rows of codes take 30 MB."""

KEPT_NETWORKS = 2
"""Networks kept loaded. A laptop has room for a language model and an image network."""

_reading = threading.Lock()
"""A network is shared by all sessions, and its hooks write to shared places: one reads at a time."""


@dataclass(frozen=True)
class View:
    """The atlas, and which network and target of it the sidebar names."""

    atlas: Atlas
    network: NetworkRecord
    target: str

    @property
    def path(self) -> Path:
        return self.atlas.path

    @property
    def named(self) -> dict[str, Any]:
        """The target as an argument of a question: a site or a span."""
        return {"span" if "->" in self.target or "→" in self.target else "site": self.target}

    @property
    def state(self) -> dict[str, str]:
        """What a link to another page carries."""
        return {"network": self.network.name, "target": self.target}

    def ask(self, question: Callable[Concatenate[Atlas, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer of ``question(atlas, …)``, from an earlier run if the database has not changed since."""
        name = f"{question.__module__}.{question.__qualname__}"
        return _answer(_stamp(self.path), name, args, kwargs, lambda: question(self.atlas, *args, **kwargs))


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when the database does."""
    status = (path / DATABASE).stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


@st.cache_data(max_size=KEPT_ANSWERS, show_spinner=False)
def _answer(stamp: tuple[str, int, int], name: str, args: Any, kwargs: Any, _compute: Callable[[], Any]) -> Any:
    return _compute()


@contextmanager
def live_network(network: NetworkRecord) -> Iterator[Network]:
    """The network that the atlas was made with, to read what was never ingested; one caller at a time.

    Raises what `ingest.networks.reload_network` raises, `WeightsError` for other weights among it.
    """
    loaded = _loaded(network.name, network.weights_digest, network.source, network.weights, network)
    with _reading:
        yield loaded


@st.cache_resource(max_entries=KEPT_NETWORKS, show_spinner="Loading the network…")
def _loaded(name: str, digest: str, source: str, weights: str, _network: NetworkRecord) -> Network:
    from ingest.networks import reload_network  # torch takes seconds, and most pages never need it

    return reload_network(_network)


# --- showing ---------------------------------------------------------------------------------------------------


@contextmanager
def explained() -> Iterator[None]:
    """Show an error that a user can cause as its own sentence, in place of what it kept from being shown."""
    try:
        yield
    except PolytopeError as error:
        st.html(marked.error(str(error)))


def source(view: View, call: str, sql: str | None = None) -> None:
    """A folded piece of Python, and of SQL where one query says the same, that gives the table above it."""
    with st.expander("Code for this"):
        packages = "atlas, ingest.networks, query" if "ingest." in call else "atlas, query"
        st.code(f"import {packages}\n\nwith atlas.open({str(view.path)!r}) as a:\n    print({call})", "python")
        if sql is not None:
            st.code(sql, "sql")
            st.html(f'<div class="pa">{marked.link("sql", "Open in the SQL page", query=sql, **view.state)}</div>')


def call(function: str, *positional: object, **arguments: object) -> str:
    """A call of the query layer as Python; arguments that are None are left out."""
    given = [repr(value) for value in positional]
    given += [f"{name}={value!r}" for name, value in arguments.items() if value is not None]
    return f"query.{function}({', '.join(['a', *given])})"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries, column name to value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def literal(value: str) -> str:
    """A string as SQL writes it. For SQL that is shown to be copied; what we run ourselves is bound."""
    return "'" + value.replace("'", "''") + "'"
