"""What ``streamlit run`` is given: ``streamlit run app/explorer/entry.py -- ATLAS``."""

import sys

from app.explorer.main import main

main(sys.argv[1:])
