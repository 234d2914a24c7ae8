"""The untrained networks that stand beside a trained one, and the commands that ingest them."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from atlas import Atlas
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord
from ingest.networks.registry import LIVE, RECORDED, SAE, is_calibrated
from query.experiments.controls import CONTROLS


def controls_for(network: NetworkRecord) -> list[str]:
    """Weights of the untrained networks that stand beside one.

    Without batch norm the calibrated control is the raw one, so there is one of them (docs/SCIENCE.md, 4). Codes from
    elsewhere and sparse autoencoders have none.
    """
    if network.source == RECORDED or network.source.startswith(SAE):
        return []
    both = [control.weights for control in CONTROLS.values()]
    return both if is_calibrated(network) else both[:1]


def first_run(atlas: Atlas, network: NetworkRecord) -> tuple[str, dict[str, Any]] | None:
    """The source of the data that a network was first run on, and the plan of that run; None where it was on none."""
    rows = atlas.rows(
        """
        select source, plan from runs join datasets using (dataset_id)
        where network_id = $1
        order by run_id limit 1
        """,
        [network.network_id],
    )
    return (rows[0][0], json.loads(rows[0][1])) if rows else None


def adding_controls(atlas: Atlas, network: str) -> list[str]:
    """A line a control, over the same examples and sites as the network's first run, whose stored plan it repeats."""
    record = atlas.catalog.network(network)
    run = first_run(atlas, record)
    if run is None or record.source == LIVE:  # nothing says how to build that one again
        return []
    return [_line(atlas, record, weights, *run) for weights in controls_for(record)]


def _line(atlas: Atlas, record: NetworkRecord, weights: str, data: str, plan: dict[str, Any]) -> str:
    reading = plan["network"]["reading"]
    given = {
        "network": record.source,
        "weights": weights,
        **_reading(reading),
        "data": data,
        "limit": plan["limit"],
        **_sites(atlas, record, plan["sites"]),
        **_sampling(**plan["sampling"]),
        "batch-size": plan["batch_size"],
        "seed": plan["seed"],
    }
    words = ["polytope", "ingest", quote(atlas.address)]
    words += [f"--{name} {quote(str(value))}" for name, value in given.items() if value is not None]
    for option in ("prepend_bos", "transform_input"):
        if reading.get(option) is not None:
            words.append(f"--{'' if reading[option] else 'no-'}{option.replace('_', '-')}")
    words += [] if plan["store_activations"] else ["--no-store-activations"]
    words += ["--store-activations --bfloat16"] if plan.get("bfloat16") else []
    return " ".join([*words, "--skip-bad", "--no-cluster"])


READING = ("max_length", "image_size", "mean", "std", "inputs", "shape", "outputs", "sites_at")
"""What a network records of its reading that is an option of the command line with a value."""


def _reading(reading: dict[str, Any]) -> dict[str, Any]:
    """How inputs are fed to the network. Class names are left out: those of an untrained network mean nothing."""
    given = {name: reading.get(name) for name in READING}
    return {
        name.replace("_", "-"): _commas(value) if isinstance(value, list) else value for name, value in given.items()
    }


def _sites(atlas: Atlas, record: NetworkRecord, names: list[str]) -> dict[str, str | None]:
    """Which sites to read, where it is not all of them at one position."""
    chosen = [name for name in names if not name.endswith(FULL_SUFFIX)]
    full = [name.removesuffix(FULL_SUFFIX) for name in names if name.endswith(FULL_SUFFIX)]
    every = [site.name for site in atlas.catalog.sites_of(record) if site.scope == "position"]
    return {"sites": None if chosen == every else _commas(chosen), "full": _commas(full) or None}


def _sampling(
    per_sequence: int | None = None,
    skip_first: int | None = None,
    row: float | None = None,
    column: float | None = None,
) -> dict[str, Any]:
    """The tokens of a sequence that are read, or the place in an image; of a vector there is nothing to say."""
    return {
        "per-sequence": per_sequence,
        "skip-first": skip_first,
        "at": None if row is None else _commas([row, column]),
    }


def _commas(values: list[Any]) -> str:
    return ",".join(map(str, values))
