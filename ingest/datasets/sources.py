"""Any source of inputs, by what a person types: a folder, a file, a builtin, a Hugging Face dataset.

`open_dataset` reads names, offsets or footers and no content; the `Dataset` it returns reads any range of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from weakref import finalize

from atlas.errors import BadInput, UsageError
from atlas.network import Kind
from atlas.store.bucket_data import brought
from atlas.store.buckets import address_in
from atlas.store.disk import let_go

from .base import MEGABYTES, Dataset, InputLimits, Request, suffix_of
from .folder import open_file, open_folder
from .huggingface import is_saved_dataset, open_hub, open_saved
from .kinds import SOURCES
from .tables import PARQUET

_ALSO_FILES = frozenset({".zip", ".gz", ".tar", ".html", ".xml", ".pdf", ".arrow", ".npz", ".py"})
"""No dataset of ours, but whoever types one means a file and not a dataset on the hub."""


def open_dataset(
    source: str,
    *,
    kind: Kind,
    text_column: str = "text",
    label_column: str | None = None,
    split: str = "train",
    name: str | None = None,
    vector_columns: Sequence[str] | None = None,
    max_input_mb: float | None = None,
    max_megapixels: float = 89.0,
    max_label: int = 1000,
) -> Dataset:
    """Open texts, images or vectors by what a person types.

    | source | items | labels |
    |---|---|---|
    | a folder | its ``.txt .md .rst .text`` files or its images, at any depth, by path | the first-level subfolder |
    | a folder of ``.parquet`` files, or one | rows | ``label_column``, by default ``label`` where it exists |
    | a ``.jsonl`` or ``.json`` file | lines, one object each (text only) | the same |
    | a ``.csv`` or ``.tsv`` file | lines, with a header or not (vectors only) | the same |
    | a ``.npy`` file | rows of the array (vectors only) | ``label_column``, by its place from 0 |
    | a text or an image | one | none |
    | ``builtin:python``, ``builtin:digits`` | all of it; ``-train``, ``-heldout``: that part | the builtin's own |
    | ``builtin:two-moons``, ``builtin:digits-vectors`` | scikit-learn's, as vectors; parts as above | the same |
    | a folder that ``save_to_disk`` wrote | rows of ``split`` | as for Parquet; classes by name |
    | ``s3://…``, ``gs://…``, ``az://…`` | what lies there, fetched into the cache; then as above | as above |
    | ``OWNER/NAME``, ``NAME``, ``NAME:CONFIGURATION`` | rows of ``split`` on the Hugging Face hub | the same |

    Whatever exists as a file or folder is taken for it, and what looks like a path is never looked for on the hub.

    Args:
        source: one of these.
        kind: what the network reads: ``text``, ``image`` or ``vector``.
        text_column: the column of a table that holds the texts; images are in its one column of images, or ``image``.
        label_column: the column of the labels; None: ``label``, where there is one.
        split: of a Hugging Face dataset.
        name: what the atlas calls it; None: derived from the source.
        vector_columns: the columns of a table that hold vectors, one with a list of numbers a row or several with a
            number a row; None: its one column of lists, or ``vector``, else all columns but that of the labels.
        max_input_mb: megabytes of an input that is read: a text as UTF-8, the file of an image, the numbers of a
            vector; None: 3 of a text, 64 of others. What is larger can't be used, as what can't be read.
        max_megapixels: of an image.
        max_label: characters of a label.

    Returns:
        A dataset whose items are read when they are asked for.

    Raises:
        BadInput: no such file, folder or dataset; a file that can't be read; a column that is not there.
        EmptyDataset: nothing to ingest, or only inputs of the other kind; the message counts what was found.
        HubUnavailable: a hub name, and no connection.
        StoreError: an address that can't be read.
        UsageError: an impossible argument, or the optional ``datasets`` is needed and not installed.
    """
    if kind not in SOURCES:
        raise UsageError(f"kind is {kind!r}; expected {' or '.join(map(repr, SOURCES))}")
    if not source.strip():
        raise UsageError("the source is empty; expected a file, a folder, builtin:NAME or a Hugging Face dataset")
    limits = InputLimits(MEGABYTES[kind] if max_input_mb is None else max_input_mb, max_megapixels, max_label)
    if not all(limit > 0 for limit in (limits.megabytes, limits.megapixels, limits.label_length)):
        raise UsageError("--max-input-mb, --max-megapixels and --max-label are more than 0")
    request = Request(source, kind, text_column, label_column, split, name, vector_columns, limits)
    if source.startswith("builtin:"):
        from .builtin import open_builtin  # its images need scikit-learn, its texts the whole standard library

        return open_builtin(request)
    address = address_in(source)
    if address is None:
        return _open(source, request)
    path, held = _brought(address)
    try:
        dataset = _open(str(path), request)
    except BaseException:
        let_go(held)
        raise
    finalize(dataset, let_go, held)
    return dataset


def _open(place: str, request: Request) -> Dataset:
    """What lies at a place; errors tell of the source as it was given."""
    source = request.source
    path, what = _look_up(place)
    if what == "folder" and is_saved_dataset(path):
        return open_saved(path, request, request.name or path.resolve().name)
    if what == "folder":
        return open_folder(path, request)
    if what == "file":
        return open_file(path, request)
    if what == "other":
        raise BadInput(f"{source} is a link that leads nowhere, or neither a regular file nor a folder")
    if _looks_like_path(source):
        raise BadInput(f"no such file or folder: {source} (seen from {Path.cwd()})")
    return open_hub(request)


def _brought(address: str) -> tuple[Path, Path | None]:
    try:
        return brought(address)
    except FileNotFoundError:
        raise BadInput(f"there is no object at or below {address}") from None


def _look_up(source: str) -> tuple[Path, Literal["folder", "file", "other", "nothing"]]:
    """What there is at a path."""
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            return path, "folder"
        if path.is_file():
            return path, "file"
        return path, "other" if path.exists() or path.is_symlink() else "nothing"
    except (OSError, RuntimeError) as error:  # no permission, a name too long, or the home of nobody
        raise BadInput(f"can't look at {source}: {getattr(error, 'strerror', None) or error}") from error


def _looks_like_path(source: str) -> bool:
    """Whether this is meant as a path. ``OWNER/NAME`` may be on the hub, unless there is a folder OWNER here."""
    suffix = suffix_of(source)
    suffixes = {PARQUET, *_ALSO_FILES}.union(*({*known.suffixes, *known.records} for known in SOURCES.values()))
    owner, slash, rest = source.partition("/")
    return (
        suffix in suffixes
        or source.startswith((".", "/", "~"))
        or "\\" in source
        or "/" in rest
        or (bool(slash) and (not rest or Path(owner).is_dir()))
    )
