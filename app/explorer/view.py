"""What a page is handed: the open atlas, what was chosen in the sidebar, and the means to ask and to show.

The atlas is opened for each run of the script and closed at its end (25 ms for the demo), so that a tab left open
never locks out an ingestion. Answers are kept between runs, by the file's time and size: after a publication all is
asked anew.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

import pandas as pd
import streamlit as st

from atlas import Atlas
from atlas.errors import PolytopeError
from atlas.store.catalog import NetworkRecord
from atlas.store.names import NAMES
from atlas.store.opening import changed_at

from . import jobs, networks
from .parts import markup, show

P = ParamSpec("P")
R = TypeVar("R")

KEPT_ANSWERS = "256MB"
"""Memory for answers of all sessions. Most are a page of rows; ten thousand rows of codes take 30 MB."""

LARGEST_KEPT = 32_000_000
"""Bytes of an answer that is kept among those: a larger one would drop everyone's."""

AT_ONCE = 0.3
"""Seconds that a page waits for a job before it shows progress: what is quicker appears without a flicker."""

LOOK_EVERY = 0.3
"""Seconds between two looks at a job that runs."""

UNEXPECTED = (
    "This page failed for a reason that it did not foresee. The terminal that `polytope app` runs in says which."
)
# Streamlit itself would show a heading "Traceback", even where it is told to show no details.

_log = logging.getLogger("polytope.explorer")


@dataclass(frozen=True)
class View:
    """The atlas, which network and target of it the sidebar names, and whether names and notes can be written."""

    atlas: Atlas
    network: NetworkRecord
    target: str
    read_only: bool = False

    @property
    def path(self) -> Path:
        return Path(self.atlas.address)

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
        try:
            return _answer(
                _stamp(self.path), _name(question), args, kwargs, lambda: question(self.atlas, *args, **kwargs)
            )
        except _TooLarge as large:
            return large.answer

    def work(
        self,
        label: str,
        question: Callable[..., R],
        *args: Any,
        live: bool = False,
        turns: jobs.Turns | None = None,
        tells_names: bool = True,
        **kwargs: Any,
    ) -> R | None:
        """The answer of a question that may take long, or None while it is being computed.

        It runs as a job (`app.explorer.jobs`), on an atlas of its own, handed ``progress`` if it takes that, and with
        ``live`` the network as ``reader``. ``turns`` says with which others it shares the machine: `jobs.LONG` where
        it is live, else `jobs.PAGE`. Until it has finished a progress bar with a button to stop it stands where this
        is called, and the page draws itself again when the answer is there. Answers are kept as those of `ask` are;
        without ``tells_names``, of a question whose answer holds no name of a cluster, also when somebody names one.

        Raises what the question raises.
        """
        turns = turns or (jobs.LONG if live else jobs.PAGE)
        stamp, name = _stamp(self.path, tells_names), _name(question)
        key = jobs.key_of(stamp, name, args, kwargs)
        try:
            return _answer(stamp, name, args, kwargs, _missing)
        except _Missing:
            pass
        place = f"{abs(hash(key)):x}"
        if st.session_state.get(f"stopped-{place}"):
            _stopped(label, place)
            return None
        use = networks.MINUTES if turns is jobs.LONG else networks.SECONDS
        network = partial(networks.held, use, self.network) if live else None
        session = _session()
        job = jobs.job(key, label, self.path, question, args, kwargs, session=session, network=network, turns=turns)
        job.watched_by(session)
        if job.wait(AT_ONCE):
            try:
                if job.error is not None:
                    raise job.error
                answer = _answer(stamp, name, args, kwargs, lambda: job.answer)
            except _TooLarge as large:  # the job has it for as long as someone looks
                return large.answer
            except BaseException:
                jobs.taken(key, job)
                raise
            jobs.taken(key, job)
            return answer
        _watch(job, place, session)
        return None

    def load_ahead(self) -> None:
        """Load the network in the background, with a line that says so until it is there: what is asked of it next
        need not wait for that."""
        loading = networks.ahead(self.network)
        if loading.ended.wait(AT_ONCE):
            return

        @st.fragment(run_every=LOOK_EVERY)
        def look() -> None:
            if loading.ended.is_set():
                st.rerun()
            share, line = loading.state()
            st.progress(share, text=markup.markdown(line))

        look()


def _name(question: Callable[..., Any]) -> str:
    return f"{question.__module__}.{question.__qualname__}"


def _stamp(path: Path, tells_names: bool = True) -> tuple[str, int, int, int]:
    """What changes when the database does, and, with ``tells_names``, when somebody names a cluster."""
    names = path / NAMES
    written = names.stat().st_size if tells_names and names.exists() else 0  # it only grows
    return str(path.resolve()), *changed_at(path), written


@st.cache_data(max_size=KEPT_ANSWERS, show_spinner=False)
def _answer(stamp: tuple[str, int, int, int], name: str, args: Any, kwargs: Any, _compute: Callable[[], Any]) -> Any:
    answer = _compute()
    packed = pickle.dumps(answer)
    if len(packed) > LARGEST_KEPT:
        raise _TooLarge(pickle.loads(packed))
    return answer


class _TooLarge(Exception):
    """An answer is not kept, for its size; a copy of it, as of one that is kept."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class _Missing(Exception):
    """An answer is not kept; raised instead of computing it."""


def _missing() -> Any:
    raise _Missing


# --- a job, from the page --------------------------------------------------------------------------------------


UNKNOWN_SHARE = '<progress style="width: 100%; accent-color: #0072b2" aria-label="being computed"></progress>'


def _watch(job: jobs.Job, place: str, session: str) -> None:
    """A progress bar and a button; the page draws itself again when the job ends."""

    @st.fragment(run_every=LOOK_EVERY)
    def look() -> None:
        if job.finished or st.session_state.get(f"stopped-{place}"):  # it may take a while to come to its end
            st.rerun()
        job.watched_by(session)
        share, line = job.state()
        with st.container(horizontal=True, vertical_alignment="center", key=f"job-{place}"):
            if share is None:  # an element without a value: the browser shows that something goes on
                st.html(f'<div class="pa">{markup.plain(line)}<br>{UNKNOWN_SHARE}</div>')
            else:
                st.progress(share, text=markup.markdown(line))
            st.button("Stop", key=f"stop-{place}", on_click=stop)

    @guarded
    def stop() -> None:
        st.session_state[f"stopped-{place}"] = True
        job.stop_for(session)

    look()
    if st.session_state.get(f"stopped-{place}"):
        st.rerun()


def _stopped(label: str, place: str) -> None:
    @guarded
    def again() -> None:
        del st.session_state[f"stopped-{place}"]

    with st.container(horizontal=True, vertical_alignment="center"):
        show.notes(f"{label}: stopped.")
        st.button("Start again", key=f"again-{place}", on_click=again)


def _session() -> str:
    """A word for the session of who looks at this page."""
    return str(st.session_state.setdefault("session", uuid4().hex))


# --- showing ---------------------------------------------------------------------------------------------------


@contextmanager
def explained() -> Iterator[None]:
    """Show an error that a user can cause as its own sentence, in place of what it kept from being shown."""
    try:
        yield
    except PolytopeError as error:
        show.error(error)


@contextmanager
def survived() -> Iterator[None]:
    """Show that something failed which nobody foresaw, a mistake of ours: its trace is for the log."""
    try:
        yield
    except Exception:  # whatever it is: no trace may reach the page, and the log has it whole
        _log.exception("A page failed")
        show.error(UNEXPECTED)


FAILED = "callback-failed"
"""Where a session keeps what its last callback failed of, for the run that follows to show."""


def guarded(callback: Callable[P, object]) -> Callable[P, None]:
    """A callback of a widget, of which an error is a sentence at the top of the page that is drawn after it."""

    @wraps(callback)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except PolytopeError as error:
            st.session_state[FAILED] = str(error)
        except Exception:  # as in `survived`: a sentence for the page, the whole trace for the log
            _log.exception("A callback failed")
            st.session_state[FAILED] = UNEXPECTED

    return run


def failed_before() -> None:
    """Show what the callback before this run failed of."""
    if (sentence := st.session_state.pop(FAILED, None)) is not None:
        show.error(sentence)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries, column name to value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def literal(value: str) -> str:
    """A string as SQL writes it. For SQL that is shown to be copied; what we run ourselves is bound."""
    return "'" + value.replace("'", "''") + "'"
