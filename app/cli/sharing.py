"""Handing an atlas on: `push` and `pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.store.buckets import address_in

from .options import AtlasPath
from .tables import say

commands = typer.Typer()


@commands.command(rich_help_panel="Share")
def push(
    atlas: AtlasPath,
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="A folder or an address: s3://…, gs://…, hf://datasets/….")
    ],
    license: Annotated[str | None, typer.Option(help="Licence of the data, as the card is to state it.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the card. Default: the name of the atlas.")] = None,
    inputs: Annotated[
        bool,
        typer.Option(
            "--with-inputs/--without-inputs",
            help="Texts, images and vectors, or without them and what quotes them: keys, labels and hashes stay.",
        ),
    ] = True,
) -> None:
    """Write an atlas as a dataset of Parquet files, in Hugging Face's layout. Called again, it goes on."""
    from ingest.sharing.push import push as write

    from .progress import TerminalProgress, size

    pushed = write(atlas, destination, license=license, title=title, inputs=inputs, progress=TerminalProgress())
    say(
        f"{destination} holds {pushed.files} files, {size(pushed.bytes)}; {pushed.sent} of them, "
        f"{size(pushed.sent_bytes)}, were sent now"
    )


@commands.command(rich_help_panel="Share")
def pull(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The folder or address that was pushed to.")],
    atlas: AtlasPath,
    tables: Annotated[
        str | None, typer.Option(help="Only these, with what they rest on: codes,cluster_labels. Default: all.")
    ] = None,
    indexes: Annotated[bool, typer.Option("--indexes/--no-indexes", help="Build the Hamming indexes.")] = True,
) -> None:
    """Make an atlas from what was pushed, and hold it against the digests. Called again, it goes on."""
    from ingest.sharing.pull import pull as read

    from .progress import TerminalProgress, size

    wanted = None if tables is None else [name.strip() for name in tables.split(",")]
    pulled = read(source, atlas, tables=wanted, indexes=indexes, progress=TerminalProgress())
    say(
        f"{address_in(atlas) or atlas} holds {pulled.examples:,} examples, with the digests that were pushed; "
        f"{pulled.files} files, {size(pulled.bytes)}, were fetched now"
    )
