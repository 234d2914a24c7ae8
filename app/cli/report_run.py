"""Measures what a report shows, section by section, and writes the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import typer

import atlas as store
from atlas.errors import AtlasLocked, NotStored, PolytopeError, StoreError, UsageError
from atlas.network import Network
from atlas.store.atlas import disk_full
from atlas.store.catalog import NetworkRecord
from query.experiments.archive import load, recall, save
from query.experiments.controls import TRAINED, controls_of, kind_of
from query.experiments.page import page, verdicts_as_json, word_of
from query.experiments.registry import Experiment, find
from query.experiments.report import QUICK, Block, Section, cluster_table, networks_of, sections, trained_networks
from query.experiments.result import Result

from .experiment import CONTROLS, calibration, reload, untrained
from .progress import TerminalProgress
from .tables import note, show


def write_report(
    path: Path,
    output: Path,
    *,
    network: str | None = None,
    only: Sequence[str] | None = None,
    live: bool = True,
    controls: bool = True,
    quick: bool = False,
    fresh: bool = False,
    device: str = "auto",
    as_json: bool = False,
) -> list[Block]:
    """Measure what is not stored yet, write the page, print the verdicts; see `polytope report --help`."""
    wanted = _wanted(only)
    with store.open(path) as a:
        networks = trained_networks(a, network)
    if controls:
        for record in networks:
            add_controls(path, record, device)
    work = Work(path, device, live, fresh, quick)
    blocks = [block for section in wanted for record in networks for block in work.blocks(section, record)]
    facts = [f"{record.name}: {record.architecture}, weights {record.weights_digest[:12]}" for record in networks]
    text = page(f"The polytope lens on {path.name}", facts, blocks, _cluster_tables(path, networks), str(path))
    with disk_full(output):
        output.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(verdicts_as_json(blocks))
    else:
        _print(blocks)
    note([f"wrote {output}"])
    work.store_waiting()
    return blocks


class Work:
    """Measures section by section; networks are loaded once, results stored at once.

    Where another process holds the atlas when a result is to be stored, the result waits in memory: the page has it,
    and it is stored with the next one, or at the end.
    """

    def __init__(self, path: Path, device: str, live: bool, fresh: bool, quick: bool = False) -> None:
        self.path, self.device, self.live, self.fresh, self.quick = path, device, live, fresh, quick
        self.readers: dict[str, tuple[Network, dict[str, Network]]] = {}
        self.results: dict[str, dict[str, Result]] = {}
        self.measured: dict[str, Result] = {}
        self.numbers: dict[str, int] = {}

    def blocks(self, section: Section, network: NetworkRecord) -> list[Block]:
        """The section on the network, and on its controls where it is measured there too."""
        with store.open(self.path) as a:
            records = networks_of(a, section, network)
        return [self._block(section, record) for record in records]

    def store_waiting(self) -> None:
        """Store what is measured and not stored yet. Raises `AtlasLocked` while another process holds the atlas."""
        waiting = [question for question in self.measured if question not in self.numbers]
        if waiting:
            with store.open(self.path, writable=True) as a:
                for question in waiting:
                    self.numbers[question] = save(a, self.measured[question])

    def _block(self, section: Section, network: NetworkRecord) -> Block:
        if find(section.experiment).needs == "live" and not self.live:
            return Block(section, network, None, "left out by --no-live")
        try:
            question, result = self._result(section, network)
        except StoreError:  # about the atlas, not about the claim
            raise
        except PolytopeError as error:  # the sentence is the answer: what is missing, and how to add it
            note([f"{section.key} of {network.name}: {error}"])
            return Block(section, network, None, str(error))
        self.results.setdefault(network.name, {})[section.key] = result
        try:
            self.store_waiting()
        except AtlasLocked as error:
            note([f"{section.key} of {network.name} is not stored yet: {error}"])
        return Block(section, network, result, "", self.numbers.get(question))

    def _result(self, section: Section, network: NetworkRecord) -> tuple[str, Result]:
        """What identifies the measurement, and its result: from memory, from the atlas, or measured now."""
        experiment = find(section.experiment)
        handed: dict[str, Any] = {}
        if experiment.needs == "live":
            reader, controls = self._reader(network)
            handed = {"reader": reader} | ({"controls": controls} if experiment.takes_controls else {})
        with store.open(self.path) as a:
            options = section.options(a, network, self.results.get(network.name, {}))
            options |= QUICK.get(experiment.name, {}) if self.quick else {}
            question = repr((experiment.name, network.name, sorted(options.items())))
            if question not in self.measured:
                label = f"{section.key} ({network.name})"
                try:
                    self._answer(a, question, experiment, network.name, options, handed, label)
                except NotStored as error:
                    if not handed.get("controls"):
                        raise
                    # The trained network alone is half of the answer; where not even that can be had, this says so.
                    alone = f"no untrained control stands beside it: {error}"
                    self._answer(a, question, experiment, network.name, options, {"reader": reader}, label, alone)
        return question, self.measured[question]

    def _answer(
        self,
        a: store.Atlas,
        question: str,
        experiment: Experiment,
        network: str,
        options: dict[str, Any],
        handed: dict[str, Any],
        label: str,
        remark: str = "",
    ) -> None:
        """The stored answer to a question, or a new one, with ``remark`` among its notes."""
        known = None if self.fresh else recall(a, experiment, network, options, handed.get("controls"))
        if known is not None:
            self.measured[question], self.numbers[question] = load(a, known), known
            return
        with TerminalProgress().step(label, unit="steps") as step:
            found = experiment.run(a, **handed, **options, progress=step.update)
        self.measured[question] = replace(found, notes=(*found.notes, remark)) if remark else found

    def _reader(self, network: NetworkRecord) -> tuple[Network, dict[str, Network]]:
        if network.name not in self.readers:
            with store.open(self.path) as a:
                reader = reload(a, network, None, self.device)
                controls = untrained(a, reader, self.device) if kind_of(network) == TRAINED else {}
            self.readers[network.name] = reader, controls
        return self.readers[network.name]


def add_controls(path: Path, network: NetworkRecord, device: str) -> None:
    """Ingest the untrained controls that the atlas lacks, over the same inputs and sites as the network's first run.

    Without batch norm the calibrated control is the raw one, so such a network gets one (docs/SCIENCE.md, section 4).
    """
    if kind_of(network) != TRAINED:
        return
    from ingest.datasets.sources import open_dataset
    from ingest.networks import load_control
    from ingest.networks.registry import adapter_of
    from ingest.run.plan import Choices
    from ingest.run.run import ingest
    from ingest.run.sampling import ImageSampling, TokenSampling

    with store.open(path) as a:
        held = {record.weights for record in controls_of(a, network)}
        [(source, text)] = a.rows(
            "select source, plan from runs join datasets using (dataset_id) "
            "where network_id = $1 order by run_id limit 1",
            [network.network_id],
        )
    names = ("random", "random-raw") if adapter_of(network.source).calibrated else ("random",)
    missing = [CONTROLS[name] for name in names if CONTROLS[name] not in held]
    plan = json.loads(text)
    if not missing or not plan.get("sites"):
        return
    sampling = plan["sampling"]
    choices = Choices(
        sites=tuple(name for name in plan["sites"] if not name.endswith(":full")),
        full=tuple(name.removesuffix(":full") for name in plan["sites"] if name.endswith(":full")),
        limit=plan["limit"],
        seed=plan["seed"],
        batch_size=plan["batch_size"],
        skip_bad=True,
        store_activations=plan["store_activations"],
        tokens=TokenSampling(**sampling) if network.kind == "text" else TokenSampling(),
        view=ImageSampling(**sampling) if network.kind == "image" else ImageSampling(),
    )
    with store.open(path) as a:
        reader = reload(a, network, None, device)
        images = calibration(a, reader)
    dataset = open_dataset(source, kind=network.kind)
    for weights in missing:
        control = load_control(reader, weights, device, images if weights == CONTROLS["random"] else None)
        ingest(path, control, dataset, choices, cluster=False, progress=TerminalProgress())


def _wanted(only: Sequence[str] | None) -> list[Section]:
    known = sections()
    if only is None:
        return known
    unknown = sorted(set(only) - {section.key for section in known})
    if unknown or not only:
        raise UsageError(f"--only is {','.join(only)!r}; sections are {', '.join(section.key for section in known)}")
    return [section for section in known if section.key in only]


def _cluster_tables(path: Path, networks: Sequence[NetworkRecord]) -> dict[str, tuple[str, pd.DataFrame]]:
    tables = {}
    with store.open(path) as a:
        for record in networks:
            try:
                tables[record.name] = cluster_table(a, record)
            except PolytopeError as error:
                note([f"appendix E: {error}"])
    return tables


def _print(blocks: Sequence[Block]) -> None:
    show(
        pd.DataFrame(
            {
                "claim": [block.section.claim for block in blocks],
                "network": [block.network.name for block in blocks],
                "verdict": [word_of(block) for block in blocks],
                "because": [block.verdict.because if block.verdict else block.reason for block in blocks],
            }
        ),
        "verdicts, by the rules that the page states",
    )
