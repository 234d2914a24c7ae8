"""A clustering of many clusters: a page of them is sent at a time, and nothing that is not shown."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pandas as pd
import streamlit as st

from app.explorer.parts import cluster_list


def test_a_page_sends_shown_columns():
    """A page of the columns that are shown is sent."""
    found = pd.DataFrame(
        {
            "label": np.arange(250),
            "title": [f"a #{n}" for n in range(250)],
            "name": None,
            "note": "long",
            "size": 250 - np.arange(250),
            "persistence": 0.5,
            "purity": 1.0,
            "top_label": "a",
            "entropy": 0.0,
            "medoid": 1,
            "medoid_token": "x",
            "medoid_context": "y",
            "samples": [["a «b» c"]] * 250,
        }
    )
    with (
        patch.object(st, "session_state", {}),
        patch.object(st, "query_params", {}),
        patch.object(st, "pagination") as pages,
        patch.object(st, "dataframe") as sent,
    ):
        pages.side_effect = lambda n, key, bind: st.session_state.get(key, 1)
        rows = cluster_list._paged(len(found), 120, (3, 120))
        assert (rows.start, rows.stop) == (100, 200)  # those around the cluster that is chosen
        cluster_list._table(found.iloc[rows], 120, "key")
        assert st.session_state["key"]["selection"]["rows"] == [20]
        st.session_state["rows"] = 3
        assert cluster_list._paged(len(found), 120, (3, 120)) == slice(200, 250)  # turned by hand
        assert cluster_list._paged(len(found), 7, (3, 7)) == slice(0, 100)  # another is chosen
    [shown] = sent.call_args.args
    assert list(shown.columns) == ["title", "size", "purity", "top_label", "samples", "entropy", "persistence"]
    assert shown["title"].tolist() == [f"a #{n}" for n in range(100, 200)]
