"""What is run for each page and after each click."""

import sys

from app.explorer.main import main

main(sys.argv[1:])
