"""What all tests stand on."""

import signal

# A shell has what it runs in the background ignore Ctrl-C, and children inherit that: so tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)
