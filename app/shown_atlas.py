"""What the explorer is to show, as words of its command line: `polytope app` writes them, the explorer reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import UsageError

_READ_ONLY = "--read-only"


@dataclass(frozen=True)
class ShownAtlas:
    """An atlas; ``read_only``: names and notes are turned off."""

    path: Path
    read_only: bool = False

    def words(self) -> list[str]:
        """As they stand on the command line."""
        return [str(self.path), *([_READ_ONLY] if self.read_only else [])]

    @classmethod
    def of_words(cls, words: Sequence[str]) -> ShownAtlas:
        """Raises `UsageError` where the words name not one atlas."""
        paths = [word for word in words if word != _READ_ONLY]
        if len(paths) != 1:
            raise UsageError("name one atlas: `polytope app ATLAS`")
        return cls(Path(paths[0]), _READ_ONLY in words)
