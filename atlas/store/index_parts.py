"""Which files a Hamming index is made of: one, or in a segmented atlas one for every part of the codes.

A part is all codes of some consecutive ids: those of one segment, or of several whose ids interleave. What is added
later has higher ids, so it makes parts of its own and leaves the others as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import HammingIndexError
from .versions import SegmentFile

INDEXES = "indexes"
"""The folder in an atlas, and in a segment."""


@dataclass(frozen=True)
class IndexPart:
    """``within``: the ids whose codes it holds, None for all; ``digest``: names these codes; ``is_built``: whether
    the file is there already; ``name``: what errors call it, where ``path`` is a copy of what lies at an address."""

    path: Path
    digest: str
    within: range | None = None
    is_built: bool = False
    name: str = ""

    @contextmanager
    def called(self) -> Iterator[None]:
        """What is wrong with the file is said of its name."""
        try:
            yield
        except HammingIndexError as error:
            if not self.name:
                raise
            raise type(error)(str(error).replace(str(self.path), self.name)) from None


def code_parts(files: Iterable[SegmentFile], site_ids: Sequence[int]) -> list[tuple[range, str]]:
    """Ids of every part of the codes of some sites together, in order, and what names the codes that it holds.

    A part in which one of the sites has no codes is left out.
    """
    parts: list[list[SegmentFile]] = []
    for file in sorted((file for file in files if file.site_id in site_ids), key=lambda file: file.first):
        if parts and file.first <= max(held.last for held in parts[-1]):
            parts[-1].append(file)
        else:
            parts.append([file])
    return [
        (range(part[0].first, max(file.last for file in part) + 1), _digest(part))
        for part in parts
        if {file.site_id for file in part} == {*site_ids}
    ]


def _digest(part: Iterable[SegmentFile]) -> str:
    return hashlib.sha256("\n".join(sorted(file.sha256 for file in part)).encode()).hexdigest()
