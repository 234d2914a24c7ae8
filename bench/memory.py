"""How much memory a process holds."""

from pathlib import Path


def anonymous_mb() -> float:
    """MB of this process that are no pages of a file: libraries and mapped codes apart."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024
