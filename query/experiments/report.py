"""The report: one walk over the claims of the post, whose answers are looked up in the atlas or measured now.

`stored_blocks` looks them up: nothing is computed, and no network is needed. `polytope report` measures the others.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from atlas import Atlas
from atlas.errors import NotStored, PolytopeError, StoreError, UsageError
from atlas.store.catalog import NetworkRecord

from ..clustering.clusterings import clusterings
from ..clustering.clusters import clusters
from ..progress import Progress, tell
from .archive import load, recall, stored
from .claims import Before, Claim, Verdict
from .controls import TRAINED, controls_of, kind_of
from .record import Experiment
from .registry import EXPERIMENTS, claims, find
from .result import Result


@dataclass(frozen=True, eq=False)
class Block:
    """What came out of a claim on one network: a result, or the reason why there is none.

    ``options``: what it was asked with; None where it could not be asked. ``experiment_id``: where it is stored.
    ``failure``: what nobody foresaw, which kept it from being measured or judged.
    """

    experiment: Experiment
    claim: Claim
    network: NetworkRecord
    options: dict[str, Any] | None
    result: Result | None = None
    experiment_id: int | None = None
    reason: str = ""
    failure: Exception | None = None

    @cached_property
    def verdict(self) -> Verdict | None:
        return None if self.result is None or self.claim.judge is None else self.claim.judge(self.result)

    @property
    def word(self) -> str:
        """The verdict in words, or why there is none."""
        if self.result is None:
            return "not measured" if self.failure is None else "failed"
        return self.verdict.word if self.verdict is not None else "shown"

    @property
    def because(self) -> str:
        """What decided the verdict, or why there is no result."""
        return self.verdict.because if self.verdict is not None else self.reason

    @property
    def numbers(self) -> pd.DataFrame | None:
        """What is printed below the figure: what, value, low, high, n; None where there is no result."""
        if self.result is None or self.claim.shown is None:
            return None if self.verdict is None else self.verdict.numbers
        return self.claim.shown(self.result)

    @property
    def kind(self) -> str:
        """Whether the network is untrained, and how (docs/SCIENCE.md section 4)."""
        return kind_of(self.network)


Answer = Callable[[Atlas, Experiment, NetworkRecord, dict[str, Any]], tuple[Result, int | None]]
"""The result of an experiment on a network, asked with these options, and its id where it is stored. Raises
`PolytopeError` where there is none, and says why."""


def walk(
    opened: Callable[[], AbstractContextManager[Atlas]],
    networks: Sequence[NetworkRecord],
    answer: Answer,
    *,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Block]:
    """Every claim, or those of the keys ``only``, on every network and its controls, in the post's order.

    The atlas is opened for one claim at a time, and closed when its block is handed out. Raises `UsageError` for an
    unknown key.
    """
    wanted = chosen(only)
    with opened() as atlas:
        questions = [
            (experiment, claim, network)
            for experiment, claim in wanted
            for trained in networks
            for network in (trained, *(controls_of(atlas, trained) if claim.untrained else ()))
        ]
    results: dict[str, dict[str, Result]] = {}
    for done, (experiment, claim, network) in enumerate(questions):
        tell(progress, done, len(questions))
        earlier = results.setdefault(network.name, {})
        with opened() as atlas:
            block = _block(atlas, experiment, claim, network, earlier.get, answer)
        if block.result is not None:
            earlier[claim.key] = block.result
        yield block
    tell(progress, len(questions), len(questions))


def _block(
    atlas: Atlas, experiment: Experiment, claim: Claim, network: NetworkRecord, before: Before, answer: Answer
) -> Block:
    options = None
    try:
        options = claim.asking(atlas, network, before)
        result, number = answer(atlas, experiment, network, options)
        block = Block(experiment, claim, network, options, result, number)
        _ = block.verdict, block.numbers  # judged here, where what fails costs one section
    except StoreError:  # about the atlas, not about the claim
        raise
    except PolytopeError as error:  # the sentence is the answer: what is missing, and how to add it
        return Block(experiment, claim, network, options, reason=str(error))
    except Exception as error:  # a mistake of ours: it is told, and the other sections stand
        return Block(experiment, claim, network, options, reason=failed(error), failure=error)
    return block


def failed(error: Exception) -> str:
    """What to say of a failure that nobody foresaw."""
    return f"this failed through a mistake of polytope-atlas ({type(error).__name__}: {error})"


def chosen(only: Sequence[str] | None) -> list[tuple[Experiment, Claim]]:
    """All claims, or those of the keys given; `UsageError` for a key that no claim has."""
    every = claims()
    keys = [claim.key for _, claim in every]
    if only is not None and (not only or set(only) - set(keys)):
        raise UsageError(f"--only is {','.join(only)!r}; sections are {', '.join(keys)}")
    return [pair for pair in every if only is None or pair[1].key in only]


def trained_networks(atlas: Atlas, name: str | None = None) -> list[NetworkRecord]:
    """The networks that a report is about: the one named, or all that are no untrained controls."""
    if name is not None:
        return [atlas.catalog.network(name)]
    trained = [network for network in atlas.catalog.networks if kind_of(network) == TRAINED]
    return trained or [atlas.catalog.network(None)]


# --- out of what is stored ---------------------------------------------------------------------------------------


def stored_blocks(atlas: Atlas, network: str | None = None, *, progress: Progress | None = None) -> list[Block]:
    """Every claim on the network named, or on all that are trained, out of what is stored.

    One that is not stored has no result; its reason is the command that measures it, or why it can't be measured.
    Raises `UnknownName`.
    """
    return list(walk(lambda: nullcontext(atlas), trained_networks(atlas, network), _lookup(), progress=progress))


def _lookup() -> Answer:
    """Answers with what is stored; a result that several claims ask for is loaded once."""
    loaded: dict[int, Result] = {}

    def answer(
        atlas: Atlas, experiment: Experiment, network: NetworkRecord, options: dict[str, Any]
    ) -> tuple[Result, int | None]:
        number = recall(atlas, experiment, network.name, options, "any")
        if number is None:
            line = command(experiment.name, options, network.name, atlas.address)
            raise NotStored(f"not stored yet: {line}")
        if number not in loaded:
            loaded[number] = load(atlas, number)
        return loaded[number], number

    return answer


def stored_verdicts(atlas: Atlas, network: str | None = None, *, progress: Progress | None = None) -> pd.DataFrame:
    """What `stored_blocks` comes to, a row a claim and network; columns as `verdicts` has them."""
    return verdicts(stored_blocks(atlas, network, progress=progress))


def verdicts(blocks: Sequence[Block]) -> pd.DataFrame:
    """A row a block.

    Columns: section (the claim's key), claim, rule, network, weights (as given, or how it is untrained), verdict
    (supported, not supported, undecided, not measured, failed, shown), because (what decided it, or why it is not
    measured), experiment_id (of the stored result; None where there is none).
    """
    rows = [
        {
            "section": block.claim.key,
            "claim": block.claim.sentence,
            "rule": block.claim.rule,
            "network": block.network.name,
            "weights": block.kind,
            "verdict": block.word,
            "because": block.because,
            "experiment_id": block.experiment_id,
        }
        for block in blocks
    ]
    return pd.DataFrame(rows).astype({"experiment_id": "Int64"})


def not_stored(atlas: Atlas, network: str) -> pd.DataFrame:
    """The experiments of which nothing current is stored for a network.

    Columns: kind, summary, live, options (a dictionary: what the report would ask with; None where the experiment
    can't be run so), reason (why not, else empty), command (that runs it, or says what it needs).
    """
    held = stored(atlas, network=network)
    current = set(held[held["current"].astype(bool)]["kind"])
    record = atlas.catalog.network(network)
    every, answer = {claim.key: (experiment, claim) for experiment, claim in claims()}, _lookup()

    def before(key: str) -> Result | None:
        return _block(atlas, *every[key], record, before, answer).result

    rows = []
    for name in EXPERIMENTS:
        if name not in current:
            row = {"kind": name, "summary": EXPERIMENTS[name], "live": find(name).live}
            rows.append(row | _suggested(atlas, find(name), record, before))
    return pd.DataFrame(rows, columns=["kind", "summary", "live", "options", "reason", "command"])


def _suggested(atlas: Atlas, experiment: Experiment, network: NetworkRecord, before: Before) -> dict[str, Any]:
    """What the first claim of an experiment asks it with; without a claim, everything by default."""
    options = {"network": network.name}
    try:
        if experiment.claims:
            options = experiment.claims[0].asking(atlas, network, before)
        experiment.filled(options)  # says what can't be left out
    except StoreError:
        raise
    except PolytopeError as error:
        return {"options": None, "reason": str(error), "command": f"polytope experiment {experiment.name} --help"}
    line = command(experiment.name, options, network.name, atlas.address)
    return {"options": options, "reason": "", "command": line}


def cluster_table(atlas: Atlas, network: NetworkRecord, most: int = 12) -> tuple[str, pd.DataFrame]:
    """The largest clusters of codes, for a person to read: of the newest clustering of a span, else of a site.

    Raises `NotStored` where the network's codes were never clustered.
    """
    frame = clusterings(atlas)
    frame = frame[(frame["network"] == network.name) & (frame["space"] == "codes")]
    frame = frame.assign(span=frame["target"].str.contains("->")).sort_values(["span", "clustering_id"])
    if frame.empty:
        raise NotStored(f"no codes of network {network.name} are clustered; `polytope cluster` does it")
    newest = frame.iloc[-1]
    table = clusters(atlas, clustering=int(newest["clustering_id"]), samples=4).sort_values("size", ascending=False)
    shown = table.head(most)[["label", "size", "purity", "top_label", "samples"]]
    return f"clustering {newest['clustering_id']}: codes of {newest['target']}", shown


def command(kind: str, options: Mapping[str, Any], network: str, atlas: str) -> str:
    """The command line that asks an experiment with these options, where they say anything."""
    words = ["polytope", "experiment", kind, shlex.quote(atlas), "--network", shlex.quote(network)]
    for name, value in sorted(options.items()):
        if value is None or name in ("network", "controls"):
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words += [option, shlex.quote(text)]
    return " ".join([*words, *(["--controls"] if options.get("controls") else [])])
