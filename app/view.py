"""What a page is handed: the open atlas, what was chosen in the sidebar, and the means to ask and to show.

The atlas is opened for each run of the script and closed at its end (25 ms for the demo), so that a tab left open
never locks out an ingestion. Answers are kept between runs, by the file's time and size: after a publication all is
asked anew.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import jobs, marked
from atlas import Atlas, Network
from atlas.catalog import NetworkRecord
from atlas.errors import PolytopeError
from atlas.store import DATABASE

P = ParamSpec("P")
R = TypeVar("R")

KEPT_ANSWERS = "256MB"
"""Memory for answers of all sessions. Most are a page of rows; ten thousand rows of codes take 30 MB."""

KEPT_NETWORKS = 2
"""Networks kept loaded for pages, and as many for jobs: a language and an image network."""

AT_ONCE = 0.5
"""Seconds that a page waits for a job before it shows progress: what is quicker appears without a flicker."""

LOOK_EVERY = 0.5
"""Seconds between two looks at a job that runs."""


@dataclass(frozen=True)
class View:
    """The atlas, which network and target of it the sidebar names, and whether names and notes can be written."""

    atlas: Atlas
    network: NetworkRecord
    target: str
    read_only: bool = False

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
        return _answer(
            _stamp(self.path), _name(question), args, kwargs, lambda: question(self.atlas, *args, **kwargs)
        )

    def work(self, label: str, question: Callable[..., R], *args: Any, live: bool = False, **kwargs: Any) -> R | None:
        """The answer of a question that may take long, or None while it is being computed.

        It runs as a job (`app.jobs`), on an atlas of its own, handed ``progress`` if it takes that, and with ``live``
        the network as ``reader``. Until it has finished a progress bar with a button to stop it stands where this is
        called, and the page draws itself again when the answer is there. Answers are kept as those of `ask` are.

        Raises what the question raises.
        """
        stamp, name = _stamp(self.path), _name(question)
        key = jobs.key_of(stamp, name, args, kwargs)
        try:
            return _answer(stamp, name, args, kwargs, _missing)
        except _Missing:
            pass
        place = f"{abs(hash(key)):x}"
        if st.session_state.get(f"stopped-{place}"):
            _stopped(label, place)
            return None
        network = partial(_held, "jobs", self.network) if live else None
        job = jobs.job(key, label, self.path, question, args, kwargs, network)
        session = _session()
        job.watched_by(session)
        if job.wait(AT_ONCE):
            jobs.taken(key, job)
            if job.error is not None:
                raise job.error
            return _answer(stamp, name, args, kwargs, lambda: job.answer)
        _watch(job, place, session)
        return None


def _name(question: Callable[..., Any]) -> str:
    return f"{question.__module__}.{question.__qualname__}"


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when the database does."""
    status = (path / DATABASE).stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


@st.cache_data(max_size=KEPT_ANSWERS, show_spinner=False)
def _answer(stamp: tuple[str, int, int], name: str, args: Any, kwargs: Any, _compute: Callable[[], Any]) -> Any:
    return _compute()


class _Missing(Exception):
    """An answer is not kept; raised instead of computing it."""


def _missing() -> Any:
    raise _Missing


# --- a job, from the page --------------------------------------------------------------------------------------


def _watch(job: jobs.Job, place: str, session: str) -> None:
    """A progress bar and a button; the page draws itself again when the job ends."""

    @st.fragment(run_every=LOOK_EVERY)
    def look() -> None:
        if job.finished or st.session_state.get(f"stopped-{place}"):  # it may take a while to come to its end
            st.rerun()
        job.watched_by(session)
        share, line = job.state()
        with st.container(horizontal=True, vertical_alignment="center", key=f"job-{place}"):
            st.progress(share or 0.0, text=marked.markdown(line))
            st.button("Stop", key=f"stop-{place}", on_click=stop)

    def stop() -> None:
        st.session_state[f"stopped-{place}"] = True
        job.stop_for(session)

    look()
    if st.session_state.get(f"stopped-{place}"):
        st.rerun()


def _stopped(label: str, place: str) -> None:
    def again() -> None:
        del st.session_state[f"stopped-{place}"]

    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(marked.notes([f"{label}: stopped."]))
        st.button("Start again", key=f"again-{place}", on_click=again)


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context is not None else ""


# --- networks --------------------------------------------------------------------------------------------------


_reading = {"pages": threading.Lock(), "jobs": threading.Lock()}
"""A network is shared by all sessions, and its hooks write to shared places: one caller reads at a time. Jobs, which
read for minutes, have networks of their own."""

_loading = threading.Lock()


@contextmanager
def live_network(network: NetworkRecord) -> Iterator[Network]:
    """The network that the atlas was made with, to read what was never ingested; one caller at a time.

    For what takes a second; what takes longer goes through `View.work`. Raises what `ingest.networks.reload_network`
    raises, `WeightsError` for other weights among it.
    """
    with st.spinner("Reading with the network…"), _held("pages", network) as loaded:
        yield loaded


@contextmanager
def _held(use: str, network: NetworkRecord) -> Iterator[Network]:
    with _loading:
        loaded = _load(use, network.name, network.weights_digest, network.source, network.weights, network)
    with _reading[use]:
        yield loaded


@st.cache_resource(max_entries=2 * KEPT_NETWORKS, show_spinner=False)
def _load(use: str, name: str, digest: str, source: str, weights: str, _network: NetworkRecord) -> Network:
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


_MODULES = re.compile(r"\b((?:ingest|query)(?:\.\w+)+)\.\w+\(")  # ingest.networks of ingest.networks.reload_network(


def source(view: View, call: str, sql: str | None = None) -> None:
    """A folded piece of Python, and of SQL where one query says the same, that gives the table above it."""
    with st.expander("Code for this"):
        packages = ", ".join(sorted({"atlas", "query", *_MODULES.findall(call)}))
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
