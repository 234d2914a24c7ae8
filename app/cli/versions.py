"""The two forms of an atlas, and the versions of a segmented one: `versions`, `vacuum` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from atlas.store.atlas import Atlas
from atlas.store.buckets import address_in

from ..plain_text import counted
from .options import Answer, AtlasPath, question
from .tables import say

commands = typer.Typer()

DAY = 86400.0


@commands.command(rich_help_panel="Versions")
@question
def versions(a: Atlas) -> Answer:
    """The versions of a segmented atlas: when and how each was made, and what it added."""
    rows, known = [], set[str]()
    for version in a.versions():
        added = [file for file in version.files if file.name not in known]
        known.update(file.name for file in added)
        rows.append(
            {
                "version": version.number,
                "made_at": version.made_at,
                "segments": len(version.segments),
                "bytes": version.size,
                "added_bytes": sum(file.size for file in added),
                "made_by": version.made_by,
            }
        )
    return Answer(pd.DataFrame(rows))


@commands.command(rich_help_panel="Versions")
def vacuum(
    atlas: AtlasPath,
    days: Annotated[float, typer.Option(help="Keep what was the newest version within so many days.")] = 7.0,
) -> None:
    """Remove old versions of a segmented atlas that nobody reads, and files that no version needs."""
    from atlas.store.vacuum import vacuum as remove

    from .progress import size

    removed = remove(atlas, grace=days * DAY)
    say(
        f"{counted(len(removed.versions), 'version')} and {counted(removed.files, 'file')}, {size(removed.bytes)}, "
        f"were removed from {address_in(atlas) or atlas}"
    )


@commands.command(rich_help_panel="Versions")
def convert(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="An atlas, of either form, or s3://….")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Folder or address of the new one.")],
) -> None:
    """Make a segmented atlas of one that keeps codes in tables, or the other way, and hold it against the digests."""
    from atlas.store.opening import is_segmented
    from ingest.sharing.convert import convert as make

    from .progress import TerminalProgress

    make(old, new, progress=TerminalProgress())
    form = "in segments" if is_segmented(new) else "in tables"
    say(f"{address_in(new) or new} holds what {address_in(old) or old} holds, with the same digests, {form}")
