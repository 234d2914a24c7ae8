"""What `import ingest` offers, and that the import itself is light."""

import subprocess
import sys

import ingest


def test_every_public_name_resolves() -> None:
    assert sorted(name for name in ingest.__all__ if callable(getattr(ingest, name))) == ingest.__all__


def test_public_names_are_documented() -> None:
    assert [name for name in ingest.__all__ if not getattr(ingest, name).__doc__] == []


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(ingest, "no_such_name")


def test_import_loads_no_heavy_library() -> None:
    heavy = {"torch", "hdbscan", "sklearn", "numba", "streamlit", "transformers", "faiss"}
    code = f"import sys, ingest, ingest.progress; print(sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
