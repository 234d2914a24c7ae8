"""``streamlit run`` with the explorer loaded: whoever is given its address need not wait for that as well.

What the first page waits for is computed while the server starts and a browser asks for its scripts. The process of
the first query starts when the first page has been drawn.
"""

from __future__ import annotations

import sys
import threading

from streamlit.web.cli import main

from . import main as explorer
from . import sandbox

WARM_AFTER = 6.0
"""Seconds: a first page takes two to four, on all cores."""

if __name__ == "__main__":
    arguments = sys.argv[sys.argv.index("--") + 1 :]  # what the script is told
    threading.Thread(target=explorer.begin, args=(arguments,), name="first page", daemon=True).start()
    warming = threading.Timer(WARM_AFTER, sandbox.warm)
    warming.daemon = True
    warming.start()
    main(prog_name="streamlit")
