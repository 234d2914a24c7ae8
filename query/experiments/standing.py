"""The report as far as the atlas holds it: verdicts out of stored results, and what is still to be measured.

Nothing is computed here and no network is needed. `polytope report` measures what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from atlas import Atlas
from atlas.errors import PolytopeError, StoreError
from atlas.store.catalog import NetworkRecord

from ..progress import Progress, tell
from .archive import answered, load, shelf
from .page import command, page, word_of
from .registry import EXPERIMENTS, find
from .report import Block, Section, cluster_table, networks_of, sections, trained_networks
from .result import Result


class _Stored(Mapping[str, Result]):
    """The stored results of the report's sections on one network, by key; each is looked up when it is asked for."""

    def __init__(self, atlas: Atlas, network: NetworkRecord) -> None:
        self._atlas, self._network = atlas, network
        self._sections = {section.key: section for section in sections()}
        self._blocks: dict[str, Block] = {}
        self._results: dict[int, Result] = {}

    def block(self, section: Section) -> Block:
        if section.key not in self._blocks:
            self._blocks[section.key] = self._looked_up(section)
        return self._blocks[section.key]

    def _looked_up(self, section: Section) -> Block:
        experiment, network = find(section.experiment), self._network
        try:
            options = section.options(self._atlas, network, self)
        except StoreError:  # about the atlas, not about the claim
            raise
        except PolytopeError as error:
            return Block(section, network, None, str(error))
        number = answered(self._atlas, experiment, network.name, options)
        if number is None:
            line = command_for(self._atlas, experiment.name, network.name, options)
            return Block(section, network, None, f"not stored yet: {line}")
        if number not in self._results:
            self._results[number] = load(self._atlas, number)
        return Block(section, network, self._results[number], "", number)

    def __getitem__(self, key: str) -> Result:
        result = self.block(self._sections[key]).result
        if result is None:
            raise KeyError(key)
        return result

    def __iter__(self) -> Iterator[str]:
        return (key for key, section in self._sections.items() if self.block(section).result is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def stored_blocks(atlas: Atlas, network: str | None = None, *, progress: Progress | None = None) -> list[Block]:
    """Every section of the report on the network named, or on all that are trained, out of what is stored.

    One that is not stored has no result; its reason is the command that measures it, or why it can't be measured.
    Raises `UnknownName`.
    """
    wanted = [(section, record) for section in sections() for record in trained_networks(atlas, network)]
    stored: dict[str, _Stored] = {}
    blocks = []
    for done, (section, trained) in enumerate(wanted):
        tell(progress, done, len(wanted))
        for record in networks_of(atlas, section, trained):
            blocks.append(stored.setdefault(record.name, _Stored(atlas, record)).block(section))
    tell(progress, len(wanted), len(wanted))
    return blocks


def stored_verdicts(atlas: Atlas, network: str | None = None, *, progress: Progress | None = None) -> pd.DataFrame:
    """What `stored_blocks` comes to, a row a section and network.

    Columns: section (its key), claim, rule, network, weights (as given, or how it is untrained), verdict (supported,
    not supported, undecided, not measured, shown), because (what decided it, or why it is not measured),
    experiment_id (of the stored result; None where there is none).
    """
    rows = [
        {
            "section": block.section.key,
            "claim": block.section.claim,
            "rule": block.section.rule,
            "network": block.network.name,
            "weights": block.kind,
            "verdict": word_of(block),
            "because": block.verdict.because if block.verdict else block.reason,
            "experiment_id": block.experiment_id,
        }
        for block in stored_blocks(atlas, network, progress=progress)
    ]
    return pd.DataFrame(rows).astype({"experiment_id": "Int64"})


def stored_report(atlas: Atlas, network: str | None = None, *, progress: Progress | None = None) -> str:
    """The report's page as far as it is stored: HTML that needs no connection."""
    records = trained_networks(atlas, network)
    blocks = stored_blocks(atlas, network, progress=progress)
    facts = [f"{record.name}: {record.architecture}, weights {record.weights_digest[:12]}" for record in records]
    tables: dict[str, tuple[str, pd.DataFrame]] = {}
    for record in records:
        try:
            tables[record.name] = cluster_table(atlas, record)
        except StoreError:
            raise
        except PolytopeError as error:
            facts.append(f"Appendix E: {error}")
    return page(f"The polytope lens on {atlas.path.name}", facts, blocks, tables, str(atlas.path))


def unasked(atlas: Atlas, network: str) -> pd.DataFrame:
    """The experiments of which nothing current is stored for a network.

    Columns: kind, summary, needs (stored or live), options (a dictionary: what the report would ask with; None where
    the experiment can't be run so), reason (why not, else empty), command (that runs it, or says what it needs).
    """
    held = shelf(atlas, network)
    there = set(held[held["current"].astype(bool)]["kind"])
    stored = _Stored(atlas, atlas.catalog.network(network))
    rows = [_suggested(atlas, name, network, stored) for name in EXPERIMENTS if name not in there]
    return pd.DataFrame(rows, columns=["kind", "summary", "needs", "options", "reason", "command"])


def _suggested(atlas: Atlas, name: str, network: str, stored: _Stored) -> dict[str, Any]:
    experiment = EXPERIMENTS[name]
    row = {"kind": name, "summary": experiment.summary, "needs": experiment.needs}
    section = next((section for section in sections() if section.experiment == name), None)
    try:
        if section is not None:
            options = dict(section.options(atlas, atlas.catalog.network(network), stored))
        else:
            options = {"network": network} if "network" in experiment.options else {}
            experiment.asked(options)  # says what can't be left out
    except StoreError:
        raise
    except PolytopeError as error:
        return {**row, "options": None, "reason": str(error), "command": f"polytope experiment {name} --help"}
    return {**row, "options": options, "reason": "", "command": command_for(atlas, name, network, options)}


def command_for(atlas: Atlas, name: str, network: str, options: Mapping[str, Any]) -> str:
    """The command line that asks a question."""
    return command(Result(name, network, {}, {}, asked=dict(options)), network, str(atlas.path))
