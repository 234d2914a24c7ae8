"""``streamlit run``, with the explorer's modules loading beside it, and then the process of the first query: no page
need wait for them."""

from __future__ import annotations

import threading

from streamlit.web.cli import main


def _warm_up() -> None:
    from app import explorer, sandbox  # noqa: F401 - the explorer, so that it is loaded

    sandbox.warm()


if __name__ == "__main__":
    threading.Thread(target=_warm_up, name="warming up", daemon=True).start()
    main(prog_name="streamlit")
