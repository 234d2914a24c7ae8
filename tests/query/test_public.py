"""The public surface, and what importing it loads."""

import subprocess
import sys

import query


def test_exported_names():
    assert query.__all__ == [
        "Subject",
        "class_density",
        "cluster_names",
        "cluster_path",
        "clusterings",
        "clusters",
        "density",
        "differing_gates",
        "fate",
        "gates_apart",
        "info",
        "layout_examples",
        "layout_points",
        "layouts",
        "member_counts",
        "member_flow",
        "members",
        "membership",
        "name_cluster",
        "near_clusters",
        "nearest",
        "nearest_many",
        "neighborhoods",
        "passage",
        "rasters",
        "sql",
        "subject",
        "unit",
        "units",
        "verify",
    ]
    assert all(callable(getattr(query, name)) for name in query.__all__)
    assert all(getattr(query, name).__doc__ for name in query.__all__)


HEAVY = ("torch", "streamlit", "hdbscan", "ingest", "app")


def test_import_loads_no_network():
    code = f"import query, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
