"""What ``streamlit run`` is given: ``streamlit run app/pages/entry.py -- ATLAS``.

It lies here, and not beside this folder, because Streamlit takes a folder called ``pages`` beside its script for the
pages of its older kind of app: until the script has run once, it would show these files in place of the explorer.
"""

import sys

from .main import main

main(sys.argv[1:])
