"""Exit statuses beside 0, and 1 for an error that the user can mend."""

INTERRUPTED = 130
"""Of a command stopped by Ctrl-C, as shells have it (128 + SIGINT)."""

UNFORESEEN = 70
"""Where the fault is ours, as sysexits.h has it (EX_SOFTWARE)."""
