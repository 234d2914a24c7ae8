"""Labels of examples, or their tokens: what a group of examples may be pure in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas
from atlas.errors import UsageError

LABELLINGS = ("label", "token")
"""What a group of examples may be pure in: the label of the input (class or source), or the token itself."""


def label_note(atlas: Atlas) -> str | None:
    """Whose labels an answer goes by, where datasets give an input several; None where none does."""
    [(n_inputs,)] = atlas.rows(
        """
        select count(*) from (
            select input_id from dataset_inputs where label is not null
            group by input_id having count(distinct label) > 1
        )
        """
    )
    if not n_inputs:
        return None
    inputs = "1 input has" if n_inputs == 1 else f"{n_inputs} inputs have"
    return (
        f"{inputs} another label in another dataset; the label here is the first that the network's input was given "
        "(table dataset_inputs has all)"
    )


@dataclass(frozen=True)
class Labels:
    """Labels of some examples: ``numbers[i]`` indexes ``names``, −1 where example i has none."""

    ids: Int64[np.ndarray, " examples"]
    numbers: Int64[np.ndarray, " examples"]
    names: tuple[str, ...]
    inputs: Int64[np.ndarray, " examples"]

    @property
    def n_unlabelled(self) -> int:
        return int((self.numbers < 0).sum())


def drawn(ids: Int64[np.ndarray, " examples"], most: int, seed: int) -> Int64[np.ndarray, " drawn"]:
    """At most ``most`` of the ids, drawn at random without replacement, in order."""
    if len(ids) <= most:
        return ids
    return np.sort(np.random.default_rng([seed, 101]).choice(ids, size=most, replace=False))


def labels_of(atlas: Atlas, ids: Int64[np.ndarray, " examples"], by: str = "label") -> Labels:
    """Labels of examples, or their tokens; `UsageError` where ``by`` is neither, or none of them has one."""
    if by not in LABELLINGS:
        raise UsageError(f"by is {by!r}; expected {' or '.join(LABELLINGS)}")
    frame = atlas.frame(
        """
        select example_id, label, token, input_id from examples
        where example_id in (select unnest($1::uinteger[])) order by example_id
        """,
        [ids.tolist()],
    ).set_index("example_id")
    values = frame.loc[ids, by]
    names = tuple(sorted(values.dropna().unique().tolist()))
    if not names:
        raise UsageError(f"none of the {len(ids)} examples has a {by}, so no group of them is pure or impure")
    numbers = pd.Categorical(values, categories=list(names)).codes.astype(np.int64)
    return Labels(ids, numbers, names, frame.loc[ids, "input_id"].to_numpy(np.int64))
