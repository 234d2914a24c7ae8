"""Tags that people put on examples, and views of the explorer that they saved: lines of the file that holds names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pandas as pd

from atlas import Atlas
from atlas.errors import UnknownName, UsageError
from atlas.store.names import SavedView, Tag, changing_names, read_tags, read_views

from ..clustering.names import checked_name
from .ids import checked_id

ADDRESS_LENGTH = 8_000
"""Characters of an address: more than browsers share."""


def tags(atlas: Atlas, *, tag: str | None = None) -> pd.DataFrame:
    """The tags that examples bear.

    Args:
        atlas: an open atlas.
        tag: only this one.

    Returns:
        A row a tag and example, by tag, then example: tag, example_id, tagged_at (UTC).
    """
    rows = sorted((name, example, at) for (name, example), at in read_tags(atlas.path).items() if tag in (None, name))
    frame = pd.DataFrame(rows, columns=["tag", "example_id", "tagged_at"])
    return frame.astype({"tag": "str", "example_id": "int64", "tagged_at": "datetime64[us]"})


def tag_examples(atlas: Atlas, tag: str, *, examples: Iterable[int], remove: bool = False) -> int:
    """Put a tag on examples, or take it off them, and say how many bear it now.

    Args:
        atlas: open for reading or for writing; tags are kept beside the database, and nobody's lock is in the way.
        tag: a short line, as the name of a cluster.
        examples: ids of stored examples.
        remove: take the tag off, in place of putting it on.

    Raises:
        UsageError: for a tag that is empty, too long, or holds control characters, and where no example is given.
        UnknownName: for an example that is not there.
    """
    words, ids = checked_name(tag), sorted({checked_id(example) for example in examples})
    if words is None:
        raise UsageError("the tag is empty; give a short line of text")
    if not ids:
        raise UsageError(f"no example is given to bear the tag {words}; give the id of one or more")
    known = atlas.columns(
        "select example_id from examples where example_id in (select unnest($1::uinteger[]))",
        [[example for example in ids if 0 <= example < 2**32]],
    )
    if len(missing := set(ids) - set(known["example_id"].tolist())):
        raise UnknownName(f"no example {min(missing)} in {atlas.address}")
    with changing_names(atlas.path) as append:
        append(Tag(words, tuple(ids), remove, _now()))
    return len(tags(atlas, tag=words))


def saved_views(atlas: Atlas) -> pd.DataFrame:
    """The views of the explorer that people saved, the newest first.

    Args:
        atlas: an open atlas.

    Returns:
        A row a view: name, address (of a page of the explorer, with its state), saved_at (UTC).
    """
    rows = [(view.view, view.address, view.saved_at) for view in read_views(atlas.path)]
    frame = pd.DataFrame(rows, columns=["name", "address", "saved_at"])
    return frame.astype({"name": "str", "address": "str", "saved_at": "datetime64[us]"})


def save_view(atlas: Atlas, name: str, *, address: str | None) -> None:
    """Save an address of the explorer under a name, in place of what bore it.

    Args:
        atlas: open for reading or for writing; views are kept beside the database.
        name: a short line.
        address: of a page, as ``atlas?network=…``; None to take the name away.

    Raises:
        UsageError: for a name that is empty, too long or holds control characters, and for what is no address of a
            page of the explorer.
    """
    words = checked_name(name)
    if words is None:
        raise UsageError("the name of a view is empty; give it a short line of text")
    if address is not None and (not address or len(address) > ADDRESS_LENGTH or not _is_page(address)):
        raise UsageError(
            f"a view is the address of a page of the explorer, as atlas?network=…, of at most {ADDRESS_LENGTH:,} "
            f"characters; got {address[:60]!r}"
        )
    with changing_names(atlas.path) as append:
        append(SavedView(words, address, _now()))


def _is_page(address: str) -> bool:
    """Whether an address leads to a page of the explorer and nowhere else."""
    page, _, state = address.partition("?")
    return page.isascii() and page.isalpha() and state.isprintable()


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()
