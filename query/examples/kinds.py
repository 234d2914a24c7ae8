"""What is shown of an example of each kind, and how a network reads one again or anew: a record a kind."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from atlas.errors import NotStored, UsageError
from atlas.network import ImageView, Kind, Network, TextNetwork, TokenWindow, VectorView, View

from .live_inputs import LiveInput, image_input, text_input, vector_input

SAMPLE_BEFORE, SAMPLE_AFTER = 40, 24
"""Characters shown either side of a sample's token: about a line."""

NUMBERS_SHOWN = 8
"""Numbers of a vector in a line: points of the plane and small embeddings whole, of others enough to know them by."""

Lacking = Callable[[int, str], NotStored]
"""The error for an example whose input is not kept, from its id and what is kept of it."""


@dataclass(frozen=True)
class ExampleKind:
    """What an example of a kind is to a person and to a network.

    ``shows``: the column of `describe` that names it in a word; ``medoid``: those that are shown of a medoid.
    ``described``: SQL for `describe`, of the examples that meet {which}. ``samples``: SQL for label and what `sample`
    makes a short string of, the $2 strongest members of each cluster of clustering $1. ``exported``: fields of a row
    in a file of a map, the one that its reader shows first, and ``export`` their columns out of `describe`.
    ``live``: the input that a question's arguments name, given (atlas, target, arguments, reader). ``view``: a stored
    input as the reader reads it, given (reader, example, row of inputs and examples, error for what is not kept).
    """

    shows: str
    medoid: tuple[str, ...]
    described: str
    samples: str
    sample: Callable[[Any], str]
    exported: tuple[pa.Field, ...]
    export: Callable[[pd.DataFrame], dict[str, Any]]
    live: Callable[[Any, Any, Any, Network | None], LiveInput]
    view: Callable[[Network, int, dict[str, Any], Lacking], View]


def numbers_in_words(vector: Sequence[float] | np.ndarray | None, most: int = NUMBERS_SHOWN) -> str:
    """The numbers of a vector in a line, the first of many: ``0.5, -1.25``. A dash where the atlas was handed on
    without them."""
    if vector is None or not np.ndim(vector):  # pandas has NaN for it
        return "–"
    numbers = ", ".join(f"{number:.4g}" for number in vector[:most])
    return numbers if len(vector) <= most else f"{numbers}, … ({len(vector)})"


def _in_context(row: Any) -> str:
    """A token among the characters around it, on one line, marked: ``the bank of the «river» was``."""
    end = row.context_offset + len(row.token)
    before = row.context[max(0, row.context_offset - SAMPLE_BEFORE) : row.context_offset]
    return f"{before}«{row.token}»{row.context[end : end + SAMPLE_AFTER]}".replace("\n", "⏎")


def _token_window(reader: Network, example: int, row: dict[str, Any], lacking: Lacking) -> TokenWindow:
    """The sequence that ingestion cut out of the text around the token."""
    if not isinstance(reader, TextNetwork):
        raise UsageError(f"network {reader.info.name} can't tokenise; a text needs a TextNetwork")
    if row["text"] is None:
        raise lacking(example, "no text of it is kept")
    ids, place = reader.tokenize(row["text"]).ids, int(row["position"])
    window = next((window for window in reader.windows(len(ids)) if place in window), None)
    if window is None:
        raise UsageError(
            f"example {example} is token {place} of its text, in which network {reader.info.name} finds {len(ids)}; "
            f"it tokenises otherwise than {row['owner']}"
        )
    return TokenWindow(ids[window.start : window.stop], np.array([place - window.start], dtype=np.int64))


def _image_view(reader: Network, example: int, row: dict[str, Any], lacking: Lacking) -> ImageView:
    if row["thumbnail"] is None:
        raise lacking(example, "no picture of it is kept")
    with Image.open(io.BytesIO(bytes(row["thumbnail"])), formats=("PNG", "JPEG")) as image:
        # Only what was small enough is kept pixel by pixel; the rest is scaled down, as JPEG.
        if image.format != "PNG" or image.size != (row["width"], row["height"]):
            raise lacking(example, f"of its {row['width']} x {row['height']} pixels only a thumbnail is kept")
        image.load()
        return ImageView(image)


def _vector_view(reader: Network, example: int, row: dict[str, Any], lacking: Lacking) -> VectorView:
    if row["vector"] is None:
        raise lacking(example, "no numbers of it are kept")
    return VectorView(np.array(row["vector"], dtype=np.float32))


def _pictures(described: pd.DataFrame) -> dict[str, Any]:
    pictures = zip(described["thumbnail"], described["key"], strict=True)
    return {
        "image": [
            {"bytes": None if pd.isna(data) else bytes(data), "path": None if pd.isna(key) else str(key)}
            for data, key in pictures
        ]
    }


_KEYED = """
with chosen as (
    select * from examples where {{which}}
),
keys as (
    select example_id, arg_min(key, ordinal) as key
    from chosen
    join runs using (run_id)
    join dataset_inputs using (dataset_id, input_id)
    group by example_id
)
select example_id, chosen.label, prediction, loss, key, {content}, input_id
from chosen
join inputs using (input_id)
left join keys using (example_id)
order by example_id
"""

_KEYED_SAMPLES = """
with keys as (
    select cluster_labels.label, cluster_labels.probability, example_id,
           arg_min(dataset_inputs.key, dataset_inputs.ordinal) as key, any_value(vector) as vector
    from cluster_labels
    join examples using (example_id)
    join runs using (run_id)
    join dataset_inputs using (dataset_id, input_id)
    join inputs using (input_id)
    where clustering_id = $1 and cluster_labels.label >= 0
    group by all
)
from keys
qualify row_number() over (partition by label order by probability desc, example_id) <= $2
order by label, probability desc, example_id
"""

_KEY = pa.field("key", pa.string())

EXAMPLES: dict[Kind, ExampleKind] = {
    "text": ExampleKind(
        shows="token",
        medoid=("token", "context"),
        described="""
            select example_id, label, prediction, loss, token, context, context_offset, input_id, position
            from examples
            where {which}
            order by example_id
            """,
        samples="""
            with distinct_ones as (
                select cluster as label, token, context, context_offset, max(probability) as strength,
                       min(example_id) as first
                from cluster_members
                where clustering_id = $1 and cluster >= 0
                group by all
            )
            from distinct_ones
            qualify row_number() over (partition by label order by strength desc, first) <= $2
            order by label, strength desc, first
            """,
        sample=_in_context,
        exported=(pa.field("text", pa.string()), pa.field("token", pa.string()), pa.field("position", pa.int32())),
        export=lambda described: {"text": described["context"]},
        live=lambda atlas, target, given, reader: text_input(target, given.text, given.token, reader),
        view=_token_window,
    ),
    "image": ExampleKind(
        shows="key",
        medoid=("key",),
        described=_KEYED.format(content="thumbnail"),
        samples=_KEYED_SAMPLES,
        sample=lambda row: str(row.key),
        exported=(pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), _KEY),
        export=_pictures,
        live=lambda atlas, target, given, reader: image_input(
            atlas, target, given.image, given.row, given.column, reader
        ),
        view=_image_view,
    ),
    "vector": ExampleKind(
        shows="key",
        medoid=("key", "vector"),
        described=_KEYED.format(content="vector, thumbnail"),
        samples=_KEYED_SAMPLES,
        sample=lambda row: numbers_in_words(row.vector),
        exported=(pa.field("text", pa.string()), _KEY),
        export=lambda described: {"text": [numbers_in_words(vector) for vector in described["vector"]]},
        live=lambda atlas, target, given, reader: vector_input(target, given.vector, reader),
        view=_vector_view,
    ),
}
