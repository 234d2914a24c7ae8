"""The public surface, and what importing it loads."""

import subprocess
import sys

import query


def test_exported_names():
    assert query.__all__ == [
        "class_density", "clusterings", "clusters", "density", "info", "members", "membership", "nearest",
        "nearest_many", "neighborhoods", "sql", "verify",
    ]  # fmt: skip
    assert all(callable(getattr(query, name)) for name in query.__all__)
    assert all(getattr(query, name).__doc__ for name in query.__all__)


HEAVY = ("torch", "streamlit", "hdbscan", "ingest", "app")


def test_import_loads_no_network():
    code = f"import query, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
