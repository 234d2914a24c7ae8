"""Weights that were saved while a network was trained, as a series of networks."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from atlas.errors import UsageError


def find_checkpoints(pattern: str, prefix: str | None = None) -> list[tuple[str, Path]]:
    """Names and paths of the files or folders that a pattern matches, numbers in their names in order of size.

    Args:
        pattern: with ``*``, ``?``, ``[…]``, or ``**`` for folders within folders.
        prefix: put before every name, with a dash.

    Returns:
        Each is called by its file without the suffix; where several files have one name, by the folder they are in.

    Raises:
        UsageError: nothing matches, or two would have one name.
    """
    whole = Path(pattern).expanduser()
    paths = sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))), key=_in_order)
    if not paths:
        raise UsageError(
            f"--checkpoint-glob {pattern!r} matches no file; quote it, so that the shell leaves it alone"
        )
    names = [path.name if path.is_dir() else path.stem for path in paths]
    counts = Counter(names)
    names = [path.parent.name if counts[name] > 1 else name for name, path in zip(names, paths, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"--checkpoint-glob {pattern!r} matches several files that would be called {twice[0]}")
    return [(name if prefix is None else f"{prefix}-{name}", path) for name, path in zip(names, paths, strict=True)]


def _in_order(path: Path) -> list[str | int]:
    """step-900 before step-1000: texts and numbers by turns."""
    parts: list[str | int] = [*re.split(r"(\d+)", str(path))]
    parts[1::2] = [int(number) for number in parts[1::2]]
    return parts
