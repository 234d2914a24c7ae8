"""What a unit adds to what its network says: the logits with the unit as it is, less those with it at 0."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.network import Site
from atlas.tails import Tail

from ..examples.live import Live, inputs_of_examples, place_of
from ..progress import Progress, tell
from .activations import unit_values
from .ranking import highest_examples
from .units import asked_unit

OF_ONE_INPUT = 50
"""Of an input so many examples are looked at, for one of another input: positions of an image, tokens of a text."""


def unit_effects(
    atlas: Atlas,
    unit: int,
    *,
    reader: Network,
    site: str | None = None,
    network: str | None = None,
    k: int = 8,
    outputs: int = 5,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """What a unit adds to the logits, over the examples that activate it most.

    For an example with activation a, eₒ = fₒ(a) − fₒ(a with the unit at 0), less the mean of that over all outputs:
    a shift of all logits changes no probability. The channel of an image network is set at all positions.

    Args:
        atlas: an open atlas.
        unit: its number at the site, from 0.
        reader: the network, live.
        site: by default the one two thirds of the way up.
        network: its network; by default that of the reader.
        k: how many of the highest examples, each of another input.
        outputs: how many outputs that it raises most, and as many that it lowers most.
        progress: is told (examples done, examples in all).

    Returns:
        A row an output, the raised before the lowered: output (number), name (class or token), effect (mean over the
        examples), low and high (least and greatest of them), n (examples). ``frame.attrs``: examples (ids), remark
        (what is held fixed, and what is not exact).

    Raises:
        UsageError: for a unit that the site does not have or that is never above 0, and a network that can't be run
            onward from there.
        UnknownName: for a site that is not there.
        NotStored: where no activations are stored, or an example's whole activation neither is nor can be read.
    """
    place, number = asked_unit(atlas, unit, site, network or reader.info.name)
    live = Live(atlas, reader, place_of(reader, site=place.name))
    columns = entries_of(place, live.place.site, number)
    ids, values = unit_values(atlas, place, number)
    top = ids[highest_examples(values, OF_ONE_INPUT * whole("k", k))]
    chosen = top[np.sort(np.unique(inputs_of_examples(atlas, top), return_index=True)[1])][:k]
    if not len(chosen):
        raise UsageError(
            f"unit {number} of {place.name} is at or below 0 in all {len(ids)} examples: it adds nothing"
        )
    effects, names, remark = [], list[str](), ""
    for done, example in enumerate(chosen.tolist()):
        tell(progress, done, len(chosen))
        tail = live.tail(example)
        effects.append(_effect(tail, live.activations([example]), columns))
        names, remark = names or [tail.output_name(output) for output in range(tail.n_outputs)], tail.remark
    tell(progress, len(chosen), len(chosen))
    found = np.stack(effects)
    frame = pd.DataFrame(
        {
            "output": np.arange(found.shape[1]),
            "name": names,
            "effect": found.mean(axis=0),
            "low": found.min(axis=0),
            "high": found.max(axis=0),
            "n": len(found),
        }
    ).sort_values(["effect", "output"], ascending=[False, True], kind="stable", ignore_index=True)
    shown = min(whole("outputs", outputs), len(frame) // 2)
    frame = pd.concat([frame.head(shown), frame.tail(shown)], ignore_index=True)
    frame.attrs.update(examples=chosen.tolist(), remark=remark)
    return frame


def entries_of(unit_site: Site, space: Site, unit: int) -> Int64[np.ndarray, " entries"]:
    """Where a unit stands in the whole activation that the network is run on from: a channel at every position."""
    if unit_site.n_units == space.n_units:
        return np.array([unit])
    if unit_site.n_units != space.unit_shape[0]:
        raise UsageError(
            f"unit {unit} of {unit_site.name} is no channel of {space.name}, whose activation has the shape "
            f"{' x '.join(map(str, space.unit_shape))}; name a site whose units are channels"
        )
    return np.arange(space.n_units).reshape(space.unit_shape)[unit].ravel()


def _effect(
    tail: Tail, point: Float32[np.ndarray, "1 units"], columns: Int64[np.ndarray, " entries"]
) -> Float64[np.ndarray, " outputs"]:
    import torch

    without = point.copy()
    without[:, columns] = 0
    logits = tail.read(torch.from_numpy(np.concatenate([point, without])), []).logits.astype(np.float64)
    effect: Float64[np.ndarray, " outputs"] = logits[0] - logits[1]
    return effect - effect.mean()
