"""Arriving at an address within a session: by a link on a page (`app.explorer.browser`), or by Back or Forward.

Streamlit keeps the session then, so that nothing is loaded again. A page is to show what it shows when its address is
opened, though, and nothing that widgets of the same keys held on the page before.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx


def begin_anew() -> None:
    """Before the first widget: where this is an arrival, forget what the session held.

    Streamlit has taken out of the address by now what it took for the state of the page before, which is all that
    widgets of both pages are called alike for; it is put back, for widgets to begin with.
    """
    context = get_script_run_ctx()
    if context is None or not context.is_history_navigation:
        return
    asked = parse_qs(context.query_string, keep_blank_values=True)
    with context.session_state.query_params() as params:
        params.clear_with_no_forward_msg()
        params.remove_stale_bindings(frozenset())
        params.from_dict(asked)
        params.set_initial_query_params_from_current()
    for key in list(st.session_state):
        del st.session_state[key]


def begin_with(key: str, value: object) -> None:
    """Let the widget of that key, which is not there yet, hold a value, as if the address asked for it.

    At an arrival Streamlit follows the address alone.
    """
    st.session_state[key] = value
    context = get_script_run_ctx()
    if context is not None and context.is_history_navigation:
        with context.session_state.query_params() as params:
            params.set_with_no_forward_msg(key, str(value))
            params.set_initial_query_params_from_current()
