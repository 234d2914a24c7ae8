"""The networks of an atlas, loaded again, and the untrained ones that stand beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atlas as store
from atlas import Atlas
from atlas.errors import NotStored
from atlas.network import Network
from atlas.store.catalog import NetworkRecord
from ingest.networks.registry import LIVE
from query.experiments.controls import CONTROLS, TRAINED, controls_of, kind_of

from ..controls import controls_for, first_run
from .progress import TerminalProgress

CALIBRATED = "random"
"""The control whose batch norms are calibrated on inputs; the other one's are not."""


def untrained(a: Atlas, reader: Network, device: str) -> dict[str, Network]:
    """Both untrained controls of a network (docs/SCIENCE.md section 4), by the name that experiments know them under.

    The calibrated one of a network with batch norm is calibrated on the inputs of the first run with it.
    """
    from ingest.networks import load_control

    return {
        name: load_control(reader, control.weights, device, calibration(a, reader) if name == CALIBRATED else None)
        for name, control in CONTROLS.items()
    }


def calibration(a: Atlas, reader: Network) -> Callable[[], Iterator[Any]] | None:
    """What calibrates the control of a network with batch norm: the inputs of the first run that read any with it."""
    from ingest.networks.registry import is_calibrated

    return _run_inputs(a, a.catalog.network(reader.info.name)) if is_calibrated(reader.info) else None


def _run_inputs(a: Atlas, network: NetworkRecord) -> Callable[[], Iterator[Any]]:
    from ingest.datasets.sources import open_dataset
    from ingest.run.plan import Choices
    from ingest.run.run import calibration_inputs

    run = first_run(a, network)
    if run is None:
        raise NotStored(f"network {network.name} was run on no data, so nothing calibrates its untrained control")
    source, plan = run
    choices = Choices(limit=plan.get("limit"), seed=plan.get("seed", 0))
    return lambda: calibration_inputs(open_dataset(source, kind=network.kind), choices)


def reload(a: Atlas, network: NetworkRecord, weights: str | None, device: str) -> Network:
    """The network that made the atlas, its weights checked; a calibrated control is calibrated as it was then."""
    from ingest.networks import reload_network
    from ingest.networks.registry import is_calibrated

    calibrated = (weights or network.weights).startswith("random:") and is_calibrated(network)
    inputs = _run_inputs(a, network) if calibrated else None
    return reload_network(network, weights=weights, device=device, calibration=inputs)


def add_controls(path: Path, network: NetworkRecord, device: str) -> None:
    """Ingest the untrained controls that the atlas lacks, over the same inputs and sites as the network's first run.

    Without batch norm the calibrated control is the raw one, so such a network gets one (docs/SCIENCE.md, section 4).
    """
    if kind_of(network) != TRAINED or network.source == LIVE:
        return
    from ingest.datasets.sources import open_dataset
    from ingest.networks import load_control
    from ingest.run.plan import planned_choices
    from ingest.run.run import ingest

    with store.open(path) as a:
        held = {record.weights for record in controls_of(a, network)}
        run = first_run(a, network)
    missing = [weights for weights in controls_for(network) if weights not in held]
    if run is None or not missing or not run[1].get("sites"):
        return
    source, plan = run
    with store.open(path) as a:
        reader = reload(a, network, None, device)
        images = calibration(a, reader)
    dataset = open_dataset(source, kind=network.kind)
    for weights in missing:
        control = load_control(reader, weights, device, images if weights == CONTROLS[CALIBRATED].weights else None)
        ingest(path, control, dataset, planned_choices(plan), cluster=False, progress=TerminalProgress())
