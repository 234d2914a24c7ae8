"""Measures what a report shows, claim by claim, and writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import atlas as store
from atlas.errors import AtlasLocked, DataError, NetworkError, NotStored, UsageError
from atlas.network import Network
from atlas.store.catalog import NetworkRecord
from atlas.store.disk import disk_full
from query.experiments.archive import load, recall, save
from query.experiments.controls import TRAINED, kind_of
from query.experiments.page import page
from query.experiments.record import Experiment
from query.experiments.report import Block, chosen, trained_networks, verdicts, walk
from query.experiments.result import Result

from .networks import add_controls, reload, untrained
from .progress import TerminalProgress
from .tables import Format, emit, note, show


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
    chosen(only)  # refuses an unknown key before anything long begins
    with store.open(path) as a:
        networks = trained_networks(a, network)
    if controls:
        for record in networks:
            try:
                add_controls(path, record, device)
            except (NetworkError, DataError, UsageError) as error:  # data or weights that are gone
                note([f"no untrained control of {record.name} is added: {error}"])
    measuring = Measuring(device, live, fresh, quick)
    blocks = []
    for block in walk(lambda: store.open(path), networks, measuring.answer, only=only):
        if block.reason and (live or not block.experiment.live or block.failure):
            note([f"{block.claim.key} of {block.network.name}: {block.reason}"])
        try:
            measuring.store_waiting(path)
        except AtlasLocked as error:
            note([f"{block.claim.key} of {block.network.name} is not stored yet: {error}"])
        number = None if block.result is None else measuring.numbers.get(block.result)
        blocks.append(replace(block, experiment_id=number))
    with store.open(path) as a:
        text = page(a, networks, blocks)
    with disk_full(output):
        output.write_text(text, encoding="utf-8")
    table = verdicts(blocks)
    if as_json:
        emit(table.drop(columns="rule"), Format.JSON)
    else:
        show(table[["claim", "network", "verdict", "because"]], "verdicts, by the rules that the page states")
    note([f"wrote {output}"])
    measuring.store_waiting(path)
    return blocks


class Measuring:
    """Answers a claim out of the atlas, or by measuring; networks are loaded once, results stored at once.

    Where another process holds the atlas when a result is to be stored, the result waits in memory: the page has it,
    and it is stored with the next one, or at the end.
    """

    def __init__(self, device: str, live: bool, fresh: bool, quick: bool = False) -> None:
        self.device, self.live, self.fresh, self.quick = device, live, fresh, quick
        self.readers: dict[str, tuple[Network, dict[str, Network]]] = {}
        self.measured: dict[str, Result] = {}
        self.numbers: dict[Result, int] = {}

    def store_waiting(self, path: Path) -> None:
        """Store what is measured and not stored yet. Raises `AtlasLocked` while another process holds the atlas."""
        waiting = [result for result in self.measured.values() if result not in self.numbers]
        if waiting:
            with store.open(path, writable=True) as a:
                for result in waiting:
                    self.numbers[result] = save(a, result)

    def answer(
        self, a: store.Atlas, experiment: Experiment, network: NetworkRecord, options: dict[str, Any]
    ) -> tuple[Result, int | None]:
        """From memory, from the atlas, or measured now."""
        handed: dict[str, Any] = {}
        if experiment.live:
            if not self.live:
                raise NotStored("left out by --no-live")
            reader, controls = self._reader(a, network)
            handed = {"reader": reader} | ({"controls": controls} if experiment.controls else {})
        options = options | (dict(experiment.quick) if self.quick else {})
        question = repr((experiment.name, network.name, sorted(options.items())))
        if question not in self.measured:
            try:
                self.measured[question] = self._result(a, experiment, network.name, options, handed)
            except NotStored as error:
                if not handed.get("controls"):
                    raise
                # The trained network alone is half of the answer; where not even that can be had, this says so.
                alone = self._result(a, experiment, network.name, options, {"reader": handed["reader"]})
                remark = f"no untrained control stands beside it: {error}"
                new = alone not in self.numbers
                self.measured[question] = replace(alone, notes=(*alone.notes, remark)) if new else alone
        result = self.measured[question]
        return result, self.numbers.get(result)

    def _result(
        self, a: store.Atlas, experiment: Experiment, network: str, options: dict[str, Any], handed: dict[str, Any]
    ) -> Result:
        """The stored answer to a question, or a new one."""
        known = None if self.fresh else recall(a, experiment, network, options, handed.get("controls"))
        if known is not None:
            result = load(a, known)
            self.numbers[result] = known
            return result
        with TerminalProgress().step(f"{experiment.name} ({network})", unit="steps") as step:
            return experiment.run(a, **handed, **options, progress=step.update)

    def _reader(self, a: store.Atlas, network: NetworkRecord) -> tuple[Network, dict[str, Network]]:
        if network.name not in self.readers:
            reader = reload(a, network, None, self.device)
            controls = untrained(a, reader, self.device) if kind_of(network) == TRAINED else {}
            self.readers[network.name] = reader, controls
        return self.readers[network.name]
