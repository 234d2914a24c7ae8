"""What ``streamlit run`` is given: ``streamlit run app/explorer/entry.py -- ATLAS``.

Streamlit sends its own scripts and letters as they are, 3 MB to a new browser; compressed they are a third of it.
"""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

app = st.App(Path(__file__).with_name("script.py"), middleware=[Middleware(GZipMiddleware, compresslevel=5)])
