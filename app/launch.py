"""``streamlit run`` with the explorer loaded: whoever is given its address need not wait for that as well.

The process of the first query starts when the first page has been drawn.
"""

from __future__ import annotations

import threading

from streamlit.web.cli import main

from app import explorer, sandbox  # noqa: F401 - the explorer, so that it is loaded

WARM_AFTER = 6.0
"""Seconds: a first page takes two to four, on all cores."""

if __name__ == "__main__":
    warming = threading.Timer(WARM_AFTER, sandbox.warm)
    warming.daemon = True
    warming.start()
    main(prog_name="streamlit")
