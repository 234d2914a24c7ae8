"""``streamlit run``, with the explorer's modules loading beside it: the first page need not wait for them."""

from __future__ import annotations

import threading
from importlib import import_module

from streamlit.web.cli import main

if __name__ == "__main__":
    threading.Thread(target=import_module, args=("app.explorer",), name="warming up", daemon=True).start()
    main(prog_name="streamlit")
