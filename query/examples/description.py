"""What a person wants to see of stored examples: label, token in its context, thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas
from atlas.errors import DamagedAtlas
from atlas.store.catalog import NetworkRecord

from .ids import places_of
from .kinds import EXAMPLES

KEPT_AFTER = 3
"""Questions about a network that SQL answers before what it shows of examples is kept in memory. SQL takes 2 ms for
ten examples; reading all of 100,000 takes 50 ms, and then any ten take 0.3 ms."""

KEPT_BYTES = 1 << 28
"""Most that is kept so of one network's examples: 256 MB, about a million tokens with their contexts. What would take
more is always asked in SQL."""

_SAMPLED = 1000  # examples that the size of all is estimated from


def describe(
    atlas: Atlas, network: NetworkRecord, examples: Sequence[int] | Int64[np.ndarray, " examples"]
) -> pd.DataFrame:
    """What a person wants to see of each example, a row each, in the order given.

    Columns: example_id, label, prediction, loss, then token, context, context_offset, input_id and position of a
    text, key, thumbnail and input_id of an image, or key, vector, thumbnail and input_id of a vector, which has a
    thumbnail where its shape is an image's; its ``key`` is its first in the dataset of the run that brought it.

    An atlas that is open for reading and asked again and again answers from memory (see `KEPT_AFTER`).
    """
    return pd.DataFrame(described(atlas, network, np.asarray(examples, dtype=np.int64)))


def described(atlas: Atlas, network: NetworkRecord, ids: Int64[np.ndarray, " examples"]) -> dict[str, Any]:
    """`describe` as arrays by name: a frame made of them at once takes less time than one that is added to."""
    columns = _kept(atlas, network) if pays(atlas, ("examples", network.network_id)) else None
    if columns is None:
        columns = _arrays(_shown(atlas, network, "example_id in (select unnest($1::uinteger[]))", ids.tolist()))
    known = columns["example_id"]
    held, places = places_of(ids, known)
    if not held.all():
        raise DamagedAtlas(
            f"{atlas.address} has codes of example {ids[~held][0]}, but not the example itself; `polytope verify` "
            "says what else is wrong"
        )
    return {name: column.take(places) for name, column in columns.items()}


def pays(atlas: Atlas, what: tuple[object, ...]) -> bool:
    """Whether an atlas open for reading has been asked for this often enough to read all of it."""
    return next(atlas.keep(("asked", *what), count)) >= KEPT_AFTER


def _kept(atlas: Atlas, network: NetworkRecord) -> dict[str, Any] | None:
    """What is shown of all examples of a network, in order of id; None where that is too much to keep."""

    def read() -> dict[str, Any] | None:
        number = network.network_id
        ids = atlas.frame("select example_id from examples where network_id = $1 order by 1", [number])["example_id"]
        sampled = ids.iloc[np.linspace(0, len(ids) - 1, min(_SAMPLED, len(ids))).astype(np.int64)].tolist()
        sample = _shown(atlas, network, "example_id in (select unnest($1::uinteger[]))", sampled)
        if sample.memory_usage(deep=True).sum() / len(sampled) * len(ids) > KEPT_BYTES:
            return None
        return _arrays(_shown(atlas, network, "network_id = $1", number))

    return atlas.keep(("examples", network.network_id), read)


def _arrays(frame: pd.DataFrame) -> dict[str, Any]:
    """The columns as NumPy arrays, texts as pandas's own, which are Arrow's."""
    arrays = {str(name): column.array for name, column in frame.items()}
    return {
        name: array.to_numpy() if isinstance(array, pd.arrays.NumpyExtensionArray) else array
        for name, array in arrays.items()
    }


def _shown(atlas: Atlas, network: NetworkRecord, which: str, value: object) -> pd.DataFrame:
    """example_id and what is shown of the examples that meet ``which``, a condition on $1, in order of id."""
    return atlas.frame(EXAMPLES[network.kind].described.format(which=which), [value])
